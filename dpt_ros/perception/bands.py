"""
Loops that Numba compiles for a CPU: whether there are any, and how threads share one.

They stand in `loops`, which is imported only where it is used: a GPU has no need of it, and Numba
(`native`) is optional and takes its time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
import math
import threading
from time import monotonic_ns
from types import ModuleType
from typing import Any

from dpt_ros.perception.openmp import parallel
import numpy as np
import torch
from torch import Tensor

Loop = Callable[..., None]

# Of the rows, what the threads take at first, then, and last. All loops around a network on two
# cores of a virtual machine, in turn in one process, medians: 3.78 to 4.08 ms; in halves 4.76, in
# 6 equal bands 4.12 to 4.19, in 24 of them 4.01 to 4.27; in one thread 7.84.
ROUNDS = 0.7, 0.2, 0.1

SLOTS, WORDS = 16, 256  # loops that are noted down at most, and numbers of 8 bytes for one of them


class _Here(threading.local):
    """Of each thread: the loops that are noted down."""

    def __init__(self) -> None:
        self.sheet = np.zeros((SLOTS, WORDS), np.int64)
        self.kept: list[tuple[str, list[Any]]] = []  # who asked for each, and what it is given
        self.waiting = False  # for the end of `at_once`
        self.stage = ''  # who asks


_here = _Here()


@contextmanager
def compiling_told(device: torch.device, tell: Callable[[str], Any]) -> Iterator[None]:
    """Tell, once, when a loop has to be compiled inside because no start before kept it."""
    if device.type != 'cpu' or _loops() is None:
        yield
        return
    from numba.core.event import install_listener, Listener

    class Once(Listener):
        told = False

        def on_start(self, _: object) -> None:
            if not self.told:
                self.told = True
                tell('compiling loops for this CPU: the first time it takes up to half a minute')

        def on_end(self, _: object) -> None:
            pass

    with install_listener('numba:compile', Once()):
        yield


def loops_for(tensor: Tensor) -> ModuleType | None:
    """Return the module of loops for data of this device, None where there is none."""
    return _loops() if tensor.is_cpu else None


@lru_cache(maxsize=1)
def _loops() -> ModuleType | None:
    try:
        from dpt_ros.perception import loops
    except ImportError:
        return None
    return loops


def in_bands(loop: Loop, rows: int, *arguments: Any, most: int | None = None) -> None:
    """
    Run a loop over rows, in the threads that PyTorch may use.

    :param loop: one that is `native.banded`, called with `arguments`, of which tensors become
        arrays that share their memory, or copies of what does not lie in it in order: so a loop
        is compiled for one kind of array, and none is to be written to.
    :param most: rows of the largest band; None: a few bands for each thread, for some loops have
        to look at rows beside a band, too.
    """
    if len(_here.kept) == SLOTS:
        catch_up()
    given = [_edges(rows, torch.get_num_threads(), most), *_arrays(arguments)]
    loop(_here.sheet, len(_here.kept), *given)
    _here.kept.append((_here.stage, given))
    if not _here.waiting:
        _run()


class at_once:  # as context managers are called
    """
    Run the loops that are asked for inside only at the end, one after the other.

    A short loop takes no longer than to ask for it, which is slower still after a loop, whose data
    took the place of Python in the cache. What one of them writes a later one may read, but
    whoever else is to read it has to `catch_up` before.

    Of what fails inside nothing is run.
    """

    def __init__(self, seconds: dict[str, float] | None = None):
        """Add to `seconds` what each loop takes at the end, for who was `asking`."""
        self._seconds = {} if seconds is None else seconds

    def __enter__(self) -> None:
        _here.waiting = True

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        _here.waiting = False
        if error is not None:
            _here.kept.clear()
        if not _here.kept:
            return
        stages, begun, seconds = [stage for stage, _ in _here.kept], monotonic_ns(), self._seconds
        for stage, ended in zip(stages, _run(), strict=True):
            seconds[stage] = seconds.get(stage, 0.0) + 1e-9 * (ended - begun)
            begun = ended


def asking(stage: str) -> None:
    """Tell who asks for the loops to come, see `at_once`."""
    _here.stage = stage


def catch_up() -> None:
    """Run now what waits for the end of `at_once`, for whoever is to read it before."""
    if _here.kept:
        _run()


def _run() -> list[int]:
    """Run what is noted down, and return when each was done, see `native.run`."""
    try:
        given = parallel(), torch.get_num_threads(), _here.sheet, len(_here.kept)
        return list(_native().run(*given).tolist())
    finally:
        _here.kept.clear()


@lru_cache(maxsize=1)
def _native() -> ModuleType:
    from dpt_ros.perception import native

    return native


@lru_cache(maxsize=256)
def _edges(rows: int, threads: int, most: int | None) -> np.ndarray:
    """
    Part rows into bands that threads take as they come to them: their edges, (N + 1,) int64.

    So all threads end together, however fast each of them is. Cores differ, even those of one
    kind, for other processes and, of a virtual machine, other guests keep a part of them busy.
    """
    if most is not None:
        bands = threads * max(1, -(-rows // (most * threads)))
        return np.arange(bands + 1) * rows // bands
    shares = [share / threads for share in ROUNDS for _ in range(threads)] if threads > 1 else [1]
    return np.unique([0, *(round(rows * end) for end in accumulate(shares))])


def one_by_one(*batches: Tensor) -> Iterator[tuple[np.ndarray, ...]]:
    """Take batches, (B, ...), apart: for each image arrays as `in_bands` makes them of tensors."""
    return zip(*_arrays(batches), strict=True)


def _arrays(arguments: Iterable[Any]) -> list[Any]:
    return [_in_order(one).numpy() if isinstance(one, Tensor) else one for one in arguments]


def _in_order(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous():
        return tensor
    catch_up()  # with what may write it, before it is copied
    return tensor.contiguous()


def room(spare: Tensor | None, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """
    Return memory for what a loop writes.

    :param spare: bytes that nobody needs any more, taken if they are as many; None: new ones.
    """
    if spare is None or spare.numel() != math.prod(shape) * dtype.itemsize:
        return torch.empty(shape, dtype=dtype)
    return spare.view(dtype).view(shape)
