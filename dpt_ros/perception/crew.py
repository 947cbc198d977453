"""
How threads share the networks' work on a CPU, and how many of them.

The threads of an operation wait for the last of them. On free cores two are nearly twice as fast
as one; where another process has one of the cores, they are slower than one. Images that go
through the networks together are therefore shared out, a thread for each share, so that nobody
waits before the end. Where they are fewer than the threads nobody knows beforehand what is
fastest, so it is tried now and then.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from time import perf_counter
from typing import TypeVar

import torch

FIRST, LAST = 8, 128  # runs from one trial to the next, twice as many after each that was in vain
BETTER = 0.9  # of the time: what is less of a gain may be chance
NEWEST = 0.3  # its share in what a run is said to take
UNEVEN = 4 / 3  # of an even share, the largest: three images for two threads gain, just so

Result = TypeVar('Result')


class Crew:
    """Shares images out, or chooses by the last runs how many threads run them together."""

    def __init__(self, threads: int):
        """Take up to `threads`; for all images them, half of them, a quarter, ..., or 1."""
        self._threads = threads
        self._sizes = [threads >> halvings for halvings in range(threads.bit_length())]
        self._kind: Hashable = None
        self._trials = Trials(self._sizes)
        self._helpers = ThreadPoolExecutor(max(1, threads - 1), 'crew')  # start when needed

    def run(self, work: Callable[[slice], Result], images: int, kind: Hashable) -> list[Result]:
        """
        Do some work on images: return what came of each share of them, in their order.

        The number of PyTorch's threads that ran all images last stays afterwards.

        :param work: called with each share, all of them at once, or with all images.
        :param kind: of work; only runs of one kind, one after the other, are compared, and while
            kinds alternate all threads are used.
        """
        largest = -(-images // self._threads)
        if self._threads > 1 and largest * self._threads <= UNEVEN * images:  # of one image never
            return self._run_apart(work, images)
        if kind != self._kind:
            self._kind, self._trials = kind, Trials(self._sizes)
        size = self._trials.size
        changed = torch.get_num_threads() != size
        if changed:
            torch.set_num_threads(size)
        started = perf_counter()
        result = work(slice(0, images))
        if not changed:  # else oneDNN had to prepare anew
            self._trials.tell((perf_counter() - started) / images)
        return [result]

    def _run_apart(self, work: Callable[[slice], Result], images: int) -> list[Result]:
        """Run shares at once, each in one thread."""
        shares, before = min(self._threads, images), torch.get_num_threads()
        edges = [images * share // shares for share in range(shares + 1)]
        mine, *others = (slice(*pair) for pair in pairwise(edges))
        futures = [self._helpers.submit(_run_alone, work, other) for other in others]
        try:
            results = [_run_alone(work, mine)]
        finally:
            wait(futures)  # whatever fails, nobody is at work on the images any more
            torch.set_num_threads(before)
        return results + [future.result() for future in futures]


def _run_alone(work: Callable[[slice], Result], share: slice) -> Result:
    """Do a share of the work in this thread alone; each has its number of PyTorch's threads."""
    torch.set_num_threads(1)
    return work(share)


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
