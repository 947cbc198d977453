"""The way of a frame, stage by stage, and the baseline beside it: equal weights, one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import cv2
from dpt_ros.bench.baseline import Baseline
from dpt_ros.bench.ceilings import seconds_of
from dpt_ros.bench.twins import adopt, build_twins, LABELS, SIDE
from dpt_ros.perception.pipeline import Perception
from dpt_ros.perception.runtime import choose_device, choose_precision, Network, open_runtime
from dpt_ros.ros.messages import encode_image
from dpt_ros.ros.outputs import OUTPUTS
from dpt_ros.ros.parameters import Parameters
from dpt_ros.ros.processor import Job, Processor
from dpt_ros.zoo.labels import load_labels
from dpt_ros.zoo.store import load
import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
import torch

WARM_UP = 3
EMBEDDED = 'dpt_tiny'  # the network in the package
Show = Callable[[], object]  # called after each frame


@dataclass(frozen=True)
class Stage:
    """One stage of the way of a frame."""

    median_ms: float
    p95_ms: float
    share: float  # of the time of the whole frame
    megabytes: float | None  # moved, where the stage only moves


def picture(width: int, height: int) -> np.ndarray:
    """Draw a smooth random image (height, width, 3) uint8, as cameras see them."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def camera_info(width: int, height: int) -> CameraInfo:
    """Describe a camera of 75 degrees without distortion."""
    f, cx, cy = 0.65 * width, (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        width=width,
        height=height,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


class Ours:
    """The way of the node from message to messages, without ROS around it."""

    def __init__(self, perception: Perception):
        """Run this perception with the node's parameters, points labelled."""
        self._processor = Processor(perception)
        self._parameters = Parameters(points_labels=perception.labels is not None)
        self._outputs = [o for o in OUTPUTS if o.needs <= perception.products]

    def __call__(self, image: Image, info: CameraInfo) -> tuple[dict[str, float], dict[str, int]]:
        """Return the seconds spent in each stage, and the bytes that those which copy moved."""
        started = perf_counter()
        (outcome,) = self._processor([Job('', image, info, 'K', self._outputs)], self._parameters)
        total = perf_counter() - started
        if outcome.error is not None:
            raise outcome.error
        self._processor.give_back(outcome)
        made = [message for message in outcome.messages.values() if message is not image]
        written = sum(len(message.data) for message in made if hasattr(message, 'data'))
        moved = {'upload': len(image.data), 'download': written, 'encode': written}
        return {**outcome.seconds, 'total': total}, moved


def bench_frames(
    sizes: Sequence[tuple[int, int]], frames: int, device: str, runtime: str, show: Show
) -> dict[str, object]:
    """
    Measure frames of each size with all outputs, ours and the baseline's in turn.

    :param sizes: (width, height) of the images.
    :param runtime: of ours, one of `RUNTIMES`; a graph counts as network with all that is in it.
    :return: by WIDTHxHEIGHT: `stages`, `around_ms` (all but the network), `baseline` and
        `around_ratio`, the baseline's time around the network over ours.
    """
    where, theirs = choose_device(device), build_twins()
    twins = adopt(*theirs)
    kind, chosen = choose_precision('auto', where), open_runtime(runtime, where)
    ours = Ours(Perception(*twins, device=where, dtype=kind, runtime=chosen))
    baseline = Baseline(*theirs, load_labels(LABELS), where)
    return {
        f'{width}x{height}': _bench_size(ours, baseline, width, height, frames, show)
        for width, height in sizes
    }


def _bench_size(
    ours: Ours, baseline: Baseline, width: int, height: int, frames: int, show: Show
) -> dict[str, object]:
    image, info = (
        encode_image(Header(), picture(width, height), 'rgb8'),
        camera_info(width, height),
    )
    runs, theirs, moved = [], [], dict[str, int]()
    for index in range(WARM_UP + frames):
        seconds, moved = ours(image, info)
        started = perf_counter()
        _, inside = baseline(image, info)
        total = perf_counter() - started
        if index >= WARM_UP:
            runs.append(seconds)
            theirs.append((total, inside))
        show()
    stages = summarize(runs, moved)
    network = 'network' if 'network' in stages else 'see and finish'
    around = np.array([run['total'] - run[network] for run in runs]) * 1e3
    around_theirs = np.array([total - inside for total, inside in theirs]) * 1e3
    return {
        'stages': stages,
        'frames_per_second': 1e3 / stages['total'].median_ms,
        'around_ms': float(np.median(around)),
        'baseline': {
            'total_ms': float(np.median([total for total, _ in theirs])) * 1e3,
            'network_ms': float(np.median([inside for _, inside in theirs])) * 1e3,
            'around_ms': float(np.median(around_theirs)),
        },
        'around_ratio': float(np.median(around_theirs) / np.median(around)),
    }


def summarize(
    runs: Sequence[dict[str, float]], moved: dict[str, int] | None = None
) -> dict[str, Stage]:
    """Summarize the seconds of each stage over frames; 'total' is one of them."""
    moved, whole = moved or {}, float(np.median([run['total'] for run in runs]))
    stages = {}
    for name in runs[0]:
        times = np.array([run[name] for run in runs])
        median = float(np.median(times))
        megabytes = moved[name] / 1e6 if name in moved else None
        p95 = float(np.percentile(times, 95)) * 1e3
        stages[name] = Stage(median * 1e3, p95, median / whole, megabytes)
    return stages


@torch.inference_mode()
def bench_network(repeats: int, device: str, runtime: str, show: Show) -> dict[str, float]:
    """Measure the depth network of the twins at 256x256, ours and transformers' in turn."""
    where = choose_device(device)
    theirs, labels = build_twins()
    adopted = adopt(theirs, labels)[0].network
    ours = Network(adopted, where, torch.float32, open_runtime(runtime, where))
    theirs = theirs.to(where)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand((1, 3, SIDE, SIDE), generator=generator).to(where)
    images = {'ours': image.contiguous(memory_format=torch.channels_last), 'theirs': image}
    runs = {
        'ours': lambda x: ours(x, {'depth'})['depth'],
        'theirs': lambda x: theirs(x).predicted_depth,
    }
    found = {name: run(images[name]) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds_of(partial(run, images[name]), where))
        show()
    medians = {name: float(np.median(seconds)) * 1e3 for name, seconds in times.items()}
    difference = (found['ours'] - found['theirs']).abs().max() / found['theirs'].std()
    return {
        'ours_ms': medians['ours'],
        'transformers_ms': medians['theirs'],
        'network_ratio': medians['theirs'] / medians['ours'],
        'difference': float(difference),  # largest, in standard deviations of the output
    }


def bench_embedded(repeats: int, device: str, runtime: str, show: Show) -> dict[str, float]:
    """Measure the network in the package, both heads, at the size that it was trained at."""
    where, trained = choose_device(device), load(EMBEDDED)
    dtype = choose_precision('auto', where)
    network = Network(trained.network, where, dtype, open_runtime(runtime, where))
    resize, tasks = trained.checkpoint.resize, trained.checkpoint.tasks
    image = torch.rand((1, 3, resize.height, resize.width)).to(where)
    times = []
    for index in range(WARM_UP + repeats):
        seconds = seconds_of(partial(network, image, tasks), where)
        if index >= WARM_UP:
            times.append(seconds * 1e3)
        show()
    p50, p95 = np.percentile(times, (50, 95))
    size = {'width': resize.width, 'height': resize.height}
    return {**size, 'median_ms': float(p50), 'p95_ms': float(p95)}
