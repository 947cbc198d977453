"""
How good are metres and labels? Measured on worlds never trained on, and beside two baselines.

The network is asked as the node asks it: resized, normalized, converted to metres and classified
by `perception`. Depth is scored in metres, without any alignment, wherever the truth is finite;
every image counts alike. mIoU is over all pixels of all images together.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
from dpt_ros.model.dpt import DPT
from dpt_ros.perception.classify import classify
from dpt_ros.perception.preprocess import feed
from dpt_ros.perception.scale import metres
from dpt_ros.training.data import find_frames, read_frame
from dpt_ros.training.furnishing import class_names
from dpt_ros.training.worlds import HELD_OUT, render, SIZE, TRAINING
from dpt_ros.zoo.checkpoints import Checkpoint
import numpy as np
import torch

# (H, W, 3) uint8 -> depth (H, W) float32 in metres and labels (H, W) or None
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
DEPTH = ('abs_rel', 'rmse', 'delta1')  # better: lower, lower, higher
LABELS = ('miou', 'pixel_accuracy')


def network_predictor(network: DPT, entry: Checkpoint) -> Predict:
    """Wrap a network with a depth head for evaluation: frozen, in float32, on the CPU."""
    meaning = entry.depth
    if meaning is None:
        raise ValueError('this network has no depth to evaluate')

    @torch.inference_mode()
    def predict(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        height, width = rgb.shape[:2]
        image = feed(torch.from_numpy(rgb)[None], entry)
        raw = network(image.contiguous(memory_format=torch.channels_last))
        depth = metres(raw['depth'], meaning, 1.0, 0.0)[0].numpy()
        labels = None
        if 'segmentation' in raw:
            labels = classify(raw['segmentation'], (height, width))[0][0].numpy()
        return cv2.resize(depth, (width, height)), labels

    return predict


@dataclass(frozen=True)
class Rows:
    """A baseline that never looks at the image: log depth linear in the row, a class a row."""

    slope: float  # of log depth, from the top row (0) to the bottom row (1)
    offset: float
    classes: tuple[int, ...]  # from top to bottom

    def __call__(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict for an image of any size."""
        height, width = rgb.shape[:2]
        down = (np.arange(height) + 0.5) / height
        depth = np.exp(self.offset + self.slope * down).astype(np.float32)
        labels = np.array(self.classes)[(down * len(self.classes)).astype(int)]
        return np.tile(depth[:, None], width), np.tile(labels[:, None], width)


def fit_baselines(seeds: Sequence[int], size: tuple[int, int] = SIZE) -> dict[str, Rows]:
    """
    Fit what knows the data but not the image: 'constant' and 'row'.

    The constant is the mean of log depth and the commonest class; the other has both by row.
    """
    down = (np.arange(size[0]) + 0.5) / size[0]
    counts = np.zeros((size[0], len(class_names())), np.int64)
    pixels, sums = np.zeros(size[0]), np.zeros(size[0])
    for seed in seeds:
        view = render(seed, size)
        known = np.isfinite(view.depth)
        pixels += known.sum(axis=1)
        sums += np.log(np.where(known, view.depth, 1)).sum(axis=1)
        for row, labels in enumerate(view.labels):
            counts[row] += np.bincount(labels, minlength=counts.shape[1])
    means = sums / np.maximum(pixels, 1)
    slope, offset = np.polyfit(down, means, 1, w=np.sqrt(pixels))
    common, mean = int(counts.sum(axis=0).argmax()), float(sums.sum() / pixels.sum())
    return {
        'constant': Rows(0.0, mean, (common,)),
        'row': Rows(float(slope), float(offset), tuple(counts.argmax(axis=1).tolist())),
    }


def score_depth(depth: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """
    Compare depth (H, W) with the truth, metres, wherever the truth is finite and positive.

    abs_rel = mean |p - y| / y; rmse in metres; delta1 = share with max(p / y, y / p) < 1.25.
    """
    known = np.isfinite(truth) & (truth > 0)
    p, y = depth[known].astype(np.float64), truth[known].astype(np.float64)
    ratio = np.maximum(p / y, y / np.maximum(p, 1e-9))
    return {
        'abs_rel': float(np.mean(np.abs(p - y) / y)),
        'rmse': float(np.sqrt(np.mean((p - y) ** 2))),
        'delta1': float(np.mean(ratio < 1.25)),
    }


def score_labels(confusion: np.ndarray) -> dict[str, float]:
    """Summarize (K, K) counts, truth by row: mIoU of the classes that occur, and more."""
    right = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
    iou = {name: float(r / u) for name, r, u in zip(class_names(), right, union, strict=True) if u}
    return {
        'miou': float(np.mean(list(iou.values()))),
        'pixel_accuracy': float(right.sum() / confusion.sum()),
        **{f'iou_{name}': value for name, value in iou.items()},
    }


def evaluate_worlds(
    predict: Predict, seeds: Sequence[int] = HELD_OUT, size: tuple[int, int] = SIZE
) -> dict[str, float]:
    """Score a predictor on worlds: abs_rel, rmse, delta1, miou, pixel_accuracy, iou_CLASS."""
    names = class_names()
    confusion = np.zeros((len(names), len(names)), np.int64)
    depths = []
    for seed in seeds:
        view = render(seed, size)
        depth, labels = predict(view.rgb)
        if np.isfinite(view.depth).any():
            depths.append(score_depth(depth, view.depth))
        if labels is None:
            raise ValueError('worlds have labels and this predictor gives none')
        pairs = view.labels.astype(np.int64) * len(names) + labels
        confusion += np.bincount(pairs.ravel(), minlength=confusion.size).reshape(confusion.shape)
    return {**_mean(depths), **score_labels(confusion)}


def evaluate_recording(
    predict: Predict, frames: Sequence[Path], *, aligned: bool = True
) -> dict[str, float]:
    """
    Score depth on frames of an RGB-D recording (`data.find_frames`).

    :param aligned: fit the inverse depth of each image to the truth first. The embedded network
        has never seen such pictures: this says what carries over, not metres.
    """
    scores = []
    for frame in frames:
        rgb, truth = read_frame(frame)
        depth, _ = predict(rgb)
        scores.append(score_depth(align_inverse(depth, truth) if aligned else depth, truth))
    return _mean(scores)


def align_inverse(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Fit scale and shift of 1 / depth to 1 / truth by least squares where the truth is known."""
    known = np.isfinite(truth) & (truth > 0)
    inverse, wanted = 1 / depth[known].astype(np.float64), 1 / truth[known]
    spread = inverse - inverse.mean()
    scale = (spread @ (wanted - wanted.mean())) / max(spread @ spread, 1e-12)
    aligned = wanted.mean() + scale * (1 / depth.astype(np.float64) - inverse.mean())
    return 1 / np.maximum(aligned, 1 / 20)


def compare(
    network: DPT,
    entry: Checkpoint,
    name: str,
    recording: Path | None = None,
    *,
    seeds: Sequence[int] = HELD_OUT,
    fitted_on: Sequence[int] = TRAINING[:512],
) -> dict[str, dict[str, dict[str, float]]]:
    """
    Score a network and the baselines: data set -> predictor -> metric -> value.

    :param name: of the network in the table.
    :param recording: folder of an RGB-D recording, see `data.find_frames`.
    """
    predictors: dict[str, Predict] = {
        **fit_baselines(fitted_on),
        name: network_predictor(network, entry),
    }
    on: dict[str, Callable[[Predict], dict[str, float]]] = {
        'worlds': partial(evaluate_worlds, seeds=seeds)
    }
    if recording is not None:
        frames = find_frames(recording)
        on['recording, aligned'] = partial(evaluate_recording, frames=frames)
    return {
        data: {predictor: score(p) for predictor, p in predictors.items()}
        for data, score in on.items()
    }


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Lay the scores out for people."""
    lines = []
    for data, scores in results.items():
        metrics = [m for m in (*DEPTH, *LABELS) if m in next(iter(scores.values()))]
        lines.append(f'{data:<20}' + ''.join(f'{m:>16}' for m in metrics))
        for predictor, values in scores.items():
            lines.append(f'  {predictor:<18}' + ''.join(f'{values[m]:>16.3f}' for m in metrics))
    return '\n'.join(lines)


def _mean(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    scores = list(scores)
    return {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
