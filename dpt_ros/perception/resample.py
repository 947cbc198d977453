"""
Resampling of images as OpenCV and Pillow do it; pixel centers lie at halves.

Most of the released weights were trained behind OpenCV's bicubic on floats, without antialiasing.
PyTorch computes the same on any device; on a CPU loops (`loops.resample`) take a tenth of its
time. Hugging Face resizes with Pillow: bytes, antialiased.
"""

from functools import lru_cache
from typing import NamedTuple

from dpt_ros.perception.bands import catch_up, in_bands, loops_for, one_by_one
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 16  # results along an axis that are computed at once


def resample(
    images: Tensor, size: tuple[int, int], mode: str = 'bicubic', align_corners: bool = False
) -> Tensor:
    """
    Resample images, without antialiasing.

    :param images: (B, C, h, w) float32.
    :param size: rows and columns wanted, (H, W).
    :param mode: 'bilinear' or 'bicubic'; `align_corners` as of PyTorch's `interpolate`.
    :return: (B, C, H, W) float32 on the same device. What is not finite takes its neighbors with
        it; the loops compute `BLOCK` of a row by the same values.
    """
    if images.shape[-2:] == size:
        return images
    loops = None if images.requires_grad else loops_for(images)
    if loops is None:
        return F.interpolate(images, size, mode=mode, align_corners=align_corners)
    columns = _blocks(images.shape[-1], size[1], mode, align_corners)
    rows = neighbors(images.shape[-2], size[0], mode, align_corners)
    images = room_for(images, len(rows.weights), columns.weights.shape[1])
    resampled = torch.empty(*images.shape[:2], *size)
    for image, target in one_by_one(images.flatten(0, 1), resampled.flatten(0, 1)):
        in_bands(loops.resample, size[0], image, *columns, *rows, target)
    return resampled


class Taps(NamedTuple):
    """A resampling along one axis as weighted sums of T neighbors, as `loops` have it."""

    first: np.ndarray  # (size,) int32, the first neighbor of each result
    weights: np.ndarray  # (T, size) float32, of it and those that follow


class Blocks(NamedTuple):
    """The same, `BLOCK` results at a time: a small matrix makes them of R values in a row."""

    first: np.ndarray  # (N,) int64, the first value of each block
    weights: np.ndarray  # (N, R, BLOCK) float32; R is a multiple of 4


@lru_cache(maxsize=32)
def _blocks(side: int, size: int, mode: str, align_corners: bool) -> Blocks:
    return blocks(matrix_of(side, size, mode, align_corners))


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
    first, weights = _gathered(matrix[:, None])
    return Taps(first.int().numpy(), weights[:, 0].T.contiguous().numpy())


def blocks(matrix: Tensor) -> Blocks:
    """
    Write a resampling along one axis as small matrices; for the argument see `taps`.

    :return: R may be above `side`; results beyond `size` are zeros.
    """
    beyond = -len(matrix) % BLOCK
    first, weights = _gathered(F.pad(matrix, (0, 0, 0, beyond)).unflatten(0, (-1, BLOCK)))
    return Blocks(first.numpy(), weights.mT.contiguous().numpy())


def _gathered(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """
    Leave out what is zero.

    :param matrices: (N, results, side) float32.
    :return: where in each of them that begins which is not zero, (N,); and it, (N, results, T),
        where T is the next multiple of 4.
    """
    first, stop = reach(matrices.abs().sum(dim=1))
    count = -4 * (-int((stop - first).max()) // 4)
    matrices = F.pad(matrices, (0, max(0, count - matrices.shape[2])))
    first = first.clamp_max(matrices.shape[2] - count)
    columns = first[:, None, None] + torch.arange(count)
    return first, matrices.gather(2, columns.expand(-1, matrices.shape[1], -1))


def room_for(images: Tensor, rows: int, columns: int) -> Tensor:
    """Append zeros where images, (..., h, w), are smaller than what a sum takes in."""
    lacking = max(0, columns - images.shape[-1]), max(0, rows - images.shape[-2])
    if not any(lacking):
        return images
    catch_up()  # with what writes them
    return F.pad(images, (0, lacking[0], 0, lacking[1]))


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
