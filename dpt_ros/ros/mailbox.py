"""Hand-over of the newest frame of each camera; nobody gets old ones."""  # noqa: A005

from collections import Counter
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Mailbox(Generic[Item]):
    """One slot a source; a new item replaces the one nobody took."""

    def __init__(self) -> None:
        """Start open and empty."""
        self._newest: dict[str, Item] = {}
        self._changed = Condition()
        self._open = True
        self.arrived: Counter[str] = Counter()  # items put, by source
        self.dropped: Counter[str] = Counter()  # of these, replaced before anyone took them

    def put(self, source: str, item: Item) -> None:
        """Leave an item; never blocks on whoever takes."""
        with self._changed:
            self.arrived[source] += 1
            self.dropped[source] += source in self._newest
            self._newest[source] = item
            self._changed.notify()

    def take(self) -> dict[str, Item] | None:
        """Wait, then return the newest item of every source that has one; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or not self._open)
            if not self._open:
                return None
            items, self._newest = self._newest, {}
            return items

    def close(self) -> None:
        """End every wait; what lies here is dropped."""
        with self._changed:
            self.dropped.update(self._newest.keys())
            self._newest.clear()
            self._open = False
            self._changed.notify_all()
