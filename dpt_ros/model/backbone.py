"""
Vision transformers as backbones: an image in, four taps for the decoder out.

Those here know where a patch is in the image; `relative` has those that know where two patches
are to each other. A *tap* is what one block (or one stage) tells the decoder: a feature map and,
where the block has one, its readout token. Names follow the paper
(https://arxiv.org/abs/2103.13413, section 3.1); the numbers follow the authors' released code,
which the weights were trained with.

Shapes: B batch, C width of the transformer, (H, W) image in pixels, (h, w) its patch grid.
Only the parts of a transformer that the decoder can see are kept: no classifier, no unused norm.
"""

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple, TYPE_CHECKING

from dpt_ros.model.transformer import Transformer
import torch
from torch import nn, Tensor
from torch.nn import functional as F

if TYPE_CHECKING:  # its import takes seconds, see `transformer`
    from timm.models.vision_transformer import VisionTransformer


class Tap(NamedTuple):
    """What the decoder reads at one depth of the backbone."""

    features: Tensor  # (B, C, h, w)
    readout: Tensor | None  # (B, C), None for a stage whose features are a map already


class Backbone(nn.Module):
    """What a decoder must know of a backbone, which makes the taps of an image (B, 3, H, W)."""

    channels: tuple[int, ...]  # C of every tap, shallow to deep
    kept: int  # the first so many taps are maps at the decoder's strides and have no readout

    def check_size(self, width: int, height: int) -> None:
        """Refuse an image of a size that this backbone does not take, naming one that it does."""
        raise NotImplementedError


def check_multiples(width: int, height: int, multiple: int) -> None:
    """Refuse an input whose sides are not multiples of `multiple`, naming the nearest that is."""
    if width % multiple or height % multiple or not width or not height:
        near = 'x'.join(str(max(1, round(side / multiple)) * multiple) for side in (width, height))
        raise ValueError(
            f'network input of {width}x{height} pixels cannot be cut into patches: width and '
            f'height must be multiples of {multiple}; use {near}'
        )


def with_readout(patches: Tensor, readout: Tensor) -> Tensor:
    """Line embedded patches (B, C, h, w) up behind a token (1, 1, C): (B, 1 + h * w, C)."""
    tokens = patches.flatten(2).transpose(1, 2)
    return torch.cat((readout.expand(len(patches), -1, -1), tokens), dim=1)


def tap_of(tokens: Tensor, grid: Sequence[int]) -> Tap:
    """Part tokens (B, 1 + h * w, C) over a `grid` of (h, w) into features and readout: views."""
    return Tap(tokens[:, 1:].transpose(1, 2).unflatten(2, tuple(grid)), tokens[:, 0])


def _bilinear(square: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.interpolate(square, size=grid, mode='bilinear', align_corners=False)


def _bicubic(square: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.interpolate(square, size=grid, mode='bicubic', align_corners=False)


def _bicubic_by_scale(square: Tensor, grid: tuple[int, int]) -> Tensor:
    side = square.shape[-1]
    if grid == (side, side):
        return square
    scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)  # patches are read at these steps
    return F.interpolate(square, scale_factor=scale, mode='bicubic', align_corners=False)


# How learned positions (1, C, n, n) come to another grid of patches, (1, C, *grid). Half-pixel
# centers, no antialiasing. The wrong rule, and timm's own is another one yet, changes the output
# by percents. 'dpt' is isl-org/DPT, 'depth_anything' the original code of Depth Anything (V1, V2)
# with DINOv2's offset of a tenth, 'huggingface' what transformers does with the latter's weights.
POSITIONS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    'dpt': _bilinear,
    'depth_anything': _bicubic_by_scale,
    'huggingface': _bicubic,
}


def resize_position_embedding(
    embedding: Tensor, grid: tuple[int, int], prefix: int = 1, rule: str = 'dpt'
) -> Tensor:
    """
    Interpolate a square grid of learned position embeddings to another grid.

    :param embedding: (1, prefix + n * n, C), the embeddings of the prefix tokens first.
    :param grid: rows and columns wanted.
    :param prefix: how many tokens stand before the patches.
    :param rule: a key of `POSITIONS`.
    :return: (1, prefix + rows * columns, C).
    """
    tokens, patches = embedding[:, :prefix], embedding[:, prefix:]
    side = math.isqrt(patches.shape[1])
    square = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = POSITIONS[rule](square, grid)
    return torch.cat((tokens, resized.flatten(2).transpose(1, 2)), dim=1)


class ViT(Backbone):
    """A plain vision transformer: four of its blocks are tapped."""

    def __init__(
        self,
        vit: 'Transformer | VisionTransformer',
        blocks: Sequence[int],
        *,
        positions: str = 'dpt',
        normalize: bool = False,
    ):
        """
        Take the parts of a transformer that the decoder can see.

        :param vit: such as `Transformer(SHAPES['vit_large_patch16_384'])`, or timm's of that name.
        :param blocks: indices of the blocks to tap, from 0, shallow to deep.
        :param positions: a key of `POSITIONS`.
        :param normalize: pass every tap through the final norm; else taps are raw.
        """
        super().__init__()
        if vit.cls_token is None or vit.pos_embed is None:
            raise ValueError('a backbone needs a readout token and learned positions')
        self.cls_token, self.pos_embed = vit.cls_token, vit.pos_embed
        self.patch_embed = vit.patch_embed.proj  # (B, 3, H, W) or a stage -> (B, C, h, w)
        self.blocks = vit.blocks[: max(blocks) + 1]
        self.norm = vit.norm if normalize else nn.Identity()
        self.positions = positions
        self.taps = tuple(blocks)
        self.patch = vit.patch_embed.feat_ratio()  # image pixels along a patch's side
        self.channels, self.kept = (vit.embed_dim,) * len(blocks), 0

    def check_size(self, width: int, height: int) -> None:
        """Refuse an image that is not cut into whole patches, naming the nearest size that is."""
        check_multiples(width, height, self.patch)

    def forward(self, image: Tensor) -> list[Tap]:
        """
        Compute the taps.

        :param image: (B, 3, H, W), normalized; H and W multiples of the patch size.
        :return: one tap a block, shallow to deep, features (B, C, H / patch, W / patch).
        """
        return self.transform(self.patch_embed(image))

    def transform(self, patches: Tensor) -> list[Tap]:
        """Run the transformer on embedded patches (B, C, h, w) and collect its taps."""
        rows, columns = patches.shape[-2:]
        positions = resize_position_embedding(self.pos_embed, (rows, columns), rule=self.positions)
        tokens = with_readout(patches, self.cls_token) + positions
        taps = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                taps.append(tap_of(self.norm(tokens), (rows, columns)))
        return taps


class Hybrid(ViT):
    """
    A ResNet whose last stage feeds a transformer: two taps are its stages, two are blocks.

    Weights of the convolutions are standardized; see `STANDARDIZATIONS` for the choice.
    """

    def __init__(self, vit: 'VisionTransformer', blocks: Sequence[int], standardization: str):
        """
        Take the parts of a timm hybrid that the decoder can see.

        :param vit: such as `timm.create_model('vit_base_r50_s16_384')`.
        :param blocks: the two blocks to tap; the first two ResNet stages come before them.
        :param standardization: a key of `STANDARDIZATIONS`.
        """
        super().__init__(vit, blocks)
        resnet = vit.patch_embed.backbone
        _use_standardized_convolutions(resnet, STANDARDIZATIONS[standardization])
        self.stem, self.stages = resnet.stem, resnet.stages
        infos = resnet.feature_info[1:3]  # of stages 0 and 1; entry 0 is the stem
        self.channels, self.kept = (*(info['num_chs'] for info in infos), *self.channels), 2

    def forward(self, image: Tensor) -> list[Tap]:
        """
        Compute the taps.

        :param image: (B, 3, H, W), normalized; H and W multiples of 16.
        :return: stages at strides 4 and 8 without readout, then blocks at stride 16.
        """
        x, stages = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            stages.append(Tap(x, None))
        return [*stages[:2], *self.transform(self.patch_embed(x))]


class Stemmed(ViT):
    """
    A plain transformer on top of a small convolutional stem, which learns fast from scratch.

    As in `Hybrid`, two taps are convolutional stages (strides 4 and 8) and two are blocks (16).
    After Xiao et al., "Early convolutions help transformers see better" (arXiv 2106.14881).
    """

    def __init__(
        self, vit: 'Transformer | VisionTransformer', blocks: Sequence[int], stem: Sequence[int]
    ):
        """
        Take the parts of a transformer that the decoder can see, and give it a stem.

        :param vit: one with patches of 16 pixels.
        :param blocks: the two blocks to tap.
        :param stem: channels of the stages at strides 4 and 8.
        """
        super().__init__(vit, blocks)
        fine, coarse = stem
        self.patch_embed = nn.Sequential(
            _convolution(coarse, vit.embed_dim, 2), nn.Conv2d(vit.embed_dim, vit.embed_dim, 1)
        )
        self.stem = nn.Sequential(_convolution(3, fine // 2, 2), _convolution(fine // 2, fine, 2))
        self.stages = nn.ModuleList(
            (
                _Residual(fine),
                nn.Sequential(_convolution(fine, coarse, 2), _Residual(coarse), _Residual(coarse)),
            )
        )
        self.channels, self.kept = (fine, coarse, *self.channels), 2

    def forward(self, image: Tensor) -> list[Tap]:
        """Compute the taps of (B, 3, H, W): stages at strides 4 and 8, then blocks at 16."""
        x, stages = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            stages.append(Tap(x, None))
        return [*stages, *self.transform(self.patch_embed(x))]


class _Residual(nn.Module):
    """Two 3x3 convolutions added to their input."""

    def __init__(self, width: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            _convolution(width, width, 1),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine (B, C, h, w)."""
        return F.relu(x + self.convolutions(x))


def _convolution(inward: int, outward: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inward, outward, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outward),
        nn.ReLU(),
    )


# How the spread of a filter is kept from zero when its weights are standardized: variance -> what
# the centered weights are divided by. The same files exist under both rules; outputs differ by up
# to a percent. 'dpt' is isl-org/DPT (timm 0.4.5), 'midas' is MiDaS 3.1 and transformers.
STANDARDIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    'dpt': lambda variance: variance.sqrt() + 1e-5,
    'midas': lambda variance: (variance + 1e-8).sqrt(),
}


class StandardizedConv2d(nn.Conv2d):
    """A convolution with standardized weights and TensorFlow's "SAME" padding."""

    def __init__(self, like: nn.Conv2d, spread: Callable[[Tensor], Tensor]):
        """Take sizes from `like`; `spread` is one of `STANDARDIZATIONS`."""
        super().__init__(
            like.in_channels,
            like.out_channels,
            (like.kernel_size[0], like.kernel_size[1]),
            (like.stride[0], like.stride[1]),
            bias=False,
        )
        self.spread = spread
        self.frozen = False

    def freeze(self) -> None:
        """Standardize the weights once and for all: from here on this is a plain convolution."""
        if not self.frozen:
            self.weight = nn.Parameter(self.standardized().detach(), requires_grad=False)
            self.frozen = True

    def standardized(self) -> Tensor:
        """Return the weights with zero mean and unit deviation over each filter."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        return (self.weight - mean) / self.spread(variance)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, c, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        weight = self.weight if self.frozen else self.standardized()
        return F.conv2d(F.pad(x, self._same(x)), weight, stride=self.stride)

    def _same(self, x: Tensor) -> list[int]:
        """Give left, right, top, bottom padding; the odd pixel goes right and below."""
        padding = []
        for axis in (1, 0):  # columns first, as F.pad counts
            side, kernel, stride = x.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return padding


def _use_standardized_convolutions(module: nn.Module, spread: Callable[[Tensor], Tensor]) -> None:
    """Replace every convolution below `module` by ours, which has the epsilon chosen."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            setattr(module, name, StandardizedConv2d(child, spread))
        else:
            _use_standardized_convolutions(child, spread)
