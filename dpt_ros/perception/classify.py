"""
Class scores -> the winner of each pixel and its probability, at any size, tile by tile.

The published networks upsample their scores by two (bilinear, corners aligned) and then to the
image (bicubic), which for 150 classes at 720p is half a gigabyte. Both steps are linear and
separable, so together they are one small matrix for rows and one for columns; applied to a tile
at a time, nothing larger than a tile of scores exists.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 96  # pixels of the output along a tile's side


def classify(scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """
    Find the class of each pixel.

    :param scores: (B, K, h, w), half the network's resolution (`model.heads.SegmentationHead`).
    :param size: (H, W) of the result.
    :return: labels (B, H, W) int64 and the softmax probability of each, (B, H, W) float32.
    """
    batch, _, rows, columns = scores.shape
    labels = torch.empty((batch, *size), dtype=torch.int64, device=scores.device)
    confidence = torch.empty((batch, *size), device=scores.device)
    for down, above, rows_matrix in _tiles(rows, size[0], scores.device):
        for across, beside, columns_matrix in _tiles(columns, size[1], scores.device):
            tile = scores[:, :, above, beside].float()
            tile = rows_matrix @ (tile @ columns_matrix.T)  # (B, K, rows, columns) of the tile
            best, labels[:, down, across] = tile.max(dim=1)
            confidence[:, down, across] = 1 / (tile - best[:, None]).exp_().sum(dim=1)
    return labels, confidence


@lru_cache(maxsize=16)
def _tiles(side: int, size: int, device: torch.device) -> list[tuple[slice, slice, Tensor]]:
    """
    Cut the resampling of `side` scores to `size` pixels into tiles.

    :return: for each tile its pixels, the scores that they depend on, and the matrix between.
    """
    matrix = torch.eye(side)[None, None]  # resampled row by row, it becomes the operation itself
    matrix = F.interpolate(matrix, size=(2 * side, side), mode='bilinear', align_corners=True)
    matrix = F.interpolate(matrix, size=(size, side), mode='bicubic', align_corners=False)[0, 0]
    tiles = []
    for start in range(0, size, TILE):
        pixels = slice(start, min(start + TILE, size))
        used = matrix[pixels].abs().sum(dim=0).nonzero()
        span = slice(int(used.min()), int(used.max()) + 1)
        tiles.append((pixels, span, matrix[pixels, span].contiguous().to(device)))
    return tiles
