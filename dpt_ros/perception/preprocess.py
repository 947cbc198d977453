"""
From camera pixels to the network's input, on the device, as the weights' authors did it.

The image is resized as floats by a bicubic without antialiasing, which is what OpenCV's
INTER_CUBIC is and what the released weights were trained behind; then normalized.
"""

from collections.abc import Sequence
import math

from dpt_ros.zoo.checkpoints import Resize
import torch
from torch import Tensor
from torch.nn import functional as F


def network_size(width: int, height: int, resize: Resize) -> tuple[int, int]:
    """
    Choose the network's input size for an image, aspect kept.

    :return: width and height, each the multiple of `resize.multiple` nearest to the scaled side.
    """
    across, down = resize.width / width, resize.height / height
    scale = {
        'minimal': min(across, down, key=lambda s: (abs(1 - s), s is across)),
        'lower_bound': max(across, down),
        'upper_bound': min(across, down),
    }[resize.rule]

    def side(length: int, target: int) -> int:
        steps = scale * length / resize.multiple
        rounded = round(steps)
        if resize.rule == 'lower_bound' and rounded * resize.multiple < target:
            rounded = math.ceil(steps)
        if resize.rule == 'upper_bound' and rounded * resize.multiple > target:
            rounded = math.floor(steps)
        return max(rounded, 1) * resize.multiple

    return side(width, resize.width), side(height, resize.height)


def prepare(
    pixels: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """
    Resize and normalize.

    :param pixels: (B, H, W, 3) uint8, RGB.
    :param size: width and height of the network's input.
    :param mean: of R, G, B in [0, 1]; `std` likewise.
    :return: (B, 3, height, width) float32 on the same device.
    """
    image = pixels.permute(0, 3, 1, 2).float()
    if image.shape[-2:] != size[::-1]:
        image = F.interpolate(image, size=size[::-1], mode='bicubic', align_corners=False)
    means, stds = (torch.tensor(v, device=image.device)[:, None, None] for v in (mean, std))
    return torch.addcmul(-means / stds, image, 1 / (255 * stds))
