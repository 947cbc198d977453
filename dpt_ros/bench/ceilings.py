"""What this machine can do at most: the rates that a network's time is held against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

REPEATS = 7  # the best counts: a ceiling is what nothing disturbed
SIDES = {'cpu': (1024, 1536, 2048), 'cuda': (4096, 8192)}  # of the square matrices
PRECISIONS = {'cpu': (torch.float32,), 'cuda': (torch.float32, torch.bfloat16, torch.float16)}
BYTES = 1 << 28  # copied at a time: more than any cache holds


@dataclass(frozen=True)
class Ceiling:
    """The rates of one device, of a CPU with the threads in use."""

    matrix_gflops: dict[str, float]  # GFLOP/s by precision: 2 a multiplication with its addition
    memory_gigabytes: float  # read and written in a second by a copy


def measure_ceiling(
    device: torch.device, sides: tuple[int, ...] | None = None, size: int = BYTES
) -> Ceiling:
    """
    Multiply square matrices of each precision, and copy memory.

    :param sides: of the matrices, the fastest counts; those of `SIDES` by default.
    :param size: bytes copied at a time.
    """
    rates = {}
    for dtype in PRECISIONS[device.type]:
        found = [matrix_gflops(device, dtype, side) for side in sides or SIDES[device.type]]
        rates[str(dtype).removeprefix('torch.')] = max(found)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = min(_times(device, lambda: target.copy_(source)))
    return Ceiling(rates, 2 * size / seconds / 1e9)


def matrix_gflops(
    device: torch.device,
    dtype: torch.dtype,
    side: int,
    choose: Callable[[Sequence[float]], float] = min,
) -> float:
    """Return the GFLOP/s of a product of matrices (side, side), by `choose` of their seconds."""
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(one)
    return 2e-9 * side**3 / choose(_times(device, lambda: torch.mm(one, other, out=product)))


def _times(device: torch.device, act: Callable[[], Tensor]) -> list[float]:
    """Return the seconds of some runs, the first left out."""
    return [seconds_of(act, device) for _ in range(1 + REPEATS)][1:]


def seconds_of(act: Callable[[], object], device: torch.device) -> float:
    """Return the seconds until the device has done this, and nothing that it had before."""
    synchronize(device)
    started = perf_counter()
    act()
    synchronize(device)
    return perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
