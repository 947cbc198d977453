"""
Loops that Numba compiles for a CPU: how, whether there are any, and how threads share one.

They stand in `loops`, which is imported only where it is used: a GPU has no need of it, and Numba
is optional and takes its time.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
import math
import threading
from time import perf_counter
from types import ModuleType
from typing import Any

from dpt_ros.perception.openmp import in_parallel
import numpy as np
import torch
from torch import Tensor

Loop = Callable[..., None]
Work = tuple[Loop, int, int, list[Any]]  # a loop, its rows, its margin, what it gets


# By the number of bands and the names of the loops that run in them: the share of the rows of each
# band. Cores differ, even those of one kind, for others keep a part of them busy. On two of a
# virtual machine, of the time with bands of equal width, in turn in one process: beside one that
# takes half of one core the network 0.96, all around it 0.90; beside one that takes all of a core
# 0.94 and 0.89; on free cores 0.99 and 1.00.
_shares: dict[object, list[float]] = {}
_STEP = 0.1  # how far they go, each time, to what was measured
_LEAST = 2e-4  # seconds; what takes less tells nothing


class _Here(threading.local):
    """Of each thread."""

    waiting: list[Work] | None = None  # until `at_once` ends


_here = _Here()


def compiled(function: Any, liberties: Collection[str] = ('contract',), **more: Any) -> Any:
    """
    Compile a function on its first call, or read it from the disk if that was done before.

    It runs without the interpreter's lock.

    :param liberties: that numbers take from IEEE 754, as LLVM calls them: products and sums are
        made at once; with 'reassoc' sums in any order.
    :param more: options of Numba.
    """
    from numba import njit

    _take_wide_registers()
    options = {'nogil': True, 'error_model': 'numpy', 'fastmath': set(liberties), **more}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written to: compiled at each start
        return njit(**options)(function)


def inner(function: Any, liberties: Collection[str] = ('contract',)) -> Any:
    """
    Compile a function that only others call that are `compiled`, and that makes no arrays.

    It counts nobody who has one: each slice that is handed on would take forty cycles for that, a
    quarter of the time of `loops.classify`. And it need not look whether what it writes lies in
    what it reads, a tenth of that time: an array that it writes must not overlap another one.
    """
    return compiled(function, liberties, _nrt=False, pipeline_class=_compiler_of_arrays_apart())


@lru_cache(maxsize=1)
def _compiler_of_arrays_apart() -> type:
    from numba.core.compiler import Compiler

    class Apart(Compiler):
        """Tells LLVM that arrays do not overlap."""

        def __init__(self, typing: Any, target: Any, library: Any, *rest: Any):
            *_, flags, _ = rest
            flags.noalias = True
            super().__init__(typing, target, library, *rest)

    return Apart


@lru_cache(maxsize=1)
def _take_wide_registers() -> None:
    """
    Let LLVM use registers of 512 bits where there are any; on Intel's it would use half of them.

    Which was for processors that slowed down. A convolution of `tiles` takes 0.8 of the time.
    """
    from numba.core import config
    from numba.core.codegen import get_host_cpu_features

    settings: Any = config  # which has them from the environment, NUMBA_CPU_FEATURES and so on
    features = get_host_cpu_features()
    chosen = settings.CPU_FEATURES is not None or settings.CPU_NAME is not None
    if '+avx512vl' in features and not chosen:
        settings.CPU_FEATURES = f'{features},-prefer-256-bit'


@contextmanager
def compiling_told(device: torch.device, tell: Callable[[str], Any]) -> Iterator[None]:
    """Tell, once, when a loop has to be compiled inside because no start before kept it."""
    if _loops_on(device) is None:
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
    return _loops_on(tensor.device)


def _loops_on(device: torch.device) -> ModuleType | None:
    return _loops() if device.type == 'cpu' else None


@lru_cache(maxsize=1)
def _loops() -> ModuleType | None:
    try:
        from dpt_ros.perception import loops
    except ImportError:
        return None
    return loops


def in_bands(loop: Loop, rows: int, *arguments: Any, margin: int = 0) -> None:
    """
    Run a loop over rows, in the threads that PyTorch may use.

    :param loop: called with the first and the last row (not included) of a band, and `arguments`,
        of which tensors become arrays that share their memory, or copies of what does not lie in
        it in order: so a loop is compiled for one kind of array, and none is to be written to.
    :param margin: so many rows on either side of a band are done with it, for a loop `at_once`
        that reads them, too. Two threads write the same there.
    """
    work = loop, rows, margin, _arrays(arguments)
    if _here.waiting is None:
        _share([work])
    else:
        _here.waiting.append(work)


@contextmanager
def at_once() -> Iterator[None]:
    """
    Run the loops that are asked for inside only at the end, one after the other in each band.

    To call a thread takes as long as a short loop: so it is called once for all. What one of them
    writes a later one may read as it lies there, in the rows of its own band and of the margin
    that was asked for; whoever else is to read it waits for the end.
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
    """Run loops in bands as wide as their threads were fast, so that all are done together."""
    bands, errors, start = torch.get_num_threads(), list[BaseException](), perf_counter()
    kind = bands, *(loop.__name__ for loop, *_ in works)
    shares = _shares.get(kind) or [1 / bands] * bands
    edges = [0.0, *accumulate(shares[:-1]), 1.0]
    seconds = [0.0] * bands

    def run(band: int) -> None:
        try:
            for loop, rows, margin, given in works:
                first, last = int(rows * edges[band]), int(rows * edges[band + 1])
                if first < last:
                    loop(max(0, first - margin), min(rows, last + margin), *given)
        except BaseException as error:
            errors.append(error)
        seconds[band] = perf_counter() - start

    in_parallel(run, bands)
    for error in errors:
        raise error
    if max(seconds) > _LEAST:
        speeds = [share / spent for share, spent in zip(shares, seconds, strict=True)]
        fair = [speed / sum(speeds) for speed in speeds]
        _shares[kind] = [a + _STEP * (b - a) for a, b in zip(shares, fair, strict=True)]


def one_by_one(*batches: Tensor) -> Iterator[tuple[np.ndarray, ...]]:
    """Take batches, (B, ...), apart: for each image arrays as `in_bands` makes them of tensors."""
    return zip(*_arrays(batches), strict=True)


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
