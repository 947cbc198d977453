"""
Batches of tensors, made ahead by worker processes; the batch of a step depends on that step alone.

Two sources: generated worlds, and RGB-D recordings, see `find_pairs`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import re
from typing import NamedTuple

import cv2
from dpt_ros.training.worlds import Batch, draw_shot, Plan, plan, shoot
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one image size."""

    steps: int
    batch: int
    size: tuple[int, int]  # rows and columns


class Pair(NamedTuple):
    """The files of one image of a recording."""

    color: Path
    depth: Path


class Batches(Dataset):
    """The batches of all stages, one a step."""

    def __init__(self, stages: Sequence[Stage], seeds: range, *, planned: bool = False):
        """
        Spread `seeds` over the stages in order, each used once.

        :param planned: give plans of the pictures, which `finish` takes on a GPU, all together.
        """
        wanted = sum(stage.steps * stage.batch for stage in stages)
        if wanted > len(seeds):
            raise ValueError(f'{wanted} images are wanted and there are only {len(seeds)} seeds')
        self.stages, self.seeds, self.planned = stages, seeds, planned

    def __len__(self) -> int:
        """Return the number of steps."""
        return sum(stage.steps for stage in self.stages)

    def __getitem__(self, step: int) -> Batch | Plan:
        """Draw the batch of a step."""
        used = 0
        for stage in self.stages:
            if step < stage.steps:
                first = used + step * stage.batch
                last = first + stage.batch
                seeds = self.seeds[first:last]
                if self.planned:
                    return plan([draw_shot(seed, stage.size) for seed in seeds])
                return draw(seeds, stage.size)
            step, used = step - stage.steps, used + stage.steps * stage.batch
        raise IndexError(step)


class Recording(Dataset):
    """Random batches of an RGB-D recording, mirrored and tinted at random; nothing is labelled."""

    def __init__(self, stages: Sequence[Stage], pairs: Sequence[Pair], seed: int):
        """Draw from `pairs` of a recording (`find_pairs`)."""
        self.stages, self.pairs, self.seed = stages, pairs, seed

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
        for index in rng.integers(len(self.pairs), size=stage.batch):
            rgb, depth = read_pair(self.pairs[index])
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


def find_pairs(folder: Path) -> list[Pair]:
    """
    List the pairs of an RGB-D recording in the order of their names.

    :param folder: with NAME.color.jpg (or .png) beside NAME.depth.png; or with rgb/NAME.jpg (or
        .png) and depth/NAME.png (or .npy). See `read_depth` for what depth must be.
    :raises ValueError: for a folder that has no such pairs, or an image without its depth.
    """
    colors = [f for end in ('jpg', 'png') for f in folder.glob(f'*.color.{end}')]
    if colors:
        found = [(c, folder / re.sub(r'color\.(jpg|png)$', 'depth', c.name)) for c in colors]
    else:
        colors = [f for end in ('jpg', 'png') for f in folder.glob(f'rgb/*.{end}')]
        found = [(c, folder / 'depth' / c.stem) for c in colors]
    if not found:
        raise ValueError(
            f'there is no RGB-D recording in {folder}: it needs NAME.color.jpg and '
            'NAME.depth.png, or rgb/NAME.jpg and depth/NAME.png'
        )
    return [Pair(color, _depth_beside(color, stem)) for color, stem in sorted(found)]


def _depth_beside(color: Path, stem: Path) -> Path:
    for end in ('png', 'npy'):
        if (depth := stem.with_name(f'{stem.name}.{end}')).is_file():
            return depth
    raise ValueError(f'{color} has no depth: there is no {stem}.png')


def number_of(pair: Pair) -> int:
    """Return the number that the names of a pair end in, such as 42 of frame-000042.color.jpg."""
    digits = re.findall(r'\d+', pair.color.name)
    if not digits:
        raise ValueError(f'{pair.color} has no number in its name to choose frames by')
    return int(digits[-1])


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return color (H, W, 3) uint8 RGB and depth (H, W) float32 metres, +Inf where not known."""
    color, depth = read_color(pair.color), read_depth(pair.depth)
    if color.shape[:2] != depth.shape:
        raise ValueError(
            f'{pair.color} has {color.shape[1]}x{color.shape[0]} pixels and {pair.depth} '
            f'{depth.shape[1]}x{depth.shape[0]}: bring depth into the view of the color camera '
            'first, e.g. with depth_image_proc/register'
        )
    return color, depth


def read_color(file: Path) -> np.ndarray:
    """Read an image, (H, W, 3) uint8 RGB."""
    color = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if color is None:
        raise ValueError(f'{file} is not an image that can be read')
    return cv2.cvtColor(color, cv2.COLOR_BGR2RGB)


def read_depth(file: Path, unit: float = 0.001) -> np.ndarray:
    """
    Read a map of depth, (H, W) float32 metres, +Inf where it is not known.

    :param file: PNG of 16 bits, 0 and 65535 where not known; or .npy of float metres, not
        positive or not finite where not known.
    :param unit: of the PNG, in metres.
    """
    if file.suffix == '.npy':
        stored = np.load(file, allow_pickle=False).astype(np.float32)
        return np.where(np.isfinite(stored) & (stored > 0), stored, np.float32(np.inf))
    stored = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError(f'{file} is not an image of depth: it must be a PNG of 16 bits, gray')
    unknown = (stored == 0) | (stored == 65535)
    return np.where(unknown, np.inf, stored * unit).astype(np.float32)


def draw(seeds: Sequence[int], size: tuple[int, int]) -> Batch:
    """Take one picture for each seed, one after another, as is fastest on a CPU."""
    pictures = [shoot(plan([draw_shot(seed, size)])) for seed in seeds]
    return Batch(*(torch.cat(column) for column in zip(*pictures, strict=True)))


def finish(made: Batch | Plan, device: torch.device) -> Batch:
    """Bring a batch to the device, where the pictures are taken if they are only planned."""
    if isinstance(made, Plan):
        return shoot(made.to(device))
    return Batch(*(part.to(device) for part in made))


def batches(data: Dataset, first: int, last: int, workers: int) -> DataLoader:
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
