"""From the number that a depth head yields to metres along the optical axis."""

from dpt_ros.perception.resample import bicubic
from dpt_ros.zoo.checkpoints import (
    BoundedDepth,
    Checkpoint,
    InverseDepth,
    MetricDepth,
    RelativeDepth,
    Restore,
)
from torch import Tensor
from torch.nn import functional as F

FARTHEST = 1e8  # metres; a relative network may give inverse depth of zero and below


def depth_of_weights(raw: Tensor, entry: Checkpoint, size: tuple[int, int]) -> Tensor:
    """
    Read the output of a depth head and bring it to the size of the image.

    :param raw: (B, h, w), as the network gave it.
    :param size: (H, W).
    :return: (B, H, W) float32, metres; of relative weights inverse depth, in a unit of their own.
    """
    if entry.depth is None or isinstance(entry.depth, RelativeDepth):
        return restore_size(raw.float(), size, entry.restore)
    return restore_size(metres_of_weights(raw, entry.depth), size, entry.restore)


def metres_of_weights(raw: Tensor, depth: InverseDepth | BoundedDepth | MetricDepth) -> Tensor:
    """
    Convert the output of a depth head that was trained on metres.

    :param raw: (B, H, W), as the network gave it.
    :param depth: what the weights mean by it.
    :return: (B, H, W) float32, metres; never negative.
    """
    if isinstance(depth, BoundedDepth):
        return raw.float() * depth.maximum
    if isinstance(depth, MetricDepth):
        return (raw.float() + depth.minimum).clamp(depth.minimum, depth.maximum)
    return metres_of_inverse(raw.float(), depth.scale, depth.offset)


def metres_of_inverse(
    inverse: Tensor, factor: float | Tensor = 1.0, offset: float | Tensor = 0.0
) -> Tensor:
    """Return 1 / (factor * inverse + offset), (B, H, W) metres, never behind the camera."""
    return inverse.mul(factor).add_(offset).clamp_min_(1 / FARTHEST).reciprocal_()


def restore_size(depth: Tensor, size: tuple[int, int], restore: Restore) -> Tensor:
    """Resample (B, h, w) to (B, H, W) where (H, W) = `size`, as the weights' authors do."""
    if depth.shape[1:] == size:
        return depth
    if restore == Restore():
        return bicubic(depth[:, None], size)[:, 0]
    mode, align_corners = restore.mode, restore.align_corners
    return F.interpolate(depth[:, None], size, mode=mode, align_corners=align_corners)[:, 0]
