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
    """Remembers what `calm` gave of the last image of each camera."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._last: dict[str, tuple[Tensor, Tensor]] = {}

    def forget(self, source: str) -> None:
        """Begin anew with the next frame of a camera."""
        self._last.pop(source, None)

    def last(self, source: str, size: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
        """Return gray and depth of a camera's last image, if they are of that size (H, W)."""
        last = self._last.get(source)
        return last if last is not None and last[1].shape == size else None

    def keep(self, source: str, gray: Tensor, depth: Tensor) -> None:
        """Remember what `calm` gave; both are nobody else's."""
        self._last[source] = gray, depth


def calm(
    depth: Tensor, colors: Tensor, last: tuple[Tensor, Tensor] | None, share: float
) -> tuple[Tensor, Tensor]:
    """
    Average the inverse depth of pixels that did not change over time.

    :param depth: (H, W) float32, metres; what is not finite, now or before, is not averaged.
    :param colors: (H, W, 3) uint8, the image.
    :param last: gray of the last image, as returned, and its depth as averaged; None: no last one.
    :param share: of what was there before, above 0.
    :return: depth (H, W) float32, metres; and gray, means of blocks of the image.
    """
    gray = colors.float().mean(dim=-1)[None, None]
    gray = F.avg_pool2d(gray, BLOCK, ceil_mode=True, count_include_pad=False)
    if last is None:
        return depth, gray
    before_gray, before = last
    changed = ((gray - before_gray).abs() > CHANGE).float()
    still = 1 - F.max_pool2d(changed, 3, stride=1, padding=1)  # with a margin
    still = still * (changed.mean() < 1 - STILL)
    still = still.repeat_interleave(BLOCK, -2).repeat_interleave(BLOCK, -1)[0, 0]
    still = still[: depth.shape[0], : depth.shape[1]].bool()
    still &= depth.isfinite() & before.isfinite()
    return torch.where(still, 1 / (share / before + (1 - share) / depth), depth), gray
