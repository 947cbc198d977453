"""
Depth at rest where the image is at rest: networks flicker by percents on the noise of a sensor.

Averaging lags behind what moves, so it happens only where the image did not change, and nowhere
while the camera moves: a white wall looks the same from nearer.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 4  # pixels, over which the noise of a sensor is averaged away
CHANGE = 5.0  # of 255, in the mean of a block
STILL = 0.6  # share of the image that must not change, or the camera is moving


class Steadiness:
    """Remembers the last image and depth of each camera."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._last: dict[str, tuple[Tensor, Tensor]] = {}

    def forget(self, source: str) -> None:
        """Begin anew with the next frame of a camera."""
        self._last.pop(source, None)

    def __call__(self, source: str, depth: Tensor, colors: Tensor, share: float) -> Tensor:
        """
        Average the inverse depth of pixels that did not change over time.

        :param depth: (H, W) float32, metres; what is not finite, now or before, is not averaged.
        :param colors: (H, W, 3) uint8, the image.
        :param share: of what was there before; 0: nothing is done.
        :return: (H, W) float32, metres.
        """
        if not share:
            self.forget(source)
            return depth
        gray = colors.float().mean(dim=-1)[None, None]
        gray = F.avg_pool2d(gray, BLOCK, ceil_mode=True, count_include_pad=False)
        last = self._last.get(source)
        if last is not None and last[1].shape == depth.shape:
            changed = ((gray - last[0]).abs() > CHANGE).float()
            still = 1 - F.max_pool2d(changed, 3, stride=1, padding=1)  # with a margin
            still = still * (changed.mean() < 1 - STILL)
            still = still.repeat_interleave(BLOCK, -2).repeat_interleave(BLOCK, -1)[0, 0]
            still = still[: depth.shape[0], : depth.shape[1]].bool()
            still &= depth.isfinite() & last[1].isfinite()
            depth = torch.where(still, 1 / (share / last[1] + (1 - share) / depth), depth)
        self._last[source] = gray, depth.clone()  # who gets the depth may write to it
        return depth
