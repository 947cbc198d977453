"""
Transformers that know where patches are to each other: BEiT and Swin Transformer V2.

To how much one patch attends to another both add a bias for the offset between the two. BEiT (Bao
et al., https://arxiv.org/abs/2106.08254) learns it offset by offset, Swin V2 (Liu et al.,
https://arxiv.org/abs/2111.09883) learns a small network that knows it of any offset. What
becomes of them for DPT is told by MiDaS 3.1 (Birkl et al., https://arxiv.org/abs/2307.14460).

Shapes: B batch, C width, N heads; (h, w) a grid of patches, or a window of it, n = h * w.
Parameters are called what timm calls them. Whatever follows from them and a size is computed on
the way: it costs little, and there is nothing to keep in step when weights or sizes change.
"""

from collections import OrderedDict
from collections.abc import Sequence
import math
from typing import cast

from dpt_ros.model.backbone import Backbone, check_multiples, Tap, tap_of, with_readout
from timm.models import beit
from timm.models import swin_transformer_v2 as swin
import torch
from torch import nn, Tensor
from torch.nn import functional as F

NEVER = -100.0  # added to the attention between patches that a shift made neighbours


def of_pairs(offsets: Tensor) -> Tensor:
    """
    Look up the offset between every two patches of a grid.

    :param offsets: (N, 2 h - 1, 2 w - 1), by how many rows and columns one is behind the other:
        from -(h - 1) and -(w - 1) on.
    :return: (N, n, n): [:, i, j] by how far i is behind j.
    """
    rows, columns = ((side + 1) // 2 for side in offsets.shape[1:])
    reach = offsets.unfold(1, rows, 1).unfold(2, columns, 1)  # (N, h, w, h, w): j backwards
    return reach.flip(3, 4).reshape(-1, rows * columns, rows * columns)


class _Attention(nn.Module):
    """What both have in common; keys have no bias, as the softmax would not notice it."""

    def __init__(self, attention: beit.Attention | swin.WindowAttention):
        super().__init__()
        self.heads = attention.num_heads
        self.qkv, self.q_bias, self.v_bias = attention.qkv, attention.q_bias, attention.v_bias
        self.proj = attention.proj

    def _project(self, tokens: Tensor) -> Sequence[Tensor]:
        """Make queries, keys and values, (B, N, n, C / N) each, of tokens (B, n, C)."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        projected = F.linear(tokens, self.qkv.weight, bias)
        return projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    def _merge(self, mixed: Tensor) -> Tensor:
        """Bring what the heads (B, N, n, C / N) found together again: (B, n, C)."""
        return self.proj(mixed.transpose(1, 2).flatten(2))


class OffsetAttention(_Attention):
    """Attention with a learned bias for every offset, and three for the readout token."""

    def __init__(self, attention: beit.Attention):
        """Take the parameters of timm's, made for one square grid."""
        super().__init__(attention)
        self.relative_position_bias_table = attention.relative_position_bias_table
        self.side = attention.window_size[0]

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend among tokens (B, 1 + n, C), the readout first, of a grid of (h, w)."""
        query, key, value = self._project(tokens)
        bias = self.bias(grid)[None]
        return self._merge(F.scaled_dot_product_attention(query, key, value, attn_mask=bias))

    def bias(self, grid: tuple[int, int]) -> Tensor:
        """
        Resize the table to the offsets of a grid (bilinear, half-pixel centers) and look them up.

        :return: (N, 1 + n, 1 + n), added to what queries (rows) find in keys (columns).
        """
        side = 2 * self.side - 1
        offsets = self.relative_position_bias_table[:-3].T.reshape(1, self.heads, side, side)
        of_readout, to_readout, itself = self.relative_position_bias_table[-3:]
        size = [2 * length - 1 for length in grid]
        resized = F.interpolate(offsets, size=size, mode='bilinear', align_corners=False)[0]
        tokens = 1 + math.prod(grid)
        bias = offsets.new_empty(self.heads, tokens, tokens)
        bias[:, 0], bias[:, :, 0], bias[:, 0, 0] = of_readout[:, None], to_readout[:, None], itself
        bias[:, 1:, 1:] = of_pairs(resized)
        return bias


class BEiTBlock(nn.Module):
    """A block of BEiT at any grid; what a layer adds is weighted channel by channel."""

    def __init__(self, block: beit.Block):
        """Take the parts of timm's."""
        super().__init__()
        self.attn, self.mlp = OffsetAttention(block.attn), block.mlp
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.gamma_1, self.gamma_2 = block.gamma_1, block.gamma_2

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, 1 + n, C) of a grid of (h, w)."""
        tokens = tokens + self.gamma_1 * self.attn(self.norm1(tokens), grid)
        return tokens + self.gamma_2 * self.mlp(self.norm2(tokens))


class BEiT(Backbone):
    """A transformer without positions of its own: its blocks know the offsets."""

    def __init__(self, vit: beit.Beit, blocks: Sequence[int]):
        """
        Take the parts of a timm transformer that the decoder can see.

        :param vit: such as `timm.create_model('beit_base_patch16_384')`.
        :param blocks: indices of the blocks to tap, from 0, shallow to deep.
        """
        super().__init__()
        self.cls_token, self.patch_embed = vit.cls_token, vit.patch_embed.proj
        self.blocks = nn.ModuleList(
            BEiTBlock(cast(beit.Block, block)) for block in vit.blocks[: max(blocks) + 1]
        )
        self.taps, self.patch = tuple(blocks), vit.patch_embed.patch_size[0]
        self.channels, self.kept = (vit.embed_dim,) * len(blocks), 0

    def check_size(self, width: int, height: int) -> None:
        """Refuse an image that is not cut into whole patches, naming the nearest size that is."""
        check_multiples(width, height, self.patch)

    def forward(self, image: Tensor) -> list[Tap]:
        """Compute the taps of (B, 3, H, W), raw, as `ViT` does."""
        patches = self.patch_embed(image)
        rows, columns = patches.shape[-2:]
        tokens, taps = with_readout(patches, self.cls_token), []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, (rows, columns))
            if index in self.taps:
                taps.append(tap_of(tokens, (rows, columns)))
        return taps


class WindowAttention(_Attention):
    """Attention within windows, by the cosine of queries and keys."""

    def __init__(self, attention: swin.WindowAttention):
        """Take the parameters of timm's, and the sizes of its window: present, and pretrained."""
        super().__init__(attention)
        self.logit_scale, self.cpb_mlp = attention.logit_scale, attention.cpb_mlp
        self.window = attention.window_size
        self.pretrained = tuple(
            known or present
            for known, present in zip(attention.pretrained_window_size, self.window, strict=True)
        )

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each of windows (B * W, n, C); `mask`, (W, 1, n, n), is added."""
        query, key, value = self._project(windows)
        sharpness = self.logit_scale.clamp(max=math.log(100)).exp()
        bias = self.bias()[None]
        if mask is not None:
            bias = (bias + mask).repeat(len(windows) // len(mask), 1, 1, 1)
        return self._merge(
            F.scaled_dot_product_attention(
                F.normalize(query, dim=-1) * sharpness,
                F.normalize(key, dim=-1),
                value,
                attn_mask=bias,
                scale=1.0,
            )
        )

    def bias(self) -> Tensor:
        """Ask the network for the bias of every two patches: (N, n, n), from 0 to 16."""
        weight = self.proj.weight
        rows, columns = (
            torch.arange(1 - present, present, device=weight.device) * (8 / max(known - 1, 1))
            for present, known in zip(self.window, self.pretrained, strict=True)
        )
        offsets = torch.stack(torch.meshgrid(rows, columns, indexing='ij'), dim=-1)
        logarithmic = offsets.sign() * (offsets.abs() + 1).log2() / 3  # 1 at the pretrained edge
        return of_pairs(16 * self.cpb_mlp(logarithmic.to(weight.dtype)).sigmoid().permute(2, 0, 1))


class SwinBlock(nn.Module):
    """A block of Swin V2: windows, shifted in every other block, and norms behind each layer."""

    def __init__(self, block: swin.SwinTransformerV2Block):
        """Take the parts of timm's, and how it cuts and shifts its windows."""
        super().__init__()
        self.attn, self.mlp = WindowAttention(block.attn), block.mlp
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.window, self.shift = block.window_size, block.shift_size

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C)."""
        x = x + self.norm1(self._attend(x))
        return x + self.norm2(self.mlp(x))

    def _attend(self, x: Tensor) -> Tensor:
        """Move the windows by the shift, around the edges, attend within them and move back."""
        height, width, channels = x.shape[1:]
        down, across = self.shift
        x = x.roll((-down, -across), (1, 2))
        windows = self._cut(x)
        parts = windows.shape[:5]
        mask = self._mask(height, width, x) if down or across else None
        windows = self.attn(windows.reshape(-1, math.prod(self.window), channels), mask)
        x = windows.unflatten(0, parts[:3]).unflatten(3, parts[3:]).transpose(2, 3)
        return x.reshape(-1, height, width, channels).roll((down, across), (1, 2))

    def _cut(self, x: Tensor) -> Tensor:
        """Cut (B, H, W, C) into windows, (B, H / h, W / w, h, w, C)."""
        rows, columns = self.window
        return x.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)

    def _mask(self, height: int, width: int, like: Tensor) -> Tensor:
        """Tell apart what came around the edges: (windows, 1, n, n), 0 or `NEVER`."""
        rows, columns = (
            (torch.arange(length, device=like.device) >= length - window).int()
            + (torch.arange(length, device=like.device) >= length - shift)
            for length, window, shift in zip((height, width), self.window, self.shift, strict=True)
        )
        regions = self._cut((3 * rows[:, None] + columns)[None, ..., None]).reshape(
            -1, 1, math.prod(self.window)
        )
        apart = regions[..., None] != regions[:, :, None]
        return NEVER * apart.to(like.dtype)


class SwinV2(Backbone):
    """
    A transformer in four stages, at strides 4, 8, 16 and 32, whose ends are the taps.

    It takes images of one size: its windows are shares of it.
    """

    def __init__(self, vit: swin.SwinTransformerV2, stages: Sequence[int]):
        """
        Take the parts of a timm transformer that the decoder can see.

        :param vit: such as `timm.create_model('swinv2_tiny_window16_256')`.
        :param stages: indices of the stages to tap, from 0, shallow to deep.
        """
        super().__init__()
        self.patch_embed, self.patch_norm = vit.patch_embed.proj, vit.patch_embed.norm
        self.layers = nn.ModuleList(
            _stage(cast(swin.SwinTransformerV2Stage, stage))
            for stage in vit.layers[: max(stages) + 1]
        )
        self.taps, self.size = tuple(stages), vit.patch_embed.img_size
        self.channels = tuple(vit.feature_info[stage]['num_chs'] for stage in stages)
        self.kept = len(stages)

    def check_size(self, width: int, height: int) -> None:
        """Refuse an image of another size than the one trained on."""
        rows, columns = self.size
        if (width, height) != (columns, rows):
            raise ValueError(
                f'network input of {width}x{height} pixels cannot be cut into the windows of this '
                f'network, which takes {columns}x{rows} only; leave network.side at 0'
            )

    def forward(self, image: Tensor) -> list[Tap]:
        """Compute the taps of (B, 3, H, W), each half the size of the one before, no readout."""
        x, taps = self.patch_norm(self.patch_embed(image).permute(0, 2, 3, 1)), []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.taps:
                taps.append(Tap(x.permute(0, 3, 1, 2), None))
        return taps


def _stage(stage: swin.SwinTransformerV2Stage) -> nn.Sequential:
    """Bring 2x2 patches together, but for the first stage, then go through the blocks."""
    blocks = nn.Sequential(
        *(SwinBlock(cast(swin.SwinTransformerV2Block, block)) for block in stage.blocks)
    )
    return nn.Sequential(OrderedDict(downsample=stage.downsample, blocks=blocks))
