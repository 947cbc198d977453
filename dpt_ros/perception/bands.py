"""
Loops that Numba compiles for a CPU: how, whether there are any, and how threads share one.

They stand in `loops`, which is imported only where it is used: a GPU has no need of it, and Numba
is optional and takes its time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
import math
from queue import SimpleQueue
import threading
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

LEAD = 0.15  # a thread asked for its band begins that much of it later than who asks
Loop = Callable[..., None]
Work = tuple[Loop, int, list[Any]]  # a loop, how many rows it has, what it gets
Answers = SimpleQueue[Exception | None]  # what went wrong in each band


class _Here(threading.local):
    """Of each thread."""

    waiting: list[Work] | None = None  # until `at_once` ends


_here = _Here()
# Threads that wait for bands. A ThreadPoolExecutor takes three times as long to wake one.
_helpers: list[threading.Thread] = []
_asked: SimpleQueue[tuple[list[Work], int, int, Answers]] = SimpleQueue()  # a band, of how many


def compiled(function: Any) -> Any:
    """
    Compile a function on its first call, or read it from the disk if that was done before.

    It runs without the interpreter's lock. Numbers are IEEE 754's, but for products and sums made
    at once.
    """
    from numba import njit

    options: dict[str, Any] = {'nogil': True, 'error_model': 'numpy', 'fastmath': {'contract'}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written to: compiled at each start
        return njit(**options)(function)


def loops_for(tensor: Tensor) -> ModuleType | None:
    """Return the module of loops for data of this device, None where there is none."""
    return _loops() if tensor.device.type == 'cpu' else None


@lru_cache(maxsize=1)
def _loops() -> ModuleType | None:
    try:
        from dpt_ros.perception import loops
    except ImportError:
        return None
    return loops


def in_bands(loop: Loop, rows: int, *arguments: Any) -> None:
    """
    Run a loop over rows, in as many threads as PyTorch may use.

    :param loop: called with the first and the last row (not included) of a band, and `arguments`,
        of which tensors become arrays that share their memory, or copies of what does not lie in
        it in order: so a loop is compiled for one kind of array, and none is to be written to.
    """
    work = loop, rows, _arrays(arguments)
    if _here.waiting is None:
        _share([work])
    else:
        _here.waiting.append(work)


@contextmanager
def at_once() -> Iterator[None]:
    """
    Run the loops that are asked for inside only at the end, one after the other in each band.

    To wake a thread takes as long as a short loop: so it is woken once for all. What one of them
    writes a later one may read as it lies there, in the rows of its own band; whoever else is to
    read it waits for the end.
    """
    _here.waiting = []
    try:
        yield
        catch_up()
    finally:
        _here.waiting = None


def catch_up() -> None:
    """Run now what waits for the end of `at_once`, for whoever is to read it before."""
    if _here.waiting:
        works, _here.waiting = _here.waiting, []
        _share(works)


def _share(works: list[Work]) -> None:
    bands = torch.get_num_threads()
    while len(_helpers) < bands - 1:
        helper = threading.Thread(target=_help, name=f'pixels_{len(_helpers)}', daemon=True)
        helper.start()
        _helpers.append(helper)
    answers: Answers = SimpleQueue()
    for band in range(1, bands):
        _asked.put((works, band, bands, answers))
    errors = [_run(works, 0, bands), *(answers.get() for _ in range(1, bands))]
    for error in errors:
        if error is not None:
            raise error


def _help() -> None:
    while True:
        works, band, bands, answers = _asked.get()
        answers.put(_run(works, band, bands))
        del works, answers  # arrays are not kept until the next frame


def _run(works: list[Work], band: int, bands: int) -> Exception | None:
    """Run loops over one band each, and return what went wrong."""
    start, end = (_edge(each, bands) for each in (band, band + 1))
    try:
        for loop, rows, given in works:
            first, last = int(rows * start), int(rows * end)
            if first < last:
                loop(first, last, *given)
    except Exception as error:
        return error
    return None


def _edge(band: int, bands: int) -> float:
    """Return where a band begins, 0 to 1; the first, run while others awake, is larger by LEAD."""
    return (band + LEAD) / (bands + LEAD) if band else 0.0


def alone(loop: Loop, rows: int, *arguments: Any) -> None:
    """Run a loop over rows in this thread: to wake another would take as long as a short one."""
    loop(0, rows, *_arrays(arguments))


def _arrays(arguments: Iterable[Any]) -> list[Any]:
    return [one.contiguous().numpy() if isinstance(one, Tensor) else one for one in arguments]


def room(spare: Tensor | None, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """
    Return memory for what a loop writes.

    :param spare: bytes that nobody needs any more, taken if they are as many; None: new ones.
    """
    if spare is None or spare.numel() != math.prod(shape) * dtype.itemsize:
        return torch.empty(shape, dtype=dtype)
    return spare.view(dtype).view(shape)
