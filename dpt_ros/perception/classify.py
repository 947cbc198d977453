"""
Class scores -> the winner of each pixel and its probability, at any size, tile by tile.

The published networks upsample their scores by two (bilinear, corners aligned) and then to the
image (bicubic), which for 150 classes at 720p is half a gigabyte. Both steps are linear and
separable, so together they are one small matrix for rows and one for columns; applied to a tile
at a time, nothing larger than a tile of scores exists.
"""

from functools import lru_cache
import math

import torch
from torch import Tensor
from torch.nn import functional as F

BUDGET = 1 << 18  # scores in a tile: they stay in the cache of one core


def classify(scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """
    Find the class of each pixel.

    :param scores: (B, K, h, w), half the network's resolution (`model.heads.SegmentationHead`).
    :param size: (H, W) of the result.
    :return: labels (B, H, W), uint8 or, above 255 classes, int32, the first of equal winners; and
        the softmax probability of each, (B, H, W) float32.
    """
    batch, classes, rows, columns = scores.shape
    kind = torch.uint8 if classes <= 255 else torch.int32
    labels = torch.empty((batch, *size), dtype=kind, device=scores.device)
    confidence = torch.empty((batch, *size), device=scores.device)
    last = classes - 1
    from_last = torch.arange(last, -1, -1, dtype=kind, device=scores.device)[:, None, None]
    side = tile_side(classes)
    for down, above, rows_matrix in _tiles(rows, size[0], side, scores.device):
        for across, beside, columns_matrix in _tiles(columns, size[1], side, scores.device):
            tile = scores[:, :, above, beside].float()
            tile = rows_matrix @ (tile @ columns_matrix.T)  # (B, K, rows, columns) of the tile
            tile -= tile.amax(dim=1, keepdim=True)
            wins = (tile == 0).to(kind)  # amax of what wins is many times faster than argmax
            labels[:, down, across] = last - wins.mul_(from_last).amax(dim=1)
            confidence[:, down, across] = 1 / tile.exp_().sum(dim=1)
    return labels, confidence


def tile_side(classes: int) -> int:
    """Return the side of a tile in pixels of the output."""
    return max(16, math.isqrt(BUDGET // classes))


@lru_cache(maxsize=16)
def _tiles(
    side: int, size: int, step: int, device: torch.device
) -> list[tuple[slice, slice, Tensor]]:
    """
    Cut the resampling of `side` scores to `size` pixels into tiles of `step` pixels.

    :return: for each tile its pixels, the scores that they depend on, and the matrix between.
    """
    matrix = torch.eye(side)[None, None]  # resampled row by row, it becomes the operation itself
    matrix = F.interpolate(matrix, size=(2 * side, side), mode='bilinear', align_corners=True)
    matrix = F.interpolate(matrix, size=(size, side), mode='bicubic', align_corners=False)[0, 0]
    tiles = []
    for start in range(0, size, step):
        pixels = slice(start, min(start + step, size))
        used = matrix[pixels].abs().sum(dim=0).nonzero()
        span = slice(int(used.min()), int(used.max()) + 1)
        tiles.append((pixels, span, matrix[pixels, span].contiguous().to(device)))
    return tiles
