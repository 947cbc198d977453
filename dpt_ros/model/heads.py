"""
Heads: what is read off the fused map. One class each; `provides` names what it yields.

Shapes: B batch, F decoder width, K classes, (H, W) the network's input in pixels.
"""

from collections.abc import Sequence

from torch import nn, Tensor
from torch.nn import functional as F


class DepthHead(nn.Module):
    """One number a pixel, not negative; what it means is a matter of the weights."""

    provides = 'depth'

    def __init__(self, width: int, *, hidden: int = 32, bounded: bool = False):
        """
        Build the paper's head over F = `width`.

        :param hidden: channels before the last convolution.
        :param bounded: end in a sigmoid, for weights that give a share of a maximal depth, rather
            than in a ReLU.
        """
        super().__init__()
        self.narrow = nn.Conv2d(width, width // 2, 3, padding=1)
        self.hidden = nn.Conv2d(width // 2, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, 1, 1)
        self.last = nn.Sigmoid() if bounded else nn.ReLU()

    def forward(self, fused: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Map the finest of `fused`, (B, F, h, w), to (B, H, W) where (H, W) = `size`."""
        x = F.interpolate(self.narrow(fused[-1]), size=size, mode='bilinear', align_corners=True)
        return self.last(self.out(F.relu_(self.hidden(x)))).squeeze(1)


class ProjectedDepthHead(DepthHead):
    """
    The head of DINOv2: one convolution more, and a map twice the size of the fused one.

    That is not the size of the image, as the patches have 14 pixels: whoever uses the depth
    resamples it (bilinear, half-pixel centers).
    """

    def __init__(self, width: int):
        """Build the head over F = `width`."""
        super().__init__(width)
        self.project = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, fused: Sequence[Tensor], size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Map the finest of `fused`, (B, F, h, w), to (B, 2 h, 2 w)."""
        height, width = fused[-1].shape[-2:]
        return super().forward([F.relu_(self.project(fused[-1]))], (2 * height, 2 * width))


class SegmentationHead(nn.Module):
    """
    Class scores at half the network's resolution.

    The published networks end in a bilinear upsampling by two (corners aligned). It is left to
    whoever uses the scores, who resamples them anyway: `perception.classify` does both at once.
    """

    provides = 'segmentation'

    def __init__(self, width: int, classes: int, *, auxiliary: bool = False):
        """
        Build the paper's head over F = `width` for K = `classes`.

        :param auxiliary: add the head of training over the fused map at stride 4.
        """
        super().__init__()
        self.scores = _classifier(width, classes)
        self.auxiliary = _classifier(width, classes) if auxiliary else None

    def forward(self, fused: Sequence[Tensor], size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Map the finest of `fused`, (B, F, H / 2, W / 2), to scores (B, K, H / 2, W / 2)."""
        return self.scores(fused[-1])

    def auxiliary_scores(self, fused: Sequence[Tensor]) -> Tensor:
        """Map the second finest of `fused` to scores (B, K, H / 4, W / 4), for training."""
        if self.auxiliary is None:
            raise ValueError('this head was built for inference; build it with auxiliary=True')
        return self.auxiliary(fused[-2])


def _classifier(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(width, classes, 1),
    )
