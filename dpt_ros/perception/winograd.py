"""
Convolutions of 3x3 with a quarter of the multiplications, for a CPU with Numba.

Lavin and Gray, https://arxiv.org/abs/1509.09308: 6x6 values make 4x4 results with 36
multiplications a pair of channels instead of 144, between transforms that only add and scale. To
upsample the map before is to add and scale as well: so the first transform takes that along, and
the upsampled map is never made. Results differ from those of a plain convolution by a
hundred-thousandth of their spread. ReLUs before and behind, and maps that are added, cost no pass
of their own either.
"""

from collections.abc import Sequence
from functools import lru_cache
import math
from typing import Any, NamedTuple, TypeGuard

from dpt_ros.model.decoder import ResidualConvUnit
from dpt_ros.model.heads import DepthHead, UpsampledConv2d
from dpt_ros.perception.bands import in_bands, loops_for
from dpt_ros.perception.resample import matrix_of, reach
import numpy as np
import torch
from torch import nn, Tensor
from torch.nn import functional as F

Size = tuple[int, int]
INWARD = 4  # channels that go in together
LANES = 32  # channels of what goes in that are transformed at a time
WIDE, NARROW = 64, 32  # channels that come out together, of one convolution all so or so
WORTH = 1 << 19  # pairs of channels times tiles: for fewer the way there takes what is won
_WEIGHTS = (  # what becomes of the 3 weights along an axis, see `tiles` for the values
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
        if isinstance(module, Winograd | WinogradUnit):
            continue  # its convolution is there for what is too small
        if isinstance(module, DepthHead):
            hidden, out = module.hidden, module.out
            if _fits(hidden) and hidden.out_channels == NARROW and isinstance(out, nn.Conv2d):
                module.hidden, module.out = Winograd(hidden, out), nn.Identity()
        for name, child in module.named_children():
            if isinstance(child, ResidualConvUnit) and _fits_in_all(child):
                setattr(module, name, WinogradUnit(child))
            elif _fits(child):
                setattr(module, name, Winograd(child))


def _fits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(module, nn.Conv2d) or type(module) not in (nn.Conv2d, UpsampledConv2d):
        return False
    shape = module.kernel_size, module.stride, module.padding, module.dilation
    plain = shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and module.groups == 1
    lacking = -module.out_channels % NARROW
    whole = module.in_channels % INWARD == 0 and 3 * lacking <= module.out_channels
    if not plain or not whole or module.padding_mode != 'zeros':
        return False
    return module.weight.dtype == torch.float32 and loops_for(module.weight) is not None


def _fits_in_all(unit: ResidualConvUnit) -> bool:
    bare = all(isinstance(norm, nn.Identity) for norm in (unit.norm1, unit.norm2))  # once frozen
    return bare and _fits(unit.conv1) and _fits(unit.conv2)


class Padded(NamedTuple):
    """
    What the tiles along one axis are made of: upsampled values between zeros.

    Those are N, four times the tiles and two. Each lies between a value and the next.
    """

    first: np.ndarray  # (N,) int64
    weights: np.ndarray  # (2, N) float32, of it and the next; zeros make zero


@lru_cache(maxsize=256)
def _padded(values: int, results: int, between: bool) -> Padded:
    """Pad an axis of `values`, upsampled to `results` with its corners aligned if `between`."""
    tiles = -(-results // 4)
    spread = matrix_of(values, results, 'bilinear', align_corners=True)
    spread = F.pad(spread, (0, 1, 1, 4 * tiles + 1 - results))
    beside, last = torch.arange(len(spread)) > results, values - 2 if between else values - 1
    first = reach(spread)[0].masked_fill(beside, values).clamp_max(last)
    weights = spread.gather(1, first[:, None] + torch.arange(2))
    return Padded(first.numpy(), weights.T.contiguous().numpy())


class Winograd(nn.Module):
    """A frozen convolution of 3x3, of a map as it is or upsampled, and what follows it."""

    def __init__(
        self,
        plain: nn.Conv2d,
        project: nn.Conv2d | None = None,
        *,
        relu_before: bool = False,
        relu: bool = False,
    ):
        """
        Take a convolution over.

        :param project: a convolution of 1x1 that makes one channel of what `plain` makes.
        :param relu_before: do what a ReLU before it does, and with `relu` one behind it.
        """
        super().__init__()
        self.plain, self.project = plain, project
        self._relu_before, self._relu = relu_before, relu
        self._times = plain.times if isinstance(plain, UpsampledConv2d) else 1
        self._given: list[Any] | None = None  # to the loop, from the first large map on

    def forward(
        self, values: Tensor, size: Size | None = None, added: Sequence[Tensor] = ()
    ) -> Tensor:
        """
        Map (B, C, h, w) to (B, D, H, W), or with `project` to (B, 1, H, W).

        What is too small to gain, or not for a CPU in float32, is computed as ever.

        :param size: (H, W), for an `UpsampledConv2d` alone.
        :param added: up to two maps (B, D, H, W), added to what comes out; not behind a ReLU.
        """
        high, wide = size or [self._times * side for side in values.shape[2:]]
        between = (high, wide) != values.shape[2:]
        plan = self._plan(values, (high, wide), between)
        if plan is None:
            return self._as_ever(values, size, added)
        from dpt_ros.perception import tiles

        if self._given is None:
            self._given = self._transformed()
        count, down, across = plan
        batch, channels = values.shape[:2]
        depth = self.plain.out_channels if self.project is None else 1
        maps, *added = (
            one.permute(0, 2, 3, 1).reshape(batch, one.shape[2], -1) for one in (values, *added)
        )
        added += [torch.empty(0, 0, 0)] * (2 - len(added))
        results = torch.empty(batch, high, wide * depth)
        given = maps, channels, *down, *across, between, self._relu_before, *self._given
        in_bands(tiles.convolve, count, *given, depth, *added, results, most=tiles.TOGETHER)
        return results.view(batch, high, wide, depth).permute(0, 3, 1, 2)

    def _as_ever(self, values: Tensor, size: Size | None, added: Sequence[Tensor]) -> Tensor:
        if self._relu_before:
            values = F.relu(values)
        values = self.plain(values) if size is None else self.plain(values, size)
        if self._relu:
            values = F.relu_(values)
        if self.project is not None:
            values = self.project(values)
        for one in added:
            values = values.add_(one)
        return values

    def _plan(
        self, values: Tensor, size: Size, between: bool
    ) -> tuple[int, Padded, Padded] | None:
        """Return the tiles and what they are made of, down and across; None: as ever."""
        tiles = len(values) * math.prod(-(-side // 4) for side in size)
        worth = self.plain.in_channels * self.plain.out_channels * tiles >= WORTH
        if not worth or values.dtype != torch.float32 or loops_for(values) is None:
            return None
        sides = values.shape[2:]
        if between and min(sides) < 2:
            return None
        down, across = (_padded(*pair, between) for pair in zip(sides, size, strict=True))
        return tiles, down, across

    def _transformed(self) -> list[Any]:
        """Return weights, bias, lowest result, projection and its offset: see the loop."""
        matrix = torch.tensor(_WEIGHTS, dtype=torch.float64)
        weights = torch.einsum('yi,dcij,xj->yxcd', matrix, self.plain.weight.double(), matrix)
        weights = weights.flatten(0, 1)  # (36, C, D)
        out = WIDE if self.plain.out_channels % WIDE == 0 else NARROW
        lacking = -self.plain.out_channels % out
        weights = F.pad(weights, (0, lacking)).unflatten(-1, (-1, out)).permute(2, 0, 1, 3)
        bias, projection, offset = self.plain.bias, torch.empty(0), 0.0
        if bias is None:
            bias = torch.zeros(self.plain.out_channels)
        if self.project is not None:
            projection = self.project.weight.flatten()
            offset = 0.0 if self.project.bias is None else self.project.bias.item()
        relu = self._relu or (isinstance(self.plain, UpsampledConv2d) and self.plain.relu)
        lowest = 0 if relu else -math.inf
        given = weights.float().contiguous(), F.pad(bias, (0, lacking))
        return [*given, np.float32(lowest), projection, np.float32(offset)]


class WinogradUnit(nn.Module):
    """A frozen `ResidualConvUnit`, whose ReLUs and sums are done on the way."""

    def __init__(self, unit: ResidualConvUnit):
        """Take over a unit without norms."""
        super().__init__()
        self.conv1 = Winograd(unit.conv1, relu_before=True, relu=True)
        self.conv2 = Winograd(unit.conv2)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Refine (B, F, h, w), and add what else there is of that shape, at most one map."""
        return self.conv2(self.conv1(x), added=[x, *others])
