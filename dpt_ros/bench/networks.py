"""
Networks alone, of random weights, against the matrix rate of the machine.

A network's operations are counted (torch.utils.flop_counter), so its share of the measured matrix
rate tells what of its time is its own and what is overhead. The rate is measured before each run
anew: machines, virtual ones above all, are not as fast at every time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from dpt_ros.bench.ceilings import matrix_gflops, seconds_of, SIDES
from dpt_ros.model.dpt import freeze
from dpt_ros.perception.capture import Graphs
from dpt_ros.perception.program import Tensors
from dpt_ros.perception.runtime import Network
from dpt_ros.zoo.checkpoints import BASE, Checkpoint, InverseDepth, Resize
from dpt_ros.zoo.store import build, checkpoint
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

DPT_BASE = 'DPT-Base'  # of the paper; its weights were not released
UNRELEASED = {DPT_BASE: Checkpoint(BASE, Resize(384, 384), depth=InverseDepth(1.0, 0.0))}


@dataclass(frozen=True)
class Case:
    """Networks that one image needs, its size, and how many images go together."""

    networks: Sequence[str]  # names of checkpoints, or keys of UNRELEASED
    width: int
    height: int
    batches: Sequence[int] = (1,)


CASES = {  # by kind of device; what takes seconds a frame on a CPU is measured on a GPU only
    'cpu': (Case([DPT_BASE], 384, 384),),
    'cuda': (
        Case([DPT_BASE], 384, 384),
        Case(['dpt_hybrid_midas'], 672, 384, (1, 8)),
        Case(['dpt_large_midas'], 672, 384, (1, 8)),
        Case(['dpt_large_midas', 'dpt_hybrid_ade20k'], 672, 384, (1, 8)),
        Case(['depth_anything_v2_small'], 672, 378, (1, 8)),
        Case(['depth_anything_v2_large'], 672, 378, (1, 8)),
    ),
}
REPEATS = {'cpu': 7, 'cuda': 30}
WARM_UP = {'cpu': 1, 'cuda': 5}


@dataclass(frozen=True)
class Timing:
    """The time of a case for one batch."""

    networks: str
    width: int
    height: int
    batch: int
    precision: str
    how: str  # 'eager', or 'graph': captured once, then replayed (a GPU only)
    gflops: float  # of the whole batch
    median_ms: float
    p95_ms: float
    gflops_per_second: float
    matrix_gflops: float  # GFLOP/s of a product of matrices in the same precision
    share: float  # of that rate, measured right before: the median


def bench_networks(
    cases: Sequence[Case],
    device: torch.device,
    dtype: torch.dtype,
    show: Callable[[], object],
    side: int = 0,
) -> list[Timing]:
    """
    Measure each case with each of its batches, on a GPU eager and as a graph.

    :param side: of the square matrices beside them; 0: the largest of `SIDES`.
    """
    found, side = [], side or SIDES[device.type][-1]
    for case in cases:
        entries = [_entry(name) for name in case.networks]
        networks = [Network(freeze(build(entry)), device, dtype) for entry in entries]
        tasks = [entry.tasks for entry in entries]
        for batch in case.batches:
            image = torch.rand((batch, 3, case.height, case.width), device=device)
            eager = partial(_run, networks, tasks, image)
            ways: dict[str, Callable[[], object]] = {'eager': eager}
            if device.type == 'cuda':
                _, ways['graph'] = Graphs()(eager, device)
            flops = count_flops(entries, image.shape)
            for how, way in ways.items():
                rate = partial(matrix_gflops, device, dtype, side, median)  # as of the network
                runs = _runs(way, rate, device, show)
                found.append(_timing(case, batch, dtype, how, flops, runs))
    return found


def count_flops(entries: Sequence[Checkpoint], shape: Sequence[int]) -> int:
    """Count the operations of networks on an image (B, 3, H, W) = `shape`, computing nothing."""
    with torch.device('meta'):
        networks, image = [build(entry).eval() for entry in entries], torch.empty(*shape)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for network in networks:
            network(image)
    return counter.get_total_flops()


def _entry(name: str) -> Checkpoint:
    return UNRELEASED[name] if name in UNRELEASED else checkpoint(name)


def _run(networks: Sequence[Network], tasks: Sequence[Sequence[str]], image: Tensor) -> Tensors:
    raw: Tensors = {}
    for network, wanted in zip(networks, tasks, strict=True):
        raw |= network(image, wanted)
    return raw


def _runs(
    way: Callable[[], object],
    rate: Callable[[], float],
    device: torch.device,
    show: Callable[[], object],
) -> np.ndarray:
    """Return seconds of each run after those that warm up, and the rate just before: (N, 2)."""
    runs, warm_up = [], WARM_UP[device.type]
    for _ in range(warm_up + REPEATS[device.type]):
        gflops = rate()
        runs.append((seconds_of(way, device), gflops))
        show()
    return np.array(runs[warm_up:])


def _timing(
    case: Case, batch: int, dtype: torch.dtype, how: str, flops: int, runs: np.ndarray
) -> Timing:
    precision = str(dtype).removeprefix('torch.')
    seconds, matrix_gflops = runs.T
    p50, p95 = (float(np.percentile(seconds, rank)) for rank in (50, 95))
    return Timing(
        ' + '.join(case.networks),
        case.width,
        case.height,
        batch,
        precision,
        how,
        flops / 1e9,
        p50 * 1e3,
        p95 * 1e3,
        flops / p50 / 1e9,
        float(np.median(matrix_gflops)),
        float(np.median(flops / 1e9 / seconds / matrix_gflops)),
    )


def table_of(timings: Sequence[Timing]) -> list[str]:
    """Lay timings out as lines of text."""
    row = '{:<36}{:>9}{:>6}{:>10}{:>7}{:>9}{:>10}{:>9}{:>9}{:>7}'
    head = ('network', 'size', 'batch', 'precision', 'how')
    lines = [row.format(*head, 'GFLOPs', 'median ms', 'p95 ms', 'GFLOP/s', 'share')]
    lines += [
        row.format(
            t.networks,
            f'{t.width}x{t.height}',
            t.batch,
            t.precision,
            t.how,
            f'{t.gflops:.0f}',
            f'{t.median_ms:.1f}',
            f'{t.p95_ms:.1f}',
            f'{t.gflops_per_second:.0f}',
            f'{t.share:.2f}',
        )
        for t in timings
    ]
    return lines
