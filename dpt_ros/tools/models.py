"""The networks there are, measured without their weights: nothing is loaded and nothing run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dpt_ros.perception.preprocess import network_size
from dpt_ros.zoo.checkpoints import Checkpoint, CHECKPOINTS, RelativeDepth, Resize
from dpt_ros.zoo.store import build, has_wrong_size, weights_path
import torch
from torch.utils.flop_counter import FlopCounterMode

IMAGE = (640, 480)  # width and height of the image that the work is told for
HEADINGS = ('name', 'tasks', 'parameters', 'input', 'GFLOPs', 'download', 'license', 'weights')
RIGHT = frozenset({'parameters', 'input', 'GFLOPs', 'download'})  # columns of numbers


@dataclass(frozen=True)
class Model:
    """One line of `dpt models`."""

    name: str
    tasks: tuple[str, ...]  # out of 'depth' and 'segmentation'
    metric: bool  # whether its depth comes in metres
    labels: str | None  # its set of classes
    parameters: int
    input_size: tuple[int, int]  # width and height that an `IMAGE` is resized to
    gflops: float  # of one such input; a multiplication and its addition are two
    size: int | None  # of the file of its weights in bytes, where known
    spdx: str  # license
    non_commercial: bool  # whether that forbids commercial use
    focal: float | None  # that its metres are for, see `Checkpoint.focal`
    weights: str  # 'on disk' (of the right size, not verified), 'wrong size' or 'missing'
    file: str  # where the weights are, or belong


def list_models(folder: str = '') -> list[Model]:
    """Describe every checkpoint; `folder` as in `store.weights_folder`."""
    return [_describe(name, entry, folder) for name, entry in CHECKPOINTS.items()]


def table(models: Sequence[Model]) -> str:
    """Lay models out as aligned text, one a line."""
    rows = [HEADINGS] + [
        (
            model.name,
            ', '.join(_task(task, model) for task in model.tasks),
            f'{model.parameters / 1e6:.1f} M',
            'x'.join(map(str, model.input_size)),
            f'{model.gflops:.1f}',
            '?' if model.size is None else f'{model.size / 1e6:.0f} MB',
            model.spdx + (' (non-commercial)' if model.non_commercial else ''),
            model.weights,
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            f'{cell:>{width}}' if heading in RIGHT else f'{cell:<{width}}'
            for cell, width, heading in zip(row, widths, HEADINGS, strict=True)
        ).rstrip()
        for row in rows
    )


def _task(task: str, model: Model) -> str:
    if task == 'segmentation':
        return f'{model.labels} labels'
    return 'metric depth' if model.metric else 'relative depth'


def _describe(name: str, entry: Checkpoint, folder: str) -> Model:
    size = network_size(*IMAGE, entry.resize)
    parameters, flops = _measure(_build_alike(entry), size)
    path = weights_path(name, folder)
    return Model(
        name=name,
        tasks=entry.tasks,
        metric=entry.is_metric,
        labels=entry.labels,
        parameters=parameters,
        input_size=size,
        gflops=round(flops / 1e9, 1),
        size=entry.size,
        spdx=entry.spdx,
        non_commercial=entry.non_commercial,
        focal=entry.focal,
        weights=_state(path, entry),
        file=str(path),
    )


def _state(path: Path, entry: Checkpoint) -> str:
    if not path.is_file():
        return 'missing'
    return 'wrong size' if has_wrong_size(path, entry) else 'on disk'


def _build_alike(entry: Checkpoint) -> Checkpoint:
    """Return what a network's size follows from; many checkpoints have this in common."""
    depth = None if entry.depth is None else RelativeDepth()
    return Checkpoint(entry.architecture, Resize(*IMAGE), depth=depth, labels=entry.labels)


@cache
@torch.inference_mode()
def _measure(entry: Checkpoint, size: tuple[int, int]) -> tuple[int, int]:
    """Count the parameters, and the operations on one image of width and height `size`."""
    width, height = size
    with torch.device('meta'):  # shapes only
        network = build(entry).eval()
        image = torch.empty(1, 3, height, width)
    with FlopCounterMode(display=False) as counter:
        network(image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, counter.get_total_flops()
