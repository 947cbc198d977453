"""The memory of this process, and what glibc does with that which was freed."""

from ctypes import c_int, c_size_t, CDLL
from functools import lru_cache
import os
from pathlib import Path
import resource

# Names and numbers of mallopt(3), and the largest values that glibc comes to by itself as blocks
# are freed: what is free at the end of a heap and more than that goes back to the system, and so
# does a block that is larger than that, which has a mapping of its own.
SETTINGS = (('MALLOC_TRIM_THRESHOLD_', -1, 64 << 20), ('MALLOC_MMAP_THRESHOLD_', -3, 32 << 20))


def resident_memory() -> int:
    """Return the bytes of this process that are in memory."""
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * resource.getpagesize()


def keep_free_memory() -> None:
    """
    Keep for the next frame what one frees, unless the environment says otherwise.

    Where blocks happen to lie decides whether glibc gives megabytes back after each frame and
    takes them again for the next: 1473 pages a frame in one start of the node out of fourteen,
    6 to 99 in the others; so 6 to 58 in each of 22. In `dpt bench`, where the baseline has blocks
    between them, 1390 to 2801; so 14.
    """
    libc = _glibc()
    if libc is not None and not any(name in os.environ for name, *_ in SETTINGS):
        for _, parameter, value in SETTINGS:
            libc.mallopt(parameter, value)


def give_back_free_memory() -> None:
    """Give back to the system what is free, all of it."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> CDLL | None:
    """Return the C library if it is glibc: with others nothing is done."""
    libc = CDLL(None)
    if not hasattr(libc, 'gnu_get_libc_version'):
        return None
    libc.mallopt.argtypes, libc.malloc_trim.argtypes = (c_int, c_int), (c_size_t,)
    return libc
