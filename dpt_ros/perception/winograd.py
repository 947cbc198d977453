"""
Convolutions of 3x3 with a quarter of the multiplications, for a CPU with Numba.

Lavin and Gray, https://arxiv.org/abs/1509.09308: 6x6 values make 4x4 results with 36
multiplications a pair of channels instead of 144, between transforms that only add and scale. To
upsample the map before is to add and scale as well: so the first transform takes that along, and
the upsampled map is never made. Results differ from those of a plain convolution by a
hundred-thousandth of their spread.
"""

from functools import lru_cache
import math
from typing import Any, NamedTuple, TypeGuard

from dpt_ros.model.heads import DepthHead, UpsampledConv2d
from dpt_ros.perception.bands import in_bands, loops_for
from dpt_ros.perception.resample import matrix_of, reach
import numpy as np
import torch
from torch import nn, Tensor
from torch.nn import functional as F

Size = tuple[int, int]
INWARD, OUT = 4, 32  # channels that go together, in and out; zeros fill the latter up
WORTH = 1 << 19  # pairs of channels times tiles: for fewer the way there takes what is won
_VALUES = (  # what becomes of the 6 values of a tile, in either direction
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHTS = (  # and of the 3 weights
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def use_winograd(network: nn.Module) -> None:
    """Put `Winograd` in the place of each convolution that it can stand for."""
    for module in list(network.modules()):
        if isinstance(module, Winograd):
            continue  # its convolution is there for what is too small
        if isinstance(module, DepthHead):
            hidden, out = module.hidden, module.out
            if _fits(hidden) and hidden.out_channels == OUT and isinstance(out, nn.Conv2d):
                module.hidden, module.out = Winograd(hidden, out), nn.Identity()
        for name, child in module.named_children():
            if _fits(child):
                setattr(module, name, Winograd(child))


def _fits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, UpsampledConv2d):
        return False
    shape = module.kernel_size, module.stride, module.padding, module.dilation
    plain = shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and module.groups == 1
    lacking = -module.out_channels % OUT
    whole = module.in_channels % INWARD == 0 and 3 * lacking <= module.out_channels
    if not plain or not whole or module.padding_mode != 'zeros':
        return False
    return module.weight.dtype == torch.float32 and loops_for(module.weight) is not None


class Windows(NamedTuple):
    """What the tiles along one axis are made of."""

    starts: np.ndarray  # (tiles,) int64: of 6 values each
    transforms: np.ndarray  # (tiles, 6, 6) float32: what is made of those


@lru_cache(maxsize=256)
def _windows(values: int, results: int) -> Windows | None:
    """
    Return the tiles along an axis of `values`, upsampled to `results` with its corners aligned.

    None if the axis is too short, or shrinks so much that 6 values do not make a tile.
    """
    if values < 6:
        return None
    tiles = -(-results // 4)
    spread = matrix_of(values, results, 'bilinear', align_corners=True, dtype=torch.float64)
    spread = F.pad(spread, (0, 0, 1, 4 * tiles + 1 - results))  # zeros are beside a map
    spread = spread.unfold(0, 6, 4).transpose(1, 2)  # (tiles, 6, values)
    first, stop = reach(spread.abs().amax(dim=1))
    starts = first.clamp_max(values - 6)
    if (stop - starts).amax() > 6:
        return None
    six = (starts[:, None] + torch.arange(6))[:, None].expand(-1, 6, -1)
    matrix = torch.tensor(_VALUES, dtype=torch.float64)
    return Windows(starts.numpy(), (matrix @ spread.gather(2, six)).float().numpy())


class Winograd(nn.Module):
    """A frozen convolution of 3x3, of a map as it is or upsampled, and what follows it."""

    def __init__(self, plain: nn.Conv2d, project: nn.Conv2d | None = None):
        """
        Take a convolution over.

        :param project: a convolution of 1x1 that makes one channel of what `plain` makes.
        """
        super().__init__()
        self.plain, self.project = plain, project
        self._times = 2 if isinstance(plain, UpsampledConv2d) else 1  # if no size is asked for
        self._given: list[Any] | None = None  # to the loop, from the first large map on

    def forward(self, values: Tensor, size: Size | None = None) -> Tensor:
        """
        Map (B, C, h, w) to (B, D, H, W), or with `project` to (B, 1, H, W).

        What is too small to gain, or not for a CPU in float32, is computed as ever.

        :param size: (H, W), for an `UpsampledConv2d` alone.
        """
        high, wide = size or [self._times * side for side in values.shape[2:]]
        plan = self._plan(values, (high, wide))
        if plan is None:
            values = self.plain(values) if size is None else self.plain(values, size)
            return values if self.project is None else self.project(values)
        from dpt_ros.perception import tiles

        if self._given is None:
            self._given = self._transformed()
        count, down, across = plan
        batch, channels, height, _ = values.shape
        depth = self.plain.out_channels if self.project is None else 1
        maps = values.permute(0, 2, 3, 1).reshape(batch, height, -1)
        results = torch.empty(batch, high, wide * depth)
        given = maps, channels, *down, *across, *self._given, depth, results
        in_bands(tiles.convolve, count, *given)
        return results.view(batch, high, wide, depth).permute(0, 3, 1, 2)

    def _plan(self, values: Tensor, size: Size) -> tuple[int, Windows, Windows] | None:
        """Return the tiles and what they are made of, down and across; None: as ever."""
        if values.dtype != torch.float32 or loops_for(values) is None:
            return None
        down, across = (_windows(*pair) for pair in zip(values.shape[2:], size, strict=True))
        if down is None or across is None:
            return None
        tiles = len(values) * len(down.starts) * len(across.starts)
        worth = self.plain.in_channels * self.plain.out_channels * tiles >= WORTH
        return (tiles, down, across) if worth else None

    def _transformed(self) -> list[Any]:
        """Return weights, bias, lowest result, projection and its offset: see the loop."""
        matrix = torch.tensor(_WEIGHTS, dtype=torch.float64)
        weights = torch.einsum('yi,dcij,xj->yxcd', matrix, self.plain.weight.double(), matrix)
        weights = weights.flatten(0, 1)  # (36, C, D)
        lacking = -self.plain.out_channels % OUT
        weights = F.pad(weights, (0, lacking)).unflatten(-1, (-1, OUT)).permute(2, 0, 1, 3)
        bias, projection, offset = self.plain.bias, torch.empty(0), 0.0
        if bias is None:
            bias = torch.zeros(self.plain.out_channels)
        if self.project is not None:
            projection = self.project.weight.flatten()
            offset = 0.0 if self.project.bias is None else self.project.bias.item()
        relu = isinstance(self.plain, UpsampledConv2d) and self.plain.relu
        lowest = 0 if relu else -math.inf
        given = weights.flatten(2).float().contiguous(), F.pad(bias, (0, lacking))
        return [*given, np.float32(lowest), projection, np.float32(offset)]
