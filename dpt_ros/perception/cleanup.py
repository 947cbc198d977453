"""What of an estimated depth map must not be believed (REP 117)."""

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
