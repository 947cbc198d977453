"""
From camera pixels to the network's input, on the device, as the weights' authors did it.

The image is resized, by the authors of most weights as floats and by a bicubic without
antialiasing, which is OpenCV's INTER_CUBIC; then normalized. Networks that take images at their
own size get a margin instead.
"""

from collections.abc import Sequence
from functools import lru_cache
import math

from dpt_ros.perception.bands import in_bands, loops_for, one_by_one
from dpt_ros.perception.resample import antialiased, neighbors, resample, room_for
from dpt_ros.zoo.checkpoints import Checkpoint, Resize
import torch
from torch import Tensor
from torch.nn import functional as F


@lru_cache(maxsize=16)
def network_size(width: int, height: int, resize: Resize) -> tuple[int, int]:
    """
    Choose the network's input size for an image.

    :return: width and height, each the multiple of `resize.multiple` nearest to the scaled side;
        the next one that has room for the side of the image ('native') or of the target
        ('stretch').
    """
    if resize.rule == 'native':
        return _round_up(width, resize.multiple), _round_up(height, resize.multiple)
    if resize.rule == 'stretch':
        target = resize.width, resize.height
        return _round_up(target[0], resize.multiple), _round_up(target[1], resize.multiple)
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


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def feed(pixels: Tensor, entry: Checkpoint, resize: Resize | None = None) -> Tensor:
    """
    Make the input of a network from images, as its authors do.

    :param pixels: (B, H, W, 3) uint8, RGB.
    :param resize: how they are brought to it; None: as the checkpoint tells.
    :return: (B, 3, height, width) float32 on the same device.
    """
    resize = resize or entry.resize
    size = network_size(pixels.shape[2], pixels.shape[1], resize)
    return prepare(
        pixels,
        size,
        entry.mean,
        entry.std,
        color_max=entry.color_max,
        native=resize.rule == 'native',
        interpolation=resize.interpolation,
    )


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # whoever learns may use them, too
def _normalization(
    mean: tuple[float, ...], std: tuple[float, ...], color_max: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what is added to colors from 0 to 255, and what they are multiplied by: (3,) each."""
    means, stds = (torch.tensor(v, device=device) for v in (mean, std))
    return -means / stds, color_max / (255 * stds)


def prepare(
    pixels: Tensor,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    color_max: float = 1.0,
    native: bool = False,
    interpolation: str = 'bicubic',
) -> Tensor:
    """
    Bring to size and normalize.

    :param pixels: (B, H, W, 3) uint8, RGB.
    :param size: width and height of the network's input.
    :param mean: of R, G, B from 0 to `color_max`; `std` likewise.
    :param native: put the image as it is into the middle of zeros, which are the mean color; an
        odd row or column more goes below or right. Else resize it.
    :param interpolation: which resizes it, one of the zoo's `INTERPOLATIONS`.
    :return: (B, 3, height, width) float32 on the same device.
    """
    offset, factor = _normalization(tuple(mean), tuple(std), color_max, pixels.device)
    resized = not native and interpolation == 'bicubic'
    if resized and pixels.dtype == torch.uint8 and (loops := loops_for(pixels)):
        columns = neighbors(pixels.shape[2], size[0])
        rows = neighbors(pixels.shape[1], size[1])
        wide = room_for(pixels.flatten(2), len(rows.weights), 3 * len(columns.weights))
        fed = torch.empty(len(pixels), size[1], size[0], 3)
        for one, target in one_by_one(wide, fed):
            in_bands(loops.feed, size[1], one, *columns, *rows, offset, factor, target)
        return fed.permute(0, 3, 1, 2)
    image = pixels.permute(0, 3, 1, 2)
    if resized:
        image = resample(image.float(), size[::-1])
    elif not native:
        image = antialiased(image, size[::-1], interpolation.removeprefix('antialiased_'))
    image = torch.addcmul(offset[:, None, None], image.float(), factor[:, None, None])
    if not native:
        return image
    across, down = size[0] - image.shape[-1], size[1] - image.shape[-2]
    return F.pad(image, (across // 2, across - across // 2, down // 2, down - down // 2))
