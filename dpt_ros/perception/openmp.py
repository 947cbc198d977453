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
Thread = Callable[[], int]  # the number of the thread that asks, 0 for the caller's


def in_parallel(band: Band, bands: int) -> None:
    """
    Call a function for each of so many bands at once, in as many threads, the first in this one.

    Each thread has the same band each time. One after the other where PyTorch has no OpenMP.
    Return when all are done.

    :param band: must not raise, for there is nobody to tell.
    """
    left = set(range(bands))

    def take_own() -> None:
        number = thread_number()
        left.discard(number)
        band(number)

    if bands > 1 and (openmp := _openmp()) is not None:
        parallel, thread_number = openmp
        parallel(_call, take_own, bands, 0)
    for number in sorted(left):  # of a team that is smaller
        band(number)


@CFUNCTYPE(None, py_object)
def _call(function: Callable[[], None]) -> None:
    function()


@lru_cache(maxsize=1)
def _openmp() -> tuple[Callable[[Any, Callable[[], None], int, int], None], Thread] | None:
    """Return how PyTorch's OpenMP is asked: GNU's, or Intel's or LLVM's, which understand that."""
    library = CDLL(torch._C.__file__)  # with what that depends on, nobody else's
    try:
        parallel, thread_number = library.GOMP_parallel, library.omp_get_thread_num
    except AttributeError:
        return None
    parallel.argtypes, parallel.restype = (type(_call), py_object, c_uint, c_uint), None
    return parallel, thread_number
