"""
Batches of tensors, made ahead by worker processes; the batch of a step depends on that step alone.

Two sources: generated worlds, and RGB-D recordings (a folder of frame-N.color.jpg and
frame-N.depth.png, the latter uint16 millimetres, 0 and 65535 where not known).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
from dpt_ros.training.worlds import render
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one image size."""

    steps: int
    batch: int
    size: tuple[int, int]  # rows and columns


class Batch(NamedTuple):
    """Pictures and their ground truth."""

    rgb: Tensor  # (B, H, W, 3) uint8
    depth: Tensor  # (B, H, W) float32, metres, +Inf for the sky
    labels: Tensor  # (B, H, W) uint8, class ids


class Batches(Dataset):
    """The batches of all stages, one a step."""

    def __init__(self, stages: Sequence[Stage], seeds: range):
        """Spread `seeds` over the stages in order, each used once."""
        wanted = sum(stage.steps * stage.batch for stage in stages)
        if wanted > len(seeds):
            raise ValueError(f'{wanted} images are wanted and there are only {len(seeds)} seeds')
        self.stages, self.seeds = stages, seeds

    def __len__(self) -> int:
        """Return the number of steps."""
        return sum(stage.steps for stage in self.stages)

    def __getitem__(self, step: int) -> Batch:
        """Draw the batch of a step."""
        used = 0
        for stage in self.stages:
            if step < stage.steps:
                first = used + step * stage.batch
                last = first + stage.batch
                return draw(self.seeds[first:last], stage.size)
            step, used = step - stage.steps, used + stage.steps * stage.batch
        raise IndexError(step)


class Recording(Dataset):
    """Random batches of an RGB-D recording, mirrored and tinted at random; nothing is labelled."""

    def __init__(self, stages: Sequence[Stage], frames: Sequence[Path], seed: int):
        """Draw from `frames`, the color images of a recording (`find_frames`)."""
        self.stages, self.frames, self.seed = stages, frames, seed

    def __len__(self) -> int:
        """Return the number of steps."""
        return sum(stage.steps for stage in self.stages)

    def __getitem__(self, step: int) -> Batch:
        """Make the batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        ends = np.cumsum([stage.steps for stage in self.stages])
        stage = self.stages[int(np.searchsorted(ends, step, side='right'))]
        rows, columns = stage.size
        colors, depths = [], []
        for index in rng.integers(len(self.frames), size=stage.batch):
            rgb, depth = read_frame(self.frames[index])
            rgb = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_AREA)
            depth = cv2.resize(depth, (columns, rows), interpolation=cv2.INTER_NEAREST)
            tint = rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3)
            turn = slice(None, None, -1 if rng.random() < 0.5 else 1)
            colors.append((rgb * tint).clip(0, 255).astype(np.uint8)[:, turn])
            depths.append(depth[:, turn])
        labels = torch.full((stage.batch, rows, columns), 255, dtype=torch.uint8)
        return Batch(
            torch.from_numpy(np.stack(colors)), torch.from_numpy(np.stack(depths)), labels
        )


def find_frames(folder: Path) -> list[Path]:
    """List the color images of an RGB-D recording in the order of their names."""
    frames = sorted(folder.glob('*.color.jpg'))
    if not frames:
        raise ValueError(f'there are no frame-N.color.jpg in {folder}')
    return frames


def read_frame(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return color (H, W, 3) uint8 RGB and depth (H, W) float32 metres, +Inf where not known."""
    color = cv2.imread(str(file), cv2.IMREAD_COLOR)
    beside = file.with_name(file.name.replace('.color.jpg', '.depth.png'))
    stored = cv2.imread(str(beside), cv2.IMREAD_UNCHANGED)
    if color is None or stored is None or stored.dtype != np.uint16:
        raise ValueError(f'{file} is no image, or {beside.name} beside it is not a 16-bit image')
    unknown = (stored == 0) | (stored == 65535)
    depth = np.where(unknown, np.inf, stored / 1000).astype(np.float32)
    return cv2.cvtColor(color, cv2.COLOR_BGR2RGB), depth


def draw(seeds: Sequence[int], size: tuple[int, int]) -> Batch:
    """Render one image for each seed."""
    views = [render(seed, size) for seed in seeds]
    columns = zip(*((view.rgb, view.depth, view.labels) for view in views), strict=True)
    return Batch(*(torch.from_numpy(np.stack(column)) for column in columns))


def batches(data: Dataset[Batch], first: int, last: int, workers: int) -> DataLoader:
    """Iterate over the batches of steps `first` to `last`, in order however many the workers."""
    return DataLoader(
        data,
        sampler=range(first, last),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context='spawn' if workers else None,  # OpenCV's threads die in a fork
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # or it would draw from the one that dropout uses
    )


def _one_thread(worker: int) -> None:  # noqa: ARG001
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
