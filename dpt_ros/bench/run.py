"""`dpt bench`: everything in one run, so that ratios hold on any machine."""

from collections.abc import Callable, Sequence
import resource
from typing import Any

import cv2
from dpt_ros.bench.ceilings import Ceiling, measure_ceiling
from dpt_ros.bench.frames import bench_embedded, bench_frames, bench_network
from dpt_ros.bench.loading import bench_loading
from dpt_ros.bench.networks import bench_networks, CASES, Timing
from dpt_ros.bench.node import bench_node
from dpt_ros.bench.startup import bench_startup
from dpt_ros.conditions import conditions
from dpt_ros.perception.runtime import choose_device, choose_precision, choose_runtime
import torch

SIZES = ((640, 480), (1280, 720), (1920, 1080))
STARTS = 3
RATES = (5.0, 15.0, 30.0, 60.0, 0.0)


def bench(
    sizes: Sequence[tuple[int, int]] = SIZES,
    *,
    frames: int = 30,
    threads: int = 2,
    device: str = 'auto',
    runtime: str = 'auto',
    node: bool = False,
    seconds: float = 4.0,
    loading: str = '',
    weights: str = '',
    show: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """
    Measure the machine, networks, the way of a frame, the start; on request node and loading.

    :param sizes: (width, height) of images.
    :param frames: of each size; `seconds` of each run of the node.
    :param runtime: of our networks and the way of a frame, one of `perception.runtime.RUNTIMES`.
    :param loading: name of a network to load from its file; `weights` is that, or its folder.
    :param show: called after each step.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    kind = choose_runtime(runtime, choose_device(device))
    told = {**conditions(), 'runtime': kind}  # the load is not yet ours
    ceilings, networks = _bench_machine(device, show)
    network = bench_network(frames, device, runtime, show)
    results: dict[str, Any] = {
        'conditions': told,
        'ceilings': ceilings,
        'networks': networks,
        'startup': bench_startup(STARTS, show),
        'network': network,
        'embedded': bench_embedded(frames, device, runtime, show),
        'frames': bench_frames(sizes, frames, device, runtime, show),
    }
    results['network_ratio'] = network['network_ratio']
    first = results['frames'][f'{sizes[0][0]}x{sizes[0][1]}']
    results['around_ratio'] = first['around_ratio']
    if node:
        results['node'], results['node_stages'] = bench_node(sizes, RATES, seconds, show)
    if loading:
        results['loading'] = bench_loading(loading, weights)
    results['memory'] = {'host': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
    if torch.cuda.is_available():
        results['memory']['device'] = torch.cuda.max_memory_allocated() / 1e6
    return results


def _bench_machine(
    device: str, show: Callable[[], object]
) -> tuple[dict[str, Ceiling], list[Timing]]:
    """Measure what the CPU, and the device if it is another, can do; and networks against it."""
    ceilings, timings = {}, []
    chosen = choose_device(device)
    for where in dict.fromkeys((torch.device('cpu'), chosen)):
        ceilings[where.type] = measure_ceiling(where)
        show()
        if where == chosen:
            dtype = choose_precision('auto', where)
            timings = bench_networks(CASES[where.type], where, dtype, show)
    return ceilings, timings
