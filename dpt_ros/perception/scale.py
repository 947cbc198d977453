"""From the number that a depth head yields to metres along the optical axis."""

from dpt_ros.perception.resample import bicubic
from dpt_ros.zoo.checkpoints import (
    BoundedDepth,
    Depth,
    InverseDepth,
    MetricDepth,
    RelativeDepth,
    Restore,
)
from torch import Tensor
from torch.nn import functional as F

MODES = ('model', 'fixed', 'none')


def check_mode(mode: str, depth: Depth, name: str) -> None:
    """Refuse a scale mode that cannot turn the output of model `name` into metres."""
    if mode == 'model' and isinstance(depth, RelativeDepth):
        raise ValueError(
            f"{name} gives relative depth, so scale.mode 'model' has no metres to give: choose "
            "'fixed' (with scale.factor and scale.offset) or 'none' (inverse depth only), or a "
            'metric model'
        )
    if mode == 'none' and not isinstance(depth, RelativeDepth):
        raise ValueError(
            f"{name} gives metres by itself, so scale.mode 'none' has no inverse depth to give: "
            "choose 'model'"
        )
    if mode == 'fixed' and not isinstance(depth, RelativeDepth):
        raise ValueError(
            f"{name} gives metres by itself, so scale.mode 'fixed' would scale them twice: choose "
            "'model'"
        )


def metres(raw: Tensor, depth: Depth, factor: float, offset: float) -> Tensor:
    """
    Convert the output of a depth head.

    :param raw: (B, H, W), as the network gave it.
    :param depth: what the weights mean by it.
    :param factor: with relative weights, 1 / depth = factor * raw + offset.
    :return: (B, H, W) float32, metres; never negative.
    """
    if isinstance(depth, BoundedDepth):
        return raw.float() * depth.maximum
    if isinstance(depth, MetricDepth):
        return (raw.float() + depth.minimum).clamp(depth.minimum, depth.maximum)
    if isinstance(depth, InverseDepth):
        factor, offset = depth.scale, depth.offset
    return 1 / (factor * raw.float() + offset).clamp_min(1e-8)


def restore_size(depth: Tensor, size: tuple[int, int], restore: Restore) -> Tensor:
    """Resample (B, h, w) to (B, H, W) where (H, W) = `size`, as the weights' authors do."""
    if depth.shape[1:] == size:
        return depth
    if restore == Restore():
        return bicubic(depth[:, None], size)[:, 0]
    mode, align_corners = restore.mode, restore.align_corners
    return F.interpolate(depth[:, None], size, mode=mode, align_corners=align_corners)[:, 0]
