"""
What of an estimated depth map must not be believed (REP 117).

Shapes: B batch, (H, W) the map.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_STRAIGHT = 0.04  # how far off its neighbors' line a pixel still is on it, of its inverse depth


def clean(depth: Tensor, sky: Tensor | None, near: float, far: float) -> Tensor:
    """
    Mark what is out of range.

    :param depth: (B, H, W) float32, metres.
    :param sky: (B, H, W) bool, pixels that see no surface at all; None where nobody can tell.
    :param near: nearer becomes NaN: unknown.
    :param far: farther becomes +Inf, as the sky does: nothing within range.
    """
    nothing = depth > far
    if sky is not None:
        nothing |= sky
    below = torch.nextafter(torch.tensor(near), torch.tensor(-torch.inf)).item()
    return F.threshold(depth, below, torch.nan).masked_fill_(nothing, torch.inf)


def flying(depth: Tensor, rays: Tensor, degrees: float, reach: int) -> Tensor:
    """
    Find pixels that float between a near surface and a far one.

    Networks draw a depth edge as a ramp. Its pixels would be a surface that is seen almost along
    its own plane, under less than `degrees`, on both sides; a real edge is steep on one side only.
    A floor far away is seen like that too, but is flat: along a row or column of the image inverse
    depth of a plane is a straight line, and pixels on the line of their neighbors are believed.

    :param depth: (H, W) float32, metres; what is not finite has no sides.
    :param rays: (2, H, W) float32, x / z and y / z of each pixel.
    :param degrees: smallest angle between ray and surface that is believed; 0: all of them.
    :param reach: distance to the neighbors that make the line, pixels: half the width of a ramp.
    :return: (H, W) bool.
    """
    found = torch.zeros(depth.shape, dtype=torch.bool, device=depth.device)
    inverse, tangent = 1 / depth, math.tan(math.radians(degrees))
    for axis in (0, 1):
        size = depth.shape[axis]
        if size < 3:
            continue
        rise = depth.diff(dim=axis) * tangent
        step = rays[1 - axis].diff(dim=axis).abs()  # the first of the rays runs along columns
        step = step * torch.minimum(
            depth.narrow(axis, 0, size - 1), depth.narrow(axis, 1, size - 1)
        )
        up, down = rise > step, rise < -step
        ramp = torch.zeros_like(found)
        inner = ramp.narrow(axis, 1, size - 2)
        for steep in (up, down):
            inner |= steep.narrow(axis, 0, size - 2) & steep.narrow(axis, 1, size - 2)
        straight = _in_line(inverse, axis, reach)
        straight &= _in_line(inverse, axis, 2 * reach)
        found |= ramp & ~straight
    return found


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
