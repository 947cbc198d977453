"""
Loops that Numba compiles for a CPU: how, whether there are any, and how threads share one.

They stand in `loops`, which is imported only where it is used: a GPU has no need of it, and Numba
is optional and takes its time.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


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


def in_bands(loop: Callable[..., None], rows: int, *arguments: Any) -> None:
    """
    Run a loop over rows, in as many threads as PyTorch may use.

    :param loop: called with the first and the last row (not included) of a band, and `arguments`,
        of which tensors become arrays that share their memory, or copies of what does not lie in
        it in order: so a loop is compiled for one kind of array, and none is to be written to.
    """
    given = _arrays(arguments)
    bands = min(torch.get_num_threads(), rows)
    edges = [rows * band // bands for band in range(bands + 1)]
    mine, *others = pairwise(edges)
    running = [_threads(bands - 1).submit(loop, *band, *given) for band in others]
    loop(*mine, *given)
    for other in running:
        other.result()


def alone(loop: Callable[..., None], rows: int, *arguments: Any) -> None:
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


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix='pixels')
