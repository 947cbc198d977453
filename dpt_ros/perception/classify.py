"""
Class scores -> the winner of each pixel and its probability, at any size, tile by tile.

The published networks upsample their scores by two (bilinear, corners aligned) and then to the
image (bicubic, or as the weights say), which for 150 classes at 720p is half a gigabyte. Both
steps are linear and separable, so together they are one small matrix for rows and one for
columns; applied to a tile at a time, nothing larger than a tile of scores exists.
"""

from functools import lru_cache, reduce
import operator

from dpt_ros.perception.bands import in_bands, loops_for, one_by_one, room
from dpt_ros.perception.resample import Blocks, blocks, matrix_of, room_for, Taps, taps
from dpt_ros.zoo.checkpoints import Restore
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BUDGET = 1 << 19  # scores in a tile: they stay in the cache of one core
ROWS, COLUMNS = 16, 160  # pixels of the smallest tile: few, lest the matrices are mostly zeros


def classify(
    scores: Tensor,
    size: tuple[int, int],
    restore: Restore | None = None,
    spare: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """
    Find the class of each pixel.

    :param scores: (B, K, h, w), half the network's resolution (`model.heads.SegmentationHead`).
    :param size: (H, W) of the result.
    :param restore: the second step; None: bicubic.
    :param spare: memory for the labels, see `bands.room`.
    :return: labels (B, H, W), uint8 or, above 255 classes, int32, the first of equal winners; and
        the softmax probability of each, (B, H, W) float32.
    """
    batch, classes = scores.shape[:2]
    kind = torch.uint8 if classes <= 255 else torch.int32
    confidence = torch.empty((batch, *size), device=scores.device)
    restore = restore or Restore()
    loops = loops_for(scores)
    if loops is None:
        labels = torch.empty((batch, *size), dtype=kind, device=scores.device)
        _in_tiles(scores, restore, labels, confidence)
        return labels, confidence
    labels = room(spare, batch, *size, dtype=kind)
    height, width = scores.shape[2:]
    columns, rows = _blocks(width, size[1], restore), _taps(height, size[0], restore)
    scores = room_for(scores, len(rows.weights), columns.weights.shape[1]).float()
    scores = scores.permute(0, 2, 3, 1)  # as the network's convolutions leave them
    for image, winner, sure in one_by_one(scores, labels, confidence):
        in_bands(loops.classify, size[0], image, *columns, *rows, winner, sure)
    return labels, confidence


def among(labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Find the pixels of labels (B, H, W) that are of one of some classes: (B, H, W) bool."""
    if loops := loops_for(labels):
        found = torch.empty(labels.shape, dtype=torch.bool)
        for image, target in one_by_one(labels, found):
            in_bands(loops.among, len(image), image, _numbers(classes, image.dtype), target)
        return found
    return reduce(operator.or_, (labels == one for one in classes))


@lru_cache(maxsize=16)
def _numbers(classes: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    return np.array(classes, kind)


def _in_tiles(scores: Tensor, restore: Restore, labels: Tensor, confidence: Tensor) -> None:
    """Classify on any device, a tile after the other: two products of matrices each."""
    classes, rows, columns = scores.shape[1:]
    height, width = labels.shape[1:]
    from_last = torch.arange(classes - 1, -1, -1, dtype=labels.dtype, device=scores.device)
    together = max(1, BUDGET // (classes * ROWS * COLUMNS))  # pieces of columns in a tile
    pieces = _resampling(columns, width, COLUMNS, restore, scores.device)
    tall = max(ROWS, BUDGET // (classes * min(width, together * COLUMNS)))
    for below, above, rows_matrix in _resampling(rows, height, tall, restore, scores.device):
        strip = scores[:, :, above].float()
        for first in range(0, len(pieces), together):
            part = pieces[first:][:together]
            across = slice(part[0][0].start, part[-1][0].stop)
            wide = [strip[..., span].contiguous() @ matrix.T for _, span, matrix in part]
            tile = rows_matrix @ torch.cat(wide, dim=-1)  # (B, K, tall, width)
            _winners(tile, from_last, labels[:, below, across], confidence[:, below, across])


def _winners(tile: Tensor, from_last: Tensor, labels: Tensor, confidence: Tensor) -> None:
    """
    Find the best of the classes and its probability.

    :param tile: (B, K, h, w) scores, of which nothing is left afterwards.
    :param from_last: (K,), the numbers from K - 1 down to 0; their type is that of the labels.
    :param labels: (B, h, w), written; `confidence` likewise.
    """
    tile -= tile.amax(dim=1, keepdim=True)
    ranks = (tile == 0).to(from_last.dtype).mul_(from_last[:, None, None])
    # amax of what wins is many times faster than argmax
    torch.sub(from_last[0], ranks.amax(dim=1), out=labels)
    torch.reciprocal(tile.exp_().sum(dim=1), out=confidence)


@lru_cache(maxsize=16)
def _resampling(
    side: int, size: int, step: int, restore: Restore, device: torch.device
) -> list[tuple[slice, slice, Tensor]]:
    """
    Cut the resampling of `side` scores to `size` pixels into pieces of `step` pixels.

    :return: for each piece its pixels, the scores that they depend on, and the matrix between.
    """
    matrix, tiles = _matrix(side, size, restore), []
    for start in range(0, size, step):
        pixels = slice(start, min(start + step, size))
        used = matrix[pixels].abs().sum(dim=0).nonzero()
        span = slice(int(used.min()), int(used.max()) + 1)
        tiles.append((pixels, span, matrix[pixels, span].contiguous().to(device)))
    return tiles


@lru_cache(maxsize=16)
def _blocks(side: int, size: int, restore: Restore) -> Blocks:
    """Return what both steps along the columns sum up."""
    return blocks(_matrix(side, size, restore))


@lru_cache(maxsize=16)
def _taps(side: int, size: int, restore: Restore) -> Taps:
    """Return what both steps along the rows sum up."""
    return taps(_matrix(side, size, restore))


def _matrix(side: int, size: int, restore: Restore) -> Tensor:
    """Return both steps along one axis as one matrix, (size, side)."""
    matrix = matrix_of(side, 2 * side, 'bilinear', align_corners=True)[None, None]
    mode, align_corners = restore.mode, restore.align_corners
    return F.interpolate(matrix, (size, side), mode=mode, align_corners=align_corners)[0, 0]
