"""
Resampling of images as OpenCV and Pillow do it; pixel centers lie at halves.

Most of the released weights were trained behind OpenCV's bicubic on floats, without antialiasing.
PyTorch computes the same on any device, to a ten-thousandth of the range; on a CPU OpenCV takes
an eighth of the time. Hugging Face resizes with Pillow: bytes, antialiased.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """
    Resample images.

    :param images: (B, C, h, w) float32.
    :param size: rows and columns wanted, (H, W).
    :return: (B, C, H, W) float32 on the same device.
    """
    if images.shape[-2:] == size:
        return images
    if images.device.type != 'cpu' or images.requires_grad:
        return F.interpolate(images, size, mode='bicubic', align_corners=False)
    rows, columns = size
    resampled = np.empty((len(images), rows, columns, images.shape[1]), np.float32)
    for image, target in zip(images, resampled, strict=True):
        source = image.permute(1, 2, 0).contiguous().numpy()
        cv2.resize(source, (columns, rows), dst=target, interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(resampled).permute(0, 3, 1, 2)


def taps(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """
    Write a resampling along one axis as weighted sums of T neighbors, as `loops` have it.

    :param matrix: (size, side) float32, what becomes of each of `side` values.
    :return: the first neighbor of each of the `size` results, (size,) int32, and the weights of it
        and those that follow, (size, T) float32; T is a multiple of 4, and may be above `side`.
    """
    side = matrix.shape[1]
    used = (matrix != 0).int()
    first, stop = used.argmax(dim=1), side - used.flip(1).argmax(dim=1)
    count = -4 * (-int((stop - first).max()) // 4)
    matrix = F.pad(matrix, (0, max(0, count - side)))
    first = first.clamp_max(matrix.shape[1] - count)
    return first.int(), matrix.gather(1, first[:, None] + torch.arange(count))


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
