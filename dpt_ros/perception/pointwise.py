"""
Convolutions that are one product of matrices, computed as that, for a CPU.

PyTorch has two ways for them, and takes the slower one for small maps: with two threads 192 to 24
channels of 16x16 pixels take 0.13 ms, as a product 0.05; enlarged four times after it, 0.24 and
0.13. Products of large maps take the same time either way.
"""

from dpt_ros.perception.winograd import Winograd
from torch import nn, Tensor
from torch.nn import functional as F


def use_products(network: nn.Module) -> None:
    """Put `Pointwise` and `Enlarging` in the place of each convolution that they can stand for."""
    for module in list(network.modules()):
        if isinstance(module, Pointwise | Enlarging | Winograd):
            continue  # who keep theirs, for what is too small or to be told apart
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and _is_plain(child) and child.kernel_size == (1, 1):
                setattr(module, name, Pointwise(child))
            elif type(child) is nn.ConvTranspose2d and _is_plain(child):
                setattr(module, name, Enlarging(child))


def _is_plain(module: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Return whether each pixel is seen once, by all channels, on a CPU."""
    alone = module.kernel_size == module.stride and module.dilation == (1, 1)
    bare = (module.padding, module.groups) == ((0, 0), 1)
    if isinstance(module, nn.ConvTranspose2d) and module.output_padding != (0, 0):
        return False
    return alone and bare and module.weight.device.type == 'cpu'


class Pointwise(nn.Module):
    """A frozen convolution of 1x1."""

    def __init__(self, plain: nn.Conv2d):
        """Take it over."""
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, D, h, w), channels last."""
        weight, bias = self.plain.weight.flatten(1), self.plain.bias
        return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


class Enlarging(nn.Module):
    """A frozen transposed convolution that makes a block of its own of each pixel."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, plain: nn.ConvTranspose2d):
        """Take it over."""
        super().__init__()
        self.plain = plain
        down, across = plain.kernel_size
        self._block = down, across, plain.out_channels
        weight = plain.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # (n m D, C)
        bias = None if plain.bias is None else plain.bias.repeat(down * across)
        self.register_buffer('weight', weight, persistent=False)
        self.register_buffer('bias', bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, D, n h, m w), channels last; n, m are the sides of a block."""
        blocks = F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).unflatten(3, self._block)
        rows = blocks.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)  # (B, n h, m w, D)
        return rows.permute(0, 3, 1, 2)
