"""Messages that were published and never came, told by the gaps in their numbers."""

from collections.abc import Mapping
from typing import Any

PUBLISHERS = 16  # of one topic that are told apart; more come and go on a long day


class Gaps:
    """The numbers of the messages that one subscription was given."""

    def __init__(self) -> None:
        """Begin with whatever comes first."""
        self._last: dict[bytes, int] = {}  # by publisher

    def __call__(self, info: Mapping[str, Any]) -> int:
        """
        Tell how many a publisher sent since its last message that came, which this one follows.

        They were lost on their way, or replaced in the middleware before anyone took them.

        :param info: `rclpy.subscription.MessageInfo`. Where the middleware neither numbers
            messages nor names their publishers, as older ones, the answer is 0.
        """
        number, publisher = info.get('publication_sequence_number'), info.get('publisher_gid')
        if number is None or publisher is None:
            return 0
        name = publisher['data']
        last = self._last.pop(name, number - 1)
        self._last[name] = max(last, number)
        if len(self._last) > PUBLISHERS:
            del self._last[next(iter(self._last))]  # the one longest silent
        return max(0, number - last - 1)
