"""
The plain vision transformer: patches and a readout token through blocks of attention.

Parts are called what timm calls them, and compute the same (a test compares them), so weights fit
either. It is written out here because `import timm` takes longer than loading and running the
network of the package: it brings every model of timm, torchvision and PyTorch's compiler along.
Backbones that need more of timm import it when they are built, see `zoo.store`.

Shapes: B batch, N tokens (the readout first), C width.
"""

from dataclasses import dataclass

import torch
from torch import nn, Tensor
from torch.nn import functional as F

EPSILON = 1e-6  # of the norms, as those who trained the weights had it


@dataclass(frozen=True)
class Shape:
    """The sizes of a plain transformer."""

    width: int
    heads: int
    depth: int = 12  # blocks
    patch: int = 16  # image pixels along a side
    side: int = 384  # of the square image that its learned positions are for
    scaled: bool = False  # what a block adds has a learned scale for each channel, as in DINOv2


SHAPES = {  # by the name that timm has for it
    'vit_tiny_patch16_224': Shape(192, 3, side=224),
    'vit_tiny_patch16_384': Shape(192, 3),
    'vit_base_patch16_384': Shape(768, 12),
    'vit_large_patch16_384': Shape(1024, 16, depth=24),
    'vit_small_patch14_dinov2': Shape(384, 6, patch=14, side=518, scaled=True),
    'vit_base_patch14_dinov2': Shape(768, 12, patch=14, side=518, scaled=True),
    'vit_large_patch14_dinov2': Shape(1024, 16, depth=24, patch=14, side=518, scaled=True),
}


class Transformer(nn.Module):
    """All parts of a plain transformer but its classifier; `backbone` chooses what to run."""

    def __init__(self, shape: Shape):
        """Build it with weights as training from scratch begins with."""
        super().__init__()
        self.embed_dim = width = shape.width
        self.patch_embed = PatchEmbed(width, shape.patch)
        self.cls_token = _parameter(1, width, std=1e-6)
        self.pos_embed = _parameter(1 + (shape.side // shape.patch) ** 2, width, std=0.02)
        self.blocks = nn.Sequential(
            *(Block(width, shape.heads, scaled=shape.scaled) for _ in range(shape.depth))
        )
        self.norm = nn.LayerNorm(width, EPSILON)


class PatchEmbed(nn.Module):
    """What makes a token of a patch."""

    def __init__(self, width: int, patch: int):
        """Embed patches of `patch` x `patch` pixels."""
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def feat_ratio(self) -> int:
        """Return how many pixels of the image a patch has along its side."""
        return self.proj.kernel_size[0]


class Block(nn.Module):
    """Attention over all tokens, then two layers over the channels of each."""

    def __init__(self, width: int, heads: int, *, scaled: bool = False):
        """Build one with random weights; `scaled` as in `Shape`."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        self.ls1 = Scale(width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = Mlp(width)
        self.ls2 = Scale(width) if scaled else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Refine tokens (B, N, C)."""
        tokens = self.ls1(self.attn(self.norm1(tokens))).add_(tokens)
        return self.ls2(self.mlp(self.norm2(tokens))).add_(tokens)


class Attention(nn.Module):
    """Each token takes from all tokens what it looks for."""

    def __init__(self, width: int, heads: int):
        """Share the channels between so many heads."""
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = _linear(width, 3 * width), _linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens (B, N, C)."""
        shared = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = shared.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, N, C / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers over the channels of each token."""

    def __init__(self, width: int):
        """Make the layer between four times as wide, as all have it."""
        super().__init__()
        self.fc1, self.fc2 = _linear(width, 4 * width), _linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens (B, N, C), each for itself."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class Scale(nn.Module):
    """A learned factor for each channel, small at first."""

    def __init__(self, width: int):
        """Begin with what DINOv2 began with."""
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scale tokens (B, N, C)."""
        return tokens * self.gamma


def _parameter(tokens: int, width: int, std: float) -> nn.Parameter:
    # normal_ would import the compiler on the meta device, where weights are about to be loaded.
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, width), std=std))


def _linear(inward: int, outward: int) -> nn.Linear:
    layer = nn.Linear(inward, outward)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
