"""
Heads: what is read off the fused map. One class each; `provides` names what it yields.

Shapes: B batch, F decoder width, K classes, (H, W) the network's input in pixels.
"""

from collections.abc import Sequence

from torch import nn, Tensor
from torch.nn import functional as F


class UpsampledConv2d(nn.Conv2d):
    """A 3x3 convolution of a map that is upsampled before: bilinear, corners aligned."""

    times = 2  # as wide and high, if no size is asked for

    def __init__(self, inward: int, outward: int, *, bias: bool = True, relu: bool = False):
        """Map C = `inward` channels to D = `outward`, with a ReLU behind if asked for."""
        super().__init__(inward, outward, 3, padding=1, bias=bias)
        self.relu = relu

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Map (B, C, h, w) to (B, D, H, W) where (H, W) = `size`, (2 h, 2 w) by default."""
        height, width = x.shape[-2:]
        size = size or (self.times * height, self.times * width)
        x = super().forward(F.interpolate(x, size=size, mode='bilinear', align_corners=True))
        return F.relu_(x) if self.relu else x


class DepthHead(nn.Module):
    """One number a pixel, not negative; what it means is a matter of the weights."""

    provides = 'depth'

    def __init__(
        self,
        width: int,
        *,
        narrow: nn.Module | None = None,
        hidden: int = 32,
        bounded: bool = False,
    ):
        """
        Build the paper's head over F = `width`.

        :param narrow: from F channels to half as many; None: the paper's, upsampled before.
        :param hidden: channels before the last convolution.
        :param bounded: end in a sigmoid, for weights that give a share of a maximal depth, rather
            than in a ReLU.
        """
        super().__init__()
        self.narrow = narrow or UpsampledConv2d(width, width // 2)
        self.hidden: nn.Module = UpsampledConv2d(width // 2, hidden, relu=True)
        self.out: nn.Module = nn.Conv2d(hidden, 1, 1)
        self.last = nn.Sigmoid() if bounded else nn.ReLU()

    def forward(self, fused: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Map the finest of `fused`, (B, F, h, w), to (B, H, W) where (H, W) = `size`."""
        return self.read(self.narrow(fused[-1]), size)

    def read(self, narrow: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Read numbers off (B, F / 2, h, w): (B, H, W) where (H, W) = `size` or (2 h, 2 w)."""
        return self.last(self.out(self.hidden(narrow, size))).squeeze(1)


class ProjectedDepthHead(DepthHead):
    """
    The head of DINOv2: one convolution more, and a map four times the size of the fused one.

    That is not the size of the image, as the patches have 14 pixels: whoever uses the depth
    resamples it (bilinear, half-pixel centers).
    """

    def __init__(self, width: int):
        """Build the head over F = `width`."""
        super().__init__(width, narrow=nn.Conv2d(width, width // 2, 3, padding=1))
        self.project = UpsampledConv2d(width, width, relu=True)

    def forward(self, fused: Sequence[Tensor], size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Map the finest of `fused`, (B, F, h, w), to (B, 4 h, 4 w)."""
        return self.read(self.narrow(self.project(fused[-1])))


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
        self.scores = _classifier(UpsampledConv2d(width, width, bias=False), classes)
        self.auxiliary = None
        if auxiliary:
            narrow = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.auxiliary = _classifier(narrow, classes)

    def forward(self, fused: Sequence[Tensor], size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """Map the finest of `fused`, (B, F, H / 4, W / 4), to scores (B, K, H / 2, W / 2)."""
        return self.scores(fused[-1])

    def auxiliary_scores(self, fused: Sequence[Tensor]) -> Tensor:
        """Map the second finest of `fused` to scores (B, K, H / 4, W / 4), for training."""
        if self.auxiliary is None:
            raise ValueError('this head was built for inference; build it with auxiliary=True')
        return self.auxiliary(fused[-2])


def _classifier(first: nn.Conv2d, classes: int) -> nn.Sequential:
    width = first.out_channels
    return nn.Sequential(
        first, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(width, classes, 1)
    )
