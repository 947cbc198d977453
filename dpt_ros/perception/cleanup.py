"""What of an estimated depth map, (H, W), must not be believed (REP 117)."""

from functools import lru_cache
import math

from dpt_ros.perception.bands import in_bands, loops_for, room
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_STRAIGHT = 0.04  # how far off its neighbors' line a pixel still is on it, of its inverse depth


def clean(depth: Tensor, sky: Tensor | None, near: float, far: float) -> Tensor:
    """
    Mark what is out of range.

    :param depth: (H, W) float32, metres.
    :param sky: (H, W) bool, pixels that see no surface at all; None where nobody can tell.
    :param near: nearer becomes NaN: unknown.
    :param far: farther becomes +Inf, as the sky does: nothing within range.
    """
    below = _just_below(near)
    if loops := loops_for(depth):
        cleaned = torch.empty(depth.shape)
        in_bands(loops.clean, depth.shape[0], depth, sky, cleaned, below, np.float32(far))
        return cleaned
    nothing = depth > far
    if sky is not None:
        nothing |= sky
    return F.threshold(depth, below.item(), torch.nan).masked_fill_(nothing, torch.inf)


@lru_cache(maxsize=4)
def _just_below(number: float) -> np.float32:
    return np.nextafter(np.float32(number), np.float32(-np.inf))


def cut_flying(
    depth: Tensor, rays: Tensor, degrees: float, reach: int, spare: Tensor | None = None
) -> Tensor:
    """
    Take out pixels that float between a near surface and a far one.

    Networks draw a depth edge as a ramp. Its pixels would be a surface that is seen almost along
    its own plane, under less than `degrees`, on both sides; a real edge is steep on one side only.
    A floor far away is seen like that too, but is flat: along a row or column of the image inverse
    depth of a plane is a straight line, and pixels on the line of their neighbors are believed.

    :param depth: (H, W) float32, metres; what is not finite has no sides.
    :param rays: (2, H, W) float32, x / z and y / z of each pixel.
    :param degrees: smallest angle between ray and surface that is believed; 0: all of them.
    :param reach: distance to the neighbors that make the line, pixels: half the width of a ramp.
    :param spare: memory for the result, see `bands.room`.
    :return: (H, W) float32, NaN where a pixel floats.
    """
    tangent = math.tan(math.radians(degrees))
    if loops := loops_for(depth):
        kept = room(spare, *depth.shape)
        numbers = np.float32(tangent), reach, np.float32(1 / _STRAIGHT)
        in_bands(loops.cut_flying, depth.shape[0], depth, rays, *numbers, kept)
        return kept
    found, inverse = torch.zeros(depth.shape, dtype=torch.bool, device=depth.device), 1 / depth
    for axis in (0, 1):
        pairs = depth.shape[axis] - 1
        if pairs < 2:
            continue
        one, other = depth.narrow(axis, 0, pairs), depth.narrow(axis, 1, pairs)
        step = rays[1 - axis].diff(dim=axis).abs_()  # the first of the rays runs along columns
        slope = (other - one).div_(torch.minimum(one, other).mul_(step)).mul_(tangent)
        before, after = slope.narrow(axis, 0, pairs - 1), slope.narrow(axis, 1, pairs - 1)
        climbs, falls = torch.minimum(before, after), torch.maximum(before, after).neg_()
        ramp = torch.zeros_like(found)
        torch.gt(torch.maximum(climbs, falls), 1, out=ramp.narrow(axis, 1, pairs - 1))
        straight = _in_line(inverse, axis, reach)
        straight &= _in_line(inverse, axis, 2 * reach)
        found |= ramp & ~straight
    return depth.masked_fill(found, torch.nan)


def _in_line(inverse: Tensor, axis: int, reach: int) -> Tensor:
    """Find pixels of (H, W) on a straight line with those one and two steps to either side."""
    size = inverse.shape[axis]
    found = torch.zeros(inverse.shape, dtype=torch.bool, device=inverse.device)
    if (inner := size - 2 * reach) > 0:  # nobody is in line with what is not there
        first, middle, last = (inverse.narrow(axis, k * reach, inner) for k in range(3))
        bend = torch.sub(first, middle, alpha=2).add_(last).abs_().mul_(1 / _STRAIGHT)
        torch.le(bend, first, out=found.narrow(axis, 0, inner))
        found.narrow(axis, 2 * reach, inner).logical_or_(bend <= last)
    return found
