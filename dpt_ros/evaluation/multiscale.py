"""
Labels by the mean over sizes, crops and mirror images, which is how Table 4 of DPT was made.

The protocol is PyTorch-Encoding's (its MultiEvalModule, with the sizes of its test.py): the image
is brought to seven sizes by a bilinear with aligned corners, black is added up to a crop's
side, overlapping crops go through the network together with their mirror images, exp of the sum
of both scores is averaged where crops overlap, and the maps of all sizes are added up at the
image's own size.
"""

from collections.abc import Callable
from itertools import product
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Scores = Callable[[Tensor], Tensor]  # (B, 3, H, W) RGB, 0 to 255 -> (B, K, H / 2, W / 2)

SIZES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)  # times `LONGER`
LONGER = 520  # pixels of the longer side
CROP = 480  # pixels of a crop's sides
STEP = 2 / 3  # from a crop to the next, times `CROP`


def multiscale_labels(
    scores: Scores,
    rgb: np.ndarray,
    device: torch.device,
    *,
    sizes: tuple[float, ...] = SIZES,
    longer: int = LONGER,
    crop: int = CROP,
) -> np.ndarray:
    """
    Find the class of each pixel.

    :param scores: the network, see `Perception.scores`.
    :param rgb: (H, W, 3) uint8.
    :return: (H, W) int64.
    """
    image = torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None].float()
    rows, columns = rgb.shape[:2]
    total = torch.zeros(())
    for size in sizes:
        resized = _resize(image, *sides(rows, columns, math.ceil(longer * size)))
        total = total.to(device) + _resize(tiled(scores, resized, crop), rows, columns)
    return total.argmax(dim=1)[0].cpu().numpy()


def sides(rows: int, columns: int, longer: int) -> tuple[int, int]:
    """Return rows and columns of an image whose longer side becomes `longer`."""
    if rows > columns:
        return longer, int(columns * longer / rows + 0.5)
    return int(rows * longer / columns + 0.5), longer


def tiled(scores: Scores, image: Tensor, crop: int) -> Tensor:
    """Average over the crops of (1, 3, H, W): (1, K, H, W) float64, exp of summed scores."""
    rows, columns = image.shape[2:]
    image = _pad(image, crop)
    total, count = torch.zeros(()), torch.zeros(image.shape[2:], device=image.device)
    for top, left in product(starts(image.shape[2], crop), starts(image.shape[3], crop)):
        bottom, right = top + crop, left + crop
        part = image[:, :, top:bottom, left:right]
        height, width = part.shape[2:]
        mass = mirrored(scores, _pad(part, crop))[:, :, :height, :width]
        if not total.ndim:
            total = mass.new_zeros((1, mass.shape[1], *image.shape[2:]))
        total[:, :, top:bottom, left:right] += mass
        count[top:bottom, left:right] += 1
    return (total / count)[:, :, :rows, :columns]


def starts(side: int, crop: int) -> list[int]:
    """Return where crops begin along a side; the last one may reach past its end."""
    step = int(crop * STEP)
    return [step * index for index in range(math.ceil((side - crop) / step) + 1)]


def mirrored(scores: Scores, image: Tensor) -> Tensor:
    """Add up the scores of an image (1, 3, H, W) and of its mirror image; exp, (1, K, H, W)."""
    half = scores(torch.cat((image, image.flip(3))))
    full = _resize(half, *image.shape[2:]).double()  # exp of a sum is too much for float32
    return (full[:1] + full[1:].flip(3)).exp()


def _resize(image: Tensor, rows: int, columns: int) -> Tensor:
    return F.interpolate(image, (rows, columns), mode='bilinear', align_corners=True)


def _pad(image: Tensor, crop: int) -> Tensor:
    """Add black on the right and below, up to `crop`."""
    down, across = (max(0, crop - side) for side in image.shape[2:])
    return F.pad(image, (0, across, 0, down))
