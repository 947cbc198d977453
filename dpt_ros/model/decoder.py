"""
From four taps to one fused map: read out, reassemble, fuse (the paper, sections 3.1 and 3.2).

Shapes: B batch, C width of a tap, D its width after reassembly, F width of the decoder;
(h, w) patch grid. After reassembly maps have 4, 2, 1 and 1/2 times the rows and columns of the
patch grid: strides 4, 8, 16 and 32 of the image where patches have 16 pixels.

What the paper leaves open its releases fill in two ways. isl-org/DPT and Depth Anything fuse up to
the size of the next finer map; DINOv2 (Oquab et al., https://arxiv.org/abs/2304.07193), in the
manner of mmsegmentation, always doubles and brings the finer map to what came of that.
"""

from collections.abc import Sequence

from dpt_ros.model.backbone import Tap
from torch import nn, Tensor
from torch.nn import functional as F


class IgnoreReadout(nn.Module):
    """Drop the readout token."""

    def forward(self, features: Tensor, readout: Tensor) -> Tensor:  # noqa: ARG002
        """Return features (B, C, h, w) as they are."""
        return features


class AddReadout(nn.Module):
    """Add the readout token to every patch."""

    def forward(self, features: Tensor, readout: Tensor) -> Tensor:
        """Return features (B, C, h, w) plus readout (B, C)."""
        return features + readout[:, :, None, None]


class ProjectReadout(nn.Module):
    """
    Join the readout token to every patch and project back to C.

    The linear layer over [patch; readout] is the sum of one over the patch and one over the
    readout; the second is the same for all patches and computed once.
    """

    def __init__(self, channels: int):
        """Project 2 C to C, C = `channels`."""
        super().__init__()
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, features: Tensor, readout: Tensor) -> Tensor:
        """Map features (B, C, h, w) and readout (B, C) to (B, C, h, w)."""
        of_patch, of_readout = self.project.weight.chunk(2, dim=1)
        shared = F.linear(readout, of_readout, self.project.bias)  # (B, C)
        joined = F.linear(features.permute(0, 2, 3, 1), of_patch).add_(shared[:, None, None])
        return F.gelu(joined).permute(0, 3, 1, 2)


READOUTS = {
    'ignore': lambda channels: IgnoreReadout(),  # noqa: ARG005
    'add': lambda channels: AddReadout(),  # noqa: ARG005
    'project': ProjectReadout,
}


class Reassemble(nn.Module):
    """Turn one tap of a transformer into a map at the decoder's stride (section 3.1)."""

    def __init__(self, channels: int, width: int, *, readout: str, scale: float):
        """
        Project C = `channels` to D = `width` and resample the patch grid.

        :param readout: a key of `READOUTS`.
        :param scale: size of the result over the patch grid: 4, 2, 1 or 0.5 (rounded up).
        """
        super().__init__()
        if readout not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}, got '{readout}'")
        self.read = READOUTS[readout](channels)
        self.project = nn.Conv2d(channels, width, 1)
        self.resample: nn.Module
        if scale > 1:
            self.resample = nn.ConvTranspose2d(width, width, int(scale), int(scale))
        elif scale < 1:
            self.resample = nn.Conv2d(width, width, 3, round(1 / scale), padding=1)
        else:
            self.resample = nn.Identity()

    def forward(self, tap: Tap) -> Tensor:
        """Map features (B, C, h, w) and readout (B, C) to (B, D, scale * h, scale * w)."""
        return self.resample(self.project(self.read(*tap)))


class KeepStage(nn.Module):
    """Pass a stage of the backbone on: it is a map at the decoder's stride already."""

    def forward(self, tap: Tap) -> Tensor:
        """Return the features (B, C, h, w) of a tap without readout."""
        return tap.features


class ResidualConvUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, added to their input (RefineNet)."""

    def __init__(self, width: int, batch_norm: bool, bias: bool = True):
        """Keep F = `width`; with `batch_norm` each convolution has one in place of its bias."""
        super().__init__()
        bias = bias and not batch_norm
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm1 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm2 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Refine (B, F, h, w), and add what else there is of that shape."""
        y = self.norm1(self.conv1(F.relu(x)))
        y = self.norm2(self.conv2(F.relu_(y)))
        for one in (x, *others):
            y = y.add_(one)
        return y


class Fusion(nn.Module):
    """
    Add a finer map to the coarser one and refine the sum, all but the upsampling.

    The 1x1 convolution stands before the bilinear upsampling, where it costs a quarter: both are
    linear, one over channels and one over pixels (its weights sum to 1, so the bias passes too).
    """

    def __init__(self, width: int, *, batch_norm: bool, skip: bool, bias: bool = True):
        """Fuse maps of F = `width` channels; the coarsest fusion has no `skip`."""
        super().__init__()
        self.skip = ResidualConvUnit(width, batch_norm, bias) if skip else None
        self.refine = ResidualConvUnit(width, batch_norm, bias)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Fuse (B, F, h, w) with `skip`, which is resampled if its size differs."""
        if self.skip is not None and skip is not None:
            if skip.shape[-2:] != x.shape[-2:]:
                skip = F.interpolate(skip, size=x.shape[-2:], mode='bilinear', align_corners=False)
            x = self.skip(skip, x)
        return self.project(self.refine(x))


SCALES = (4, 2, 1, 0.5)  # of the maps over the patch grid, shallow to deep


class Decoder(nn.Module):
    """Reassemble four taps and fuse them coarse to fine."""

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        width: int = 256,
        *,
        kept: int = 0,
        readout: str = 'project',
        batch_norm: bool = False,
        bias: bool = True,
        doubling: bool = False,
    ):
        """
        Build a decoder for a backbone with these taps.

        :param channels: C of each tap, shallow to deep (`Backbone.channels`).
        :param widths: D of each tap after reassembly.
        :param width: F.
        :param kept: the first so many taps are used as they are (`Backbone.kept`).
        :param readout: a key of `READOUTS`.
        :param batch_norm: in the residual units, as the segmentation networks have it.
        :param bias: of the convolutions in the residual units, where there is no batch norm.
        :param doubling: every fusion doubles its rows and columns, whatever the next map has.
        """
        super().__init__()
        self.reassemble = nn.ModuleList(
            KeepStage() if tap < kept else Reassemble(c, d, readout=readout, scale=scale)
            for tap, (c, d, scale) in enumerate(zip(channels, widths, SCALES, strict=True))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(d, width, 3, padding=1, bias=False) for d in widths)
        self.fusion = nn.ModuleList(  # as the maps: finest first
            Fusion(width, batch_norm=batch_norm, skip=index < 3, bias=bias) for index in range(4)
        )
        self.width, self.doubling = width, doubling

    def forward(self, taps: Sequence[Tap]) -> list[Tensor]:
        """
        Fuse the taps.

        :return: the four fused maps (B, F, ...), coarse to fine. The last has 4 times the rows and
            columns of the patch grid (stride 4 with patches of 16) and is upsampled no more: the
            heads, which it feeds, do that as a part of their first convolution. The one before is
            of that size as well and feeds the auxiliary head of training. Where fusion doubles
            and a side of the grid is odd, they have that many times the next even number.
        """
        maps = [
            lateral(reassemble(tap))
            for lateral, reassemble, tap in zip(self.lateral, self.reassemble, taps, strict=True)
        ]
        x, fused = maps[3], []
        for level in (3, 2, 1, 0):
            x = self.fusion[level](x, maps[level])
            if level > 0:
                height, width = x.shape[-2:]
                size = (2 * height, 2 * width) if self.doubling else maps[level - 1].shape[-2:]
                x = F.interpolate(x, size=size, mode='bilinear', align_corners=True)
            fused.append(x)
        return fused
