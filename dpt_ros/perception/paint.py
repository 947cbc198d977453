"""
Maps as pictures: tables of colors looked up, images blended, shares as bytes.

PyTorch does it on any device. On a CPU OpenCV, which works on bytes as they are, takes a quarter
of the time.
"""

import cv2
from dpt_ros.perception.bands import alone, in_bands, loops_for, room
import numpy as np
import torch
from torch import Tensor


def look_up(table: Tensor, indices: Tensor) -> Tensor:
    """Return the rows of a table, (N, ...), for indices (H, W): (H, W, ...)."""
    small = table.dtype == torch.uint8 == indices.dtype and table.shape == (256, 3)
    if small and indices.device.type == 'cpu':
        found = cv2.applyColorMap(indices.contiguous().numpy(), table[:, None].numpy())
        return torch.from_numpy(found)
    chosen = table.index_select(0, indices.flatten().int())
    return chosen.view(*indices.shape, *table.shape[1:])


def blend(image: Tensor, tint: Tensor, opacity: float, spare: Tensor | None = None) -> Tensor:
    """
    Mix two images.

    :param image: (H, W, 3) uint8; `tint` likewise.
    :param opacity: of the tint, from 0 to 1.
    :param spare: memory for the result, see `bands.room`.
    :return: (H, W, 3) uint8, within 1 of the exact mixture.
    """
    if image.device.type == 'cpu':
        below, above = image.contiguous().numpy(), tint.contiguous().numpy()
        mixed = room(spare, *image.shape, dtype=torch.uint8)
        cv2.addWeighted(below, 1 - opacity, above, opacity, 0, dst=mixed.numpy())
        return mixed
    return torch.lerp(image.float(), tint.float(), opacity).round_().to(torch.uint8)


def shade(depth: Tensor, table: Tensor, per_metre: float, spare: Tensor | None = None) -> Tensor:
    """
    Color depth; what is not finite is black.

    :param depth: (H, W) float32, metres.
    :param table: (256, 3) uint8; `per_metre` is how many of its rows a metre has.
    :param spare: memory for the result, see `bands.room`.
    :return: (H, W, 3) uint8.
    """
    if loops := loops_for(depth):
        painted = room(spare, *depth.shape, 3, dtype=torch.uint8)
        in_bands(loops.shade, len(depth), depth, table, np.float32(per_metre), painted)
        return painted
    steps = (depth * per_metre).nan_to_num_(0, 0).clamp_(0, 255)
    return look_up(table, steps.to(torch.uint8)) * depth.isfinite()[..., None]


def quantize(share: Tensor, spare: Tensor | None = None) -> Tensor:
    """
    Bring numbers from 0 to 1 to bytes.

    :param share: (H, W) float32.
    :param spare: memory for the result, see `bands.room`.
    :return: (H, W) uint8, 255 is 1.
    """
    if loops := loops_for(share):
        steps = room(spare, *share.shape, dtype=torch.uint8)
        alone(loops.quantize, len(share), share, steps)
        return steps
    return (share * 255).round_().to(torch.uint8)
