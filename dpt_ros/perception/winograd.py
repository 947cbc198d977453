"""
Convolutions of 3x3 with a quarter of the multiplications, for a CPU with Numba.

Lavin and Gray, https://arxiv.org/abs/1509.09308: 6x6 values make 4x4 results with 36
multiplications a pair of channels instead of 144, between transforms that only add and scale. The
multiplications are products of matrices, at which a CPU is at its best. Results differ from those
of a plain convolution by a hundred-thousandth of their spread.
"""

from dpt_ros.perception.bands import in_bands, loops_for
import torch
from torch import nn, Tensor

CHANNELS = 128  # out, and of in and out on geometric average: of fewer the transforms eat the gain
TILES = 16  # as many at least: a product of matrices with few rows is slow
TOGETHER = 192  # tiles that are worked on at a time: they stay in the cache
_WEIGHTS = (  # what the transforms in `tiles` make of 3 weights
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def use_winograd(network: nn.Module) -> None:
    """Put `Winograd` in the place of each convolution that gains from it where it is."""
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _fits(child):
                setattr(module, name, Winograd(child))


def _fits(convolution: nn.Conv2d) -> bool:
    shape = convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation
    plain = shape == ((3, 3), (1, 1), (1, 1), (1, 1)) and convolution.groups == 1
    products = convolution.in_channels * convolution.out_channels
    wide = products >= CHANNELS**2 and convolution.out_channels >= CHANNELS
    if not plain or convolution.padding_mode != 'zeros' or not wide:
        return False
    weight = convolution.weight
    return weight.dtype == torch.float32 and loops_for(weight) is not None


class Winograd(nn.Conv2d):
    """A frozen convolution of 3x3 that keeps the size of its maps."""

    def __init__(self, convolution: nn.Conv2d):
        """Take over the weights of a convolution."""
        given, bias = convolution, convolution.bias is not None
        sides = given.in_channels, given.out_channels
        super().__init__(*sides, 3, padding=1, bias=bias, device='meta')
        self.weight, self.bias = given.weight, given.bias
        self._transformed: Tensor | None = None  # at the first map that is large enough

    def forward(self, values: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, D, H, W); what is too small, or not for a CPU, as ever."""
        across, down = (-(-side // 4) for side in values.shape[:1:-1])
        plain = values.dtype != torch.float32 or loops_for(values) is None
        if plain or across * down < TILES:
            return super().forward(values)
        from dpt_ros.perception import tiles

        if self._transformed is None:
            self._transformed = _transform(self.weight)
        weights, bias = self._transformed, self.bias
        if bias is None:
            bias = torch.zeros(self.out_channels)
        given = values.permute(0, 2, 3, 1).contiguous()
        result = torch.empty(*given.shape[:3], self.out_channels)
        for one, target in zip(given, result, strict=True):
            for start in range(0, across * down, TOGETHER):
                count = min(TOGETHER, across * down - start)
                split = torch.empty(36, count, self.in_channels)
                in_bands(tiles.split, count, one, across, start, split)
                in_bands(tiles.join, count, torch.bmm(split, weights), across, start, bias, target)
        return result.permute(0, 3, 1, 2)


def _transform(weights: Tensor) -> Tensor:
    """Transform (D, C, 3, 3) in both directions, giving (36, C, D)."""
    matrix = torch.tensor(_WEIGHTS, dtype=torch.float64)
    tiles = torch.einsum('yi,dcij,xj->yxcd', matrix, weights.double(), matrix)
    return tiles.flatten(0, 1).float().contiguous()
