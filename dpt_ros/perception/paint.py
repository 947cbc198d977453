"""Maps as messages carry them: images tinted by class, depth as colors or whole millimetres."""

from dataclasses import dataclass
from functools import cached_property

from dpt_ros.perception.bands import in_bands, loops_for, room
import numpy as np
import torch
from torch import Tensor


def look_up(table: Tensor, indices: Tensor) -> Tensor:
    """Return the rows of a table, (N, ...), for indices (H, W): (H, W, ...)."""
    chosen = table.index_select(0, indices.flatten().int())
    return chosen.view(*indices.shape, *table.shape[1:])


@dataclass(frozen=True)
class Tints:
    """What each of N classes mixes into an image."""

    colors: Tensor  # (N, 3) uint8
    opacities: Tensor  # (N,) float32, from 0 to 1

    @cached_property
    def steps(self) -> tuple[np.ndarray, np.ndarray]:
        """What each class adds to a pixel and what it keeps of it, as `loops.tint` has them."""
        shares = (8192 * self.opacities.double().numpy()).round()
        parts = (self.colors.numpy() * shares[:, None] + 4096).astype(np.uint64)  # to be rounded
        red, green, blue = parts.T
        return red | green << 21 | blue << 42, (8192 - shares).astype(np.uint64)


def tint(image: Tensor, labels: Tensor, tints: Tints, spare: Tensor | None = None) -> Tensor:
    """
    Mix the color of its class into each pixel.

    :param image: (H, W, 3) uint8.
    :param labels: (H, W) integer, each one of the N of `tints`.
    :param spare: memory for the result, see `bands.room`.
    :return: (H, W, 3) uint8, within 1 of the exact mixture.
    """
    if loops := loops_for(image):
        tinted = room(spare, *image.shape, dtype=torch.uint8)
        in_bands(loops.tint, image.shape[0], image, labels, *tints.steps, tinted)
        return tinted
    share = look_up(tints.opacities, labels)[..., None]
    return torch.lerp(image.float(), look_up(tints.colors, labels).float(), share).round_().byte()


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
        in_bands(loops.shade, depth.shape[0], depth, table, np.float32(per_metre), painted)
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
        in_bands(loops.quantize, share.shape[0], share, steps)
        return steps
    return (share * 255).round_().to(torch.uint8)


def millimetres(depth: Tensor, spare: Tensor | None = None) -> Tensor:
    """
    Bring metres to whole millimetres.

    :param depth: (H, W) float32, not negative.
    :param spare: memory for the result, see `bands.room`.
    :return: (H, W) uint16; 0: not finite, or 65.535 m and more.
    """
    if loops := loops_for(depth):
        whole = room(spare, *depth.shape, dtype=torch.uint16)
        in_bands(loops.round_millimetres, depth.shape[0], depth, whole)
        return whole
    rounded = (depth * 1000).nan_to_num_(0, 0, 0).round_()
    return rounded.masked_fill_(rounded >= 65535, 0).to(torch.uint16)


def fill(depth: Tensor, value: float, spare: Tensor | None = None) -> Tensor:
    """Put a value where depth, (H, W) float32, is not finite; `spare` as in `millimetres`."""
    if loops := loops_for(depth):
        filled = room(spare, *depth.shape)
        in_bands(loops.fill, depth.shape[0], depth, np.float32(value), filled)
        return filled
    return depth.masked_fill(~depth.isfinite(), value)
