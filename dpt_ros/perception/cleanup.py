"""
What of an estimated depth map must not be believed (REP 117).

Shapes: B batch, (H, W) the map.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


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


def flying(depth: Tensor, rays: Tensor, degrees: float) -> Tensor:
    """
    Find pixels that float between a near surface and a far one.

    Networks draw a depth edge as a ramp. Its pixels would be a surface that is seen almost along
    its own plane, under less than `degrees`, on both sides; a real edge is steep on one side only.

    :param depth: (H, W) float32, metres; what is not finite has no sides.
    :param rays: (2, H, W) float32, x / z and y / z of each pixel.
    :param degrees: smallest angle between ray and surface that is believed; 0: all of them.
    :return: (H, W) bool.
    """
    found = torch.zeros(depth.shape, dtype=torch.bool, device=depth.device)
    tangent = math.tan(math.radians(degrees))
    for axis in (0, 1):
        size = depth.shape[axis]
        rise = depth.diff(dim=axis) * tangent
        step = rays[1 - axis].diff(dim=axis).abs()  # the first of the rays runs along columns
        step = step * torch.minimum(
            depth.narrow(axis, 0, size - 1), depth.narrow(axis, 1, size - 1)
        )
        up, down = rise > step, rise < -step
        if size > 2:
            inner = found.narrow(axis, 1, size - 2)
            for steep in (up, down):
                inner |= steep.narrow(axis, 0, size - 2) & steep.narrow(axis, 1, size - 2)
    return found
