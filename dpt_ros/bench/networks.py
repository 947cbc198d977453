"""
Networks alone, of random weights, against the matrix rate of the machine.

A network's operations are counted (torch.utils.flop_counter), so its share of the measured matrix
rate tells what of its time is its own and what is overhead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from dpt_ros.bench.ceilings import Ceiling, synchronize
from dpt_ros.model.dpt import freeze
from dpt_ros.perception.capture import capture_graph
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
REPEATS = {'cpu': 3, 'cuda': 30}
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
    share: float  # of the matrix rate of this device and precision


def bench_networks(
    cases: Sequence[Case],
    device: torch.device,
    dtype: torch.dtype,
    ceiling: Ceiling,
    show: Callable[[], object],
) -> list[Timing]:
    """Measure each case with each of its batches, on a GPU eager and as a graph."""
    found = []
    for case in cases:
        entries = [_entry(name) for name in case.networks]
        networks = [Network(freeze(build(entry)), device, dtype) for entry in entries]
        tasks = [entry.tasks for entry in entries]
        for batch in case.batches:
            image = torch.rand((batch, 3, case.height, case.width), device=device)
            eager = partial(_run, networks, tasks, image)
            ways: dict[str, Callable[[], object]] = {'eager': eager}
            if device.type == 'cuda':
                _, ways['graph'] = capture_graph(eager, device)
            flops = count_flops(entries, image.shape)
            for how, way in ways.items():
                times = _times(way, device, show)
                found.append(_timing(case, batch, dtype, how, flops, times, ceiling))
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


def _times(
    way: Callable[[], object], device: torch.device, show: Callable[[], object]
) -> list[float]:
    """Return the seconds of each run after those that warm up."""
    times, warm_up = list[float](), WARM_UP[device.type]
    for _ in range(warm_up + REPEATS[device.type]):
        synchronize(device)
        started = perf_counter()
        way()
        synchronize(device)
        times.append(perf_counter() - started)
        show()
    return times[warm_up:]


def _timing(
    case: Case,
    batch: int,
    dtype: torch.dtype,
    how: str,
    flops: int,
    times: Sequence[float],
    ceiling: Ceiling,
) -> Timing:
    precision = str(dtype).removeprefix('torch.')
    median, p95 = (float(np.percentile(times, rank)) for rank in (50, 95))
    rate = flops / median / 1e9
    return Timing(
        ' + '.join(case.networks),
        case.width,
        case.height,
        batch,
        precision,
        how,
        flops / 1e9,
        median * 1e3,
        p95 * 1e3,
        rate,
        rate / ceiling.matrix_gflops[precision],
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
