"""
The threads that PyTorch computes with, for what is not PyTorch's.

They wait awake for a moment after each operation (`dpt_ros.threads`). Threads of our own would
have to share the cores with them then: of a frame at 640x480 on two cores of a Xeon, in turn, the
network took 144 ms with such threads and 119 with these, all around it 17.4 and 11.4.
"""

from collections.abc import Callable
from ctypes import c_uint, CDLL, CFUNCTYPE, py_object
from functools import lru_cache
from typing import Any

import torch

Band = Callable[[int], None]  # given its number


def in_parallel(band: Band, bands: int) -> None:
    """
    Call a function for each of so many bands at once, in as many threads, this one among them.

    One after the other where PyTorch has no OpenMP. Return when all are done.

    :param band: must not raise, for there is nobody to tell.
    """
    numbers = iter(range(bands))

    def take_one() -> None:
        if (number := next(numbers, None)) is not None:
            band(number)

    if bands > 1 and (parallel := _openmp()) is not None:
        parallel(_call, take_one, bands, 0)
    for number in numbers:  # of a team that is smaller
        band(number)


@CFUNCTYPE(None, py_object)
def _call(function: Callable[[], None]) -> None:
    function()


@lru_cache(maxsize=1)
def _openmp() -> Callable[[Any, Callable[[], None], int, int], None] | None:
    """Return how PyTorch's OpenMP is asked: GNU's, or Intel's or LLVM's, which understand that."""
    try:
        parallel = CDLL(torch._C.__file__).GOMP_parallel  # of what that depends on, nobody else's
    except AttributeError:
        return None
    parallel.argtypes, parallel.restype = (type(_call), py_object, c_uint, c_uint), None
    return parallel
