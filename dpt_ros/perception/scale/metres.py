"""From the number that a depth head yields to metres along the optical axis."""

import math

from dpt_ros.perception.bands import in_bands, loops_for, one_by_one
from dpt_ros.perception.resample import resample
from dpt_ros.zoo.checkpoints import (
    BoundedDepth,
    Checkpoint,
    Depth,
    InverseDepth,
    MetricDepth,
    RelativeDepth,
    Restore,
)
import numpy as np
import torch
from torch import Tensor

FARTHEST = 1e8  # metres; a relative network may give inverse depth of zero and below


def depth_of_weights(raw: Tensor, entry: Checkpoint, size: tuple[int, int]) -> Tensor:
    """
    Read the output of a depth head and bring it to the size of the image.

    :param raw: (B, h, w), as the network gave it.
    :param size: (H, W).
    :return: (B, H, W) float32, metres; of relative weights inverse depth, in a unit of their own.
    """
    depth = entry.depth or RelativeDepth()
    return restore_size(metres_of_weights(raw, depth), size, entry.restore)


def metres_of_weights(raw: Tensor, depth: Depth) -> Tensor:
    """
    Convert the output of a depth head to metres.

    :param raw: (B, H, W), as the network gave it.
    :param depth: what the weights mean by it.
    :return: (B, H, W) float32, metres, never negative, and NaN where the network gave no finite
        number, lest that pass for far; of relative weights the number itself.
    """
    if isinstance(depth, InverseDepth):
        return metres_of_inverse(raw, depth.scale, depth.offset)
    if isinstance(depth, BoundedDepth):
        return _convert(raw, factor=depth.maximum)
    if isinstance(depth, MetricDepth):
        nearest, farthest = depth.minimum, depth.maximum
        return _convert(raw, offset=nearest, lowest=nearest, highest=farthest)
    return _convert(raw)


def metres_of_inverse(
    inverse: Tensor, factor: float | Tensor = 1.0, offset: float | Tensor = 0.0
) -> Tensor:
    """
    Return 1 / (factor * inverse + offset), (B, H, W) metres, never behind the camera.

    NaN where `inverse` is not finite.
    """
    return _convert(inverse, factor, offset, lowest=1 / FARTHEST, inverted=True)


def _convert(
    raw: Tensor,
    factor: float | Tensor = 1.0,
    offset: float | Tensor = 0.0,
    lowest: float = -math.inf,
    highest: float = math.inf,
    *,
    inverted: bool = False,
) -> Tensor:
    """Return factor * raw + offset within limits, float32; NaN where `raw` is not finite."""
    raw = raw.float()
    loops = None if raw.requires_grad else loops_for(raw)
    if loops is None:
        found = raw.mul(0).add_(raw).mul_(factor).add_(offset).clamp_(lowest, highest)
        return found.reciprocal_() if inverted else found
    found = torch.empty(raw.shape)
    numbers = *(np.float32(one) for one in (factor, offset, lowest, highest)), inverted
    high, wide = raw.shape[-2:] if raw.ndim > 1 else (1, raw.numel())
    for image, target in one_by_one(raw.reshape(-1, high, wide), found.view(-1, high, wide)):
        in_bands(loops.convert, high, image, *numbers, target)
    return found


def restore_size(depth: Tensor, size: tuple[int, int], restore: Restore) -> Tensor:
    """Resample (B, h, w) to (B, H, W) where (H, W) = `size`, as the weights' authors do."""
    return resample(depth[:, None], size, restore.mode, restore.align_corners)[:, 0]
