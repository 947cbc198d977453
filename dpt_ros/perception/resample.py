"""
Resampling of images as OpenCV and Pillow do it; pixel centers lie at halves.

Most of the released weights were trained behind OpenCV's bicubic on floats, without antialiasing.
PyTorch computes the same on any device; on a CPU loops (`loops.resample`) take a tenth of its
time. Hugging Face resizes with Pillow: bytes, antialiased.
"""

from functools import lru_cache
from typing import NamedTuple

from dpt_ros.perception.bands import in_bands, loops_for
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def resample(
    images: Tensor, size: tuple[int, int], mode: str = 'bicubic', align_corners: bool = False
) -> Tensor:
    """
    Resample images, without antialiasing.

    :param images: (B, C, h, w) float32.
    :param size: rows and columns wanted, (H, W).
    :param mode: 'bilinear' or 'bicubic'; `align_corners` as of PyTorch's `interpolate`.
    :return: (B, C, H, W) float32 on the same device.
    """
    if images.shape[-2:] == size:
        return images
    loops = None if images.requires_grad else loops_for(images)
    if loops is None:
        return F.interpolate(images, size, mode=mode, align_corners=align_corners)
    columns = neighbors(images.shape[-1], size[1], mode, align_corners)
    rows = neighbors(images.shape[-2], size[0], mode, align_corners)
    images = room_for(images, rows, columns)
    resampled = torch.empty(*images.shape[:2], *size)
    for image, target in zip(images.flatten(0, 1), resampled.flatten(0, 1), strict=True):
        in_bands(loops.resample, size[0], image, *columns, *rows, target)
    return resampled


class Taps(NamedTuple):
    """A resampling along one axis as weighted sums of T neighbors, as `loops` have it."""

    first: np.ndarray  # (size,) int32, the first neighbor of each result
    weights: np.ndarray  # (T, size) float32, of it and those that follow


@lru_cache(maxsize=32)
def neighbors(side: int, size: int, mode: str = 'bicubic', align_corners: bool = False) -> Taps:
    """Return what resampling `side` values to `size` sums up."""
    return taps(matrix_of(side, size, mode, align_corners))


def matrix_of(
    side: int, size: int, mode: str, align_corners: bool, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return resampling `side` values to `size` along one axis as a matrix, (size, side)."""
    each = torch.eye(side, dtype=dtype)[None, None]  # resampled row by row, it becomes that
    return F.interpolate(each, (size, side), mode=mode, align_corners=align_corners)[0, 0]


def reach(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return where in each row of a matrix that begins which is not zero, and where it stops."""
    used = (matrix != 0).int()
    return used.argmax(dim=1), matrix.shape[1] - used.flip(1).argmax(dim=1)


def taps(matrix: Tensor) -> Taps:
    """
    Write a resampling along one axis as sums.

    :param matrix: (size, side) float32, what becomes of each of `side` values.
    :return: T is a multiple of 4, and may be above `side`, see `room_for`.
    """
    first, stop = reach(matrix)
    count = -4 * (-int((stop - first).max()) // 4)
    matrix = F.pad(matrix, (0, max(0, count - matrix.shape[1])))
    first = first.clamp_max(matrix.shape[1] - count)
    weights = matrix.gather(1, first[:, None] + torch.arange(count))
    return Taps(first.int().numpy(), weights.T.contiguous().numpy())


def room_for(images: Tensor, rows: Taps, columns: Taps, step: int = 1) -> Tensor:
    """
    Append zeros where an image is smaller than what a sum takes in.

    :param images: (..., h, step * w).
    """
    lacking = [
        max(0, each * len(axis.weights) - side)
        for axis, side, each in ((columns, images.shape[-1], step), (rows, images.shape[-2], 1))
    ]
    return F.pad(images, (0, lacking[0], 0, lacking[1])) if any(lacking) else images


def antialiased(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """
    Resample images as Pillow does: filters widen where pixels become fewer, bytes are rounded.

    :param images: (B, C, h, w) uint8.
    :param size: rows and columns wanted, (H, W).
    :param mode: 'bilinear' or 'bicubic'.
    :return: (B, C, H, W) uint8, all but a few within 1 of Pillow's.
    """
    if images.shape[-2:] == size:
        return images
    if images.device.type == 'cpu':
        return F.interpolate(images, size, mode=mode, antialias=True)
    resampled = F.interpolate(images.float(), size, mode=mode, antialias=True)
    return resampled.round_().clamp_(0, 255).to(torch.uint8)
