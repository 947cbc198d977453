"""
How many threads run the networks on a CPU: all that may, or fewer where others keep cores busy.

The threads of an operation wait for the last of them. On free cores two are nearly twice as fast
as one; where another process has one of the cores, they are slower than one. Nobody knows
beforehand, so it is tried now and then.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

FIRST, LAST = 8, 128  # runs from one trial to the next, twice as many after each that was in vain
BETTER = 0.9  # of the time: what is less of a gain may be chance
NEWEST = 0.3  # its share in what a run is said to take


class Crew:
    """Chooses the number of PyTorch's threads for the next run by what the last ones took."""

    def __init__(self, threads: int):
        """Choose out of `threads`, half of them, a quarter of them, ..., 1."""
        self._sizes = [threads >> halvings for halvings in range(threads.bit_length())]
        self._kind: Hashable = None
        self._trials = Trials(self._sizes)

    @contextmanager
    def at_work(self, kind: Hashable, pieces: int = 1) -> Iterator[None]:
        """
        Run what is inside; the number stays as it is afterwards, for changing it costs time.

        :param kind: of work; only runs of one kind, one after the other, are compared, and while
            kinds alternate all threads are used.
        :param pieces: of work that are done at once; a run is measured by one of them.
        """
        if kind != self._kind:
            self._kind, self._trials = kind, Trials(self._sizes)
        changed = torch.get_num_threads() != self._trials.size
        if changed:
            torch.set_num_threads(self._trials.size)
        started = perf_counter()
        yield
        if not changed:  # else oneDNN had to prepare anew
            self._trials.tell((perf_counter() - started) / pieces)


class Trials:
    """What runs took with each number of threads, and which number is next."""

    def __init__(self, sizes: list[int]):
        """Begin with the first of `sizes`, the largest."""
        self.usual = self.size = sizes[0]  # `size` is another one during a trial
        self._sizes, self._smaller = sizes, False
        self._seconds = {sizes[0]: 0.0}  # of those tried; 0: not told yet
        self._pause = self._left = FIRST

    def tell(self, seconds: float) -> None:
        """Learn what a run with `size` threads took, and choose the next size."""
        on_trial = self.size != self.usual
        before = seconds if on_trial else self._seconds[self.usual] or seconds
        self._seconds[self.size] = before + NEWEST * (seconds - before)
        best = min(self._seconds, key=self._seconds.__getitem__)
        if self._seconds[best] < BETTER * self._seconds[self.usual]:
            self.usual, self._pause, self._left = best, FIRST, FIRST
        elif on_trial:
            self._pause = self._left = min(2 * self._pause, LAST)
        else:
            self._left -= 1
        self.size = self.usual if self._left > 0 else self._next_trial()

    def _next_trial(self) -> int:
        """Return a number next to the usual one, the smaller and the larger one in turn."""
        place = self._sizes.index(self.usual)
        beside = [self._sizes[i] for i in (place - 1, place + 1) if 0 <= i < len(self._sizes)]
        self._smaller = not self._smaller
        return (min if self._smaller else max)(beside, default=self.usual)
