"""
Class scores -> the winner of each pixel and its probability, at any size, tile by tile.

The published networks upsample their scores by two (bilinear, corners aligned) and then to the
image (bicubic, or as the weights say), which for 150 classes at 720p is half a gigabyte. Both
steps are linear and separable, so together they are one small matrix for rows and one for
columns; applied to a tile at a time, nothing larger than a tile of scores exists.
"""

from functools import lru_cache

import cv2
from dpt_ros.zoo.checkpoints import Restore
import torch
from torch import Tensor
from torch.nn import functional as F

BUDGET = 1 << 19  # scores in a tile: they stay in the cache of one core
ROWS, COLUMNS = 16, 160  # pixels of the smallest tile: few, lest the matrices are mostly zeros


def classify(
    scores: Tensor, size: tuple[int, int], restore: Restore | None = None
) -> tuple[Tensor, Tensor]:
    """
    Find the class of each pixel.

    :param scores: (B, K, h, w), half the network's resolution (`model.heads.SegmentationHead`).
    :param size: (H, W) of the result.
    :param restore: the second step; None: bicubic.
    :return: labels (B, H, W), uint8 or, above 255 classes, int32, the first of equal winners; and
        the softmax probability of each, (B, H, W) float32.
    """
    batch, classes, rows, columns = scores.shape
    kind = torch.uint8 if classes <= 255 else torch.int32
    labels = torch.empty((batch, *size), dtype=kind, device=scores.device)
    confidence = torch.empty((batch, *size), device=scores.device)
    from_last = torch.arange(classes - 1, -1, -1, dtype=kind, device=scores.device)
    together = max(1, BUDGET // (classes * ROWS * COLUMNS))  # pieces of columns in a tile
    restore = restore or Restore()
    pieces = _resampling(columns, size[1], COLUMNS, restore, scores.device)
    width = min(size[1], together * COLUMNS)
    height = max(ROWS, BUDGET // (classes * width))
    for down, above, rows_matrix in _resampling(rows, size[0], height, restore, scores.device):
        strip = scores[:, :, above].float()
        for first in range(0, len(pieces), together):
            part = pieces[first:][:together]
            across = slice(part[0][0].start, part[-1][0].stop)
            wide = [strip[..., span].contiguous() @ matrix.T for _, span, matrix in part]
            tile = rows_matrix @ torch.cat(wide, dim=-1)  # (B, K, height, width)
            _winners(tile, from_last, labels[:, down, across], confidence[:, down, across])
    return labels, confidence


def _winners(tile: Tensor, from_last: Tensor, labels: Tensor, confidence: Tensor) -> None:
    """
    Find the best of the classes and its probability.

    :param tile: (B, K, h, w) scores, of which nothing is left afterwards.
    :param from_last: (K,), the numbers from K - 1 down to 0; their type is that of the labels.
    :param labels: (B, h, w), written; `confidence` likewise.
    """
    tile -= tile.amax(dim=1, keepdim=True)
    if tile.device.type == 'cpu':  # PyTorch takes three times as long to compare and to raise
        scores = tile.numpy()
        wins = torch.from_numpy(scores == 0)
        for classes in scores.reshape(-1, 1, scores[0, 0].size):
            cv2.exp(classes, classes)
    else:
        wins = tile == 0
        tile.exp_()
    ranks = wins.to(from_last.dtype).mul_(from_last[:, None, None])
    # amax of what wins is many times faster than argmax
    torch.sub(from_last[0], ranks.amax(dim=1), out=labels)
    torch.reciprocal(tile.sum(dim=1), out=confidence)


@lru_cache(maxsize=16)
def _resampling(
    side: int, size: int, step: int, restore: Restore, device: torch.device
) -> list[tuple[slice, slice, Tensor]]:
    """
    Cut the resampling of `side` scores to `size` pixels into pieces of `step` pixels.

    :return: for each piece its pixels, the scores that they depend on, and the matrix between.
    """
    matrix = torch.eye(side)[None, None]  # resampled row by row, it becomes the operation itself
    matrix = F.interpolate(matrix, size=(2 * side, side), mode='bilinear', align_corners=True)
    mode, align_corners = restore.mode, restore.align_corners
    matrix = F.interpolate(matrix, (size, side), mode=mode, align_corners=align_corners)[0, 0]
    tiles = []
    for start in range(0, size, step):
        pixels = slice(start, min(start + step, size))
        used = matrix[pixels].abs().sum(dim=0).nonzero()
        span = slice(int(used.min()), int(used.max()) + 1)
        tiles.append((pixels, span, matrix[pixels, span].contiguous().to(device)))
    return tiles
