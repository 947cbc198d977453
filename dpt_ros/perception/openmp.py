"""
The threads that PyTorch computes with, for what is not PyTorch's.

They wait awake for a moment after each operation (`dpt_ros.threads`). Threads of our own would
have to share the cores with them then: of a frame at 640x480 on two cores of a Xeon, in turn, the
network took 144 ms with such threads and 119 with these, all around it 17.4 and 11.4.
"""

from ctypes import c_void_p, cast, CDLL
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def parallel() -> int:
    """
    Return the address of what runs a function in several threads: `GOMP_parallel`.

    It is that of PyTorch's OpenMP, GNU's, or Intel's or LLVM's, which have it, too. 0: PyTorch has
    none.
    """
    library = CDLL(torch._C.__file__)  # with what that depends on, nobody else's
    try:
        return cast(library.GOMP_parallel, c_void_p).value or 0
    except AttributeError:
        return 0
