"""
DPT from its published description, sharing nothing with `dpt_ros`: the oracle of the tests.

What a published file holds (`shapes`), random weights in that layout (`random_weights`), the
network as plain functions of such a state dict (`forward`), and its names in transformers
(`for_transformers`). Written from isl-org/DPT (MIT) and https://arxiv.org/abs/2103.13413.
"""

from dataclasses import dataclass
import math

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """The sizes of one published network."""

    timm: str
    width: int
    depth: int
    heads: int
    taps: tuple
    widths: tuple
    features: int = 256
    grid: int = 24  # patches along a side of the images trained on
    hybrid: bool = False


LAYOUTS = {
    'base': Layout('vit_base_patch16_384', 768, 12, 12, (2, 5, 8, 11), (96, 192, 384, 768)),
    'large': Layout(
        'vit_large_patch16_384', 1024, 24, 16, (5, 11, 17, 23), (256, 512, 1024, 1024)
    ),
    'hybrid': Layout(
        'vit_base_r50_s16_384', 768, 12, 12, (8, 11), (256, 512, 768, 768), hybrid=True
    ),
    'tiny': Layout(
        'vit_tiny_patch16_224', 192, 12, 3, (2, 5, 8, 11), (8, 16, 24, 32), features=16, grid=14
    ),
}
RESNET = ((64, 256, 3), (128, 512, 4), (256, 1024, 9))  # inner and outer channels, blocks
CLASSES = 150


# What a file holds.


def shapes(layout, task):
    """Return the shape of every tensor of a published file by its name."""
    return {**backbone_shapes(layout), **decoder_shapes(layout, task)}


def backbone_shapes(layout):
    """Return what stands under `pretrained.` and does not depend on the task."""
    c = layout.width
    found = {
        'cls_token': (1, 1, c),
        'pos_embed': (1, 1 + layout.grid**2, c),
        **_linear('head', c, 1000),
    }
    found |= _norm('norm', c)
    for n in range(layout.depth):
        found |= _norm(f'blocks.{n}.norm1', c) | _norm(f'blocks.{n}.norm2', c)
        found |= _linear(f'blocks.{n}.attn.qkv', c, 3 * c) | _linear(f'blocks.{n}.attn.proj', c, c)
        found |= _linear(f'blocks.{n}.mlp.fc1', c, 4 * c) | _linear(
            f'blocks.{n}.mlp.fc2', 4 * c, c
        )
    found |= _conv('patch_embed.proj', *((1024, c, 1) if layout.hybrid else (3, c, 16)))
    if layout.hybrid:
        found |= _resnet_shapes('patch_embed.backbone')
    return {f'pretrained.model.{key}': shape for key, shape in found.items()}


def _resnet_shapes(at):
    found = _conv(f'{at}.stem.conv', 3, 64, 7, bias=False) | _norm(f'{at}.stem.norm', 64)
    last = 64
    for stage, (inner, outer, blocks) in enumerate(RESNET):
        for block in range(blocks):
            here = f'{at}.stages.{stage}.blocks.{block}'
            if block == 0:
                found |= _conv(f'{here}.downsample.conv', last, outer, 1, bias=False)
                found |= _norm(f'{here}.downsample.norm', outer)
            for n, (a, b, k) in enumerate(
                ((last, inner, 1), (inner, inner, 3), (inner, outer, 1))
            ):
                found |= _conv(f'{here}.conv{n + 1}', a, b, k, bias=False)
                found |= _norm(f'{here}.norm{n + 1}', b)
            last = outer
    return found


def decoder_shapes(layout, task):
    """Return what stands under `pretrained.act_postprocess`, `scratch.` and `auxlayer.`."""
    c, f, found = layout.width, layout.features, {}
    for stage, d in enumerate(layout.widths, start=1):
        found[f'scratch.layer{stage}_rn.weight'] = (f, d, 3, 3)
        if layout.hybrid and stage < 3:
            continue  # a stage of the ResNet is used as it is
        at = f'pretrained.act_postprocess{stage}'
        found |= _linear(f'{at}.0.project.0', 2 * c, c) | _conv(f'{at}.3', c, d, 1)
        found |= {1: _conv(f'{at}.4', d, d, 4), 2: _conv(f'{at}.4', d, d, 2)}.get(stage, {})
        found |= _conv(f'{at}.4', d, d, 3) if stage == 4 else {}
    for fusion in (1, 2, 3, 4):
        at = f'scratch.refinenet{fusion}'
        found |= _conv(f'{at}.out_conv', f, f, 1)
        for unit in (f'{at}.resConfUnit1', f'{at}.resConfUnit2'):
            for n in (1, 2):
                found |= _conv(f'{unit}.conv{n}', f, f, 3, bias=task == 'depth')
                found |= _batch_norm(f'{unit}.bn{n}', f) if task == 'segmentation' else {}
    if task == 'depth':
        found |= _conv('scratch.output_conv.0', f, f // 2, 3)
        found |= _conv('scratch.output_conv.2', f // 2, 32, 3) | _conv(
            'scratch.output_conv.4', 32, 1, 1
        )
        return found
    for at in ('scratch.output_conv', 'auxlayer'):
        found |= _conv(f'{at}.0', f, f, 3, bias=False) | _batch_norm(f'{at}.1', f)
        found |= _conv(f'{at}.4', f, CLASSES, 1)
    return found


def _linear(at, inputs, outputs):
    return {f'{at}.weight': (outputs, inputs), f'{at}.bias': (outputs,)}


def _norm(at, channels):
    return {f'{at}.weight': (channels,), f'{at}.bias': (channels,)}


def _batch_norm(at, channels):
    names = ('weight', 'bias', 'running_mean', 'running_var')
    return {f'{at}.{name}': (channels,) for name in names} | {f'{at}.num_batches_tracked': ()}


def _conv(at, inputs, outputs, kernel, bias=True):
    shape = {f'{at}.weight': (outputs, inputs, kernel, kernel)}
    return shape | {f'{at}.bias': (outputs,)} if bias else shape


def parameters(layout, task):
    """Count the trained numbers of a file: all of it but the statistics of batch norms."""
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    counted = (s for key, s in shapes(layout, task).items() if not key.endswith(statistics))
    return sum(math.prod(shape) for shape in counted)


# Random weights of sane magnitude: signals neither vanish nor explode, and nothing is at a
# default that would hide a mistake (a zero bias, a norm that is the identity, a flat grid).


def random_weights(names, seed=0, dtype=torch.float32):
    """Return a tensor for each of `names`, a dict of shapes."""
    random = torch.Generator().manual_seed(seed)
    return {key: _random(key, shape, random, dtype) for key, shape in names.items()}


def _random(key, shape, random, dtype):
    if key.endswith('num_batches_tracked'):
        return torch.tensor(7)
    values = torch.randn(shape, generator=random, dtype=dtype)
    if key.endswith('pos_embed'):  # smooth over the grid, with some noise on top
        side = math.isqrt(shape[1] - 1)
        coarse = torch.randn(1, shape[2], side // 4, side // 4, generator=random, dtype=dtype)
        smooth = F.interpolate(coarse, (side, side), mode='bicubic').flatten(2).transpose(1, 2)
        return values.mul_(0.3) + F.pad(smooth, (0, 0, 1, 0))
    if key.endswith('cls_token'):
        return values
    if key.endswith('running_var'):
        return values.mul_(0.2).exp_()
    if len(shape) == 1 and key.endswith('weight'):  # of a norm, the last of a branch being mild
        return values.mul_(0.2).add_(0.5 if key.endswith('norm3.weight') else 1)
    if key == 'scratch.output_conv.4.weight' and shape[0] == 1:
        return values.abs_()  # over what a ReLU left: depth is positive
    if len(shape) == 1:
        return values.mul_(0.2)
    if 'patch_embed.backbone' in key:  # standardized anyway; how small decides what epsilon does
        return values.mul_(0.02)
    return values.mul_(math.prod(shape[1:]) ** -0.5)


def random_image(height, width, seed=1, dtype=torch.float32):
    """Return (1, 3, height, width) in [-1, 1]: coarse shapes with fine noise."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, height // 16, width // 16, generator=random)
    fine = torch.randn(1, 3, height, width, generator=random)
    image = F.interpolate(coarse, (height, width), mode='bicubic') * 0.5 + fine * 0.2
    return image.clamp(-1, 1).to(dtype)


def difference(got, wanted, spread=0.05):
    """Return the largest difference over the deviation of what is wanted, which has a `spread`."""
    assert got.shape == wanted.shape
    assert wanted.std() > spread * wanted.mean() > 0  # of weights that hide nothing
    return ((got - wanted).abs().max() / wanted.std()).item()


# The network.


@torch.inference_mode()
def forward(state, image, layout, *, spread='dpt'):
    """
    Run a published network: (B, H, W) depth or (B, K, H, W) scores, whichever the file is for.

    H and W are multiples of 32. `spread` is the rule that keeps the deviation of a standardized
    filter from zero: 'dpt' adds 1e-5 to it, 'midas' adds 1e-8 to the variance.
    """
    w = _Weights(state)
    return decode(w, _reassembled(w, image, layout, spread))


def decode(w, maps):
    """Fuse the four maps at strides 4, 8, 16 and 32, fine to coarse, and read the result."""
    maps = [
        F.conv2d(m, w(f'scratch.layer{n + 1}_rn.weight'), padding=1) for n, m in enumerate(maps)
    ]
    x = None
    for n in (4, 3, 2, 1):
        at = f'scratch.refinenet{n}'
        x = maps[3] if x is None else x + _residual_unit(w, f'{at}.resConfUnit1', maps[n - 1])
        x = _twice(_residual_unit(w, f'{at}.resConfUnit2', x))
        x = w.conv(f'{at}.out_conv', x)
    if 'auxlayer.0.weight' in w.state:
        x = F.relu(
            w.batch_norm('scratch.output_conv.1', w.conv('scratch.output_conv.0', x, padding=1))
        )
        return _twice(w.conv('scratch.output_conv.4', x))
    x = _twice(w.conv('scratch.output_conv.0', x, padding=1))
    x = F.relu(w.conv('scratch.output_conv.2', x, padding=1))
    return F.relu(w.conv('scratch.output_conv.4', x))[:, 0]


class _Weights:
    """Operations of the reference, each by the published name of its weights."""

    def __init__(self, state):
        self.state = state

    def __call__(self, key):
        return self.state[key]

    def linear(self, at, x):
        return F.linear(x, self(f'{at}.weight'), self(f'{at}.bias'))

    def conv(self, at, x, **how):
        return F.conv2d(x, self(f'{at}.weight'), self.state.get(f'{at}.bias'), **how)

    def layer_norm(self, at, x):
        return F.layer_norm(x, x.shape[-1:], self(f'{at}.weight'), self(f'{at}.bias'), 1e-6)

    def group_norm(self, at, x):
        return F.group_norm(x, 32, self(f'{at}.weight'), self(f'{at}.bias'), 1e-5)

    def batch_norm(self, at, x):
        mean, variance = self(f'{at}.running_mean'), self(f'{at}.running_var')
        x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return x * self(f'{at}.weight')[:, None, None] + self(f'{at}.bias')[:, None, None]


def _twice(x):
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)


def _residual_unit(w, at, x):
    y = x
    for n in (1, 2):
        y = w.conv(f'{at}.conv{n}', F.relu(y), padding=1)
        y = w.batch_norm(f'{at}.bn{n}', y) if f'{at}.bn{n}.weight' in w.state else y
    return x + y


def _reassembled(w, image, layout, spread):
    """Return the four maps at strides 4, 8, 16 and 32."""
    at, maps = 'pretrained.model', []
    rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
    if layout.hybrid:
        maps = _resnet(w, image, spread)
        x = w.conv(f'{at}.patch_embed.proj', maps.pop())
    else:
        x = w.conv(f'{at}.patch_embed.proj', image, stride=16)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat((w(f'{at}.cls_token').expand(len(x), -1, -1), x), dim=1)
    x = x + _position(w(f'{at}.pos_embed'), layout.grid, (rows, columns))
    for n in range(layout.depth):
        x = _block(w, f'{at}.blocks.{n}', x, layout.heads)
        if n in layout.taps:
            maps.append(reassemble(w, x, len(maps) + 1, (rows, columns)))
    return maps


def reassemble(w, tokens, stage, grid):
    """Make the map of a stage, from 1 to 4, of tokens (B, 1 + h * w, C)."""
    at = f'pretrained.act_postprocess{stage}'
    patches, readout = tokens[:, 1:], tokens[:, :1].expand(-1, grid[0] * grid[1], -1)
    y = F.gelu(w.linear(f'{at}.0.project.0', torch.cat((patches, readout), dim=-1)))
    y = w.conv(f'{at}.3', y.transpose(1, 2).unflatten(2, grid))
    if stage < 3:
        weight, bias, k = w(f'{at}.4.weight'), w(f'{at}.4.bias'), 8 >> stage
        y = F.conv_transpose2d(y, weight, bias, stride=k)
    return w.conv(f'{at}.4', y, stride=2, padding=1) if stage == 4 else y


def _position(embedding, side, size):
    grid = embedding[0, 1:].T.reshape(1, -1, side, side)
    grid = F.interpolate(grid, size=size, mode='bilinear', align_corners=False)
    return torch.cat((embedding[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)


def _block(w, at, x, heads):
    qkv = w.linear(f'{at}.attn.qkv', w.layer_norm(f'{at}.norm1', x))
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, c) each
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    x = x + w.linear(f'{at}.attn.proj', (weights @ v).transpose(1, 2).flatten(2))
    hidden = F.gelu(w.linear(f'{at}.mlp.fc1', w.layer_norm(f'{at}.norm2', x)))
    return x + w.linear(f'{at}.mlp.fc2', hidden)


def _resnet(w, image, spread):
    """Return the outputs of the three stages, at strides 4, 8 and 16."""
    at, outputs = 'pretrained.model.patch_embed.backbone', []
    x = _standardized(w(f'{at}.stem.conv.weight'), image, 2, spread)
    x = F.relu(w.group_norm(f'{at}.stem.norm', x))
    x = F.max_pool2d(_same(x, 3, 2, value=-math.inf), 3, 2)
    for stage, (_, _, blocks) in enumerate(RESNET):
        for block in range(blocks):
            here, first = f'{at}.stages.{stage}.blocks.{block}', block == 0
            stride, shortcut = 2 if first and stage else 1, x
            if first:
                shortcut = _standardized(w(f'{here}.downsample.conv.weight'), x, stride, spread)
                shortcut = w.group_norm(f'{here}.downsample.norm', shortcut)
            for n, step in ((1, 1), (2, stride), (3, 1)):
                x = _standardized(w(f'{here}.conv{n}.weight'), x, step, spread)
                x = w.group_norm(f'{here}.norm{n}', x)
                x = F.relu(x if n < 3 else x + shortcut)
        outputs.append(x)
    return outputs


def _standardized(weight, x, stride, spread):
    centered = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
    variance = centered.square().mean(dim=(1, 2, 3), keepdim=True)
    scale = {'dpt': variance.sqrt() + 1e-5, 'midas': (variance + 1e-8).sqrt()}[spread]
    return F.conv2d(_same(x, weight.shape[-1], stride), centered / scale, stride=stride)


def _same(x, kernel, stride, value=0.0):
    """Pad as TensorFlow's SAME does: an odd pixel goes right and below."""
    y, x_ = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
    return F.pad(x, (x_ // 2, x_ - x_ // 2, y // 2, y - y // 2), value=value)


# The same weights in transformers.


def for_transformers(state, layout):
    """Rename a published state dict to transformers' names; query, key and value are apart."""
    renamed = {}
    for key, tensor in state.items():
        if key.startswith('pretrained.model.head.'):
            continue
        if '.attn.qkv.' in key:
            at, leaf = key.removeprefix('pretrained.model.blocks.').split('.attn.qkv.')
            for name, part in zip(('query', 'key', 'value'), tensor.chunk(3), strict=True):
                renamed[f'dpt.encoder.layer.{at}.attention.attention.{name}.{leaf}'] = part
        else:
            renamed[_name_in_transformers(key.split('.'), layout.hybrid)] = tensor
    return renamed


def _name_in_transformers(parts, hybrid):
    match parts:
        case ['pretrained', 'model', 'cls_token']:
            return 'dpt.embeddings.cls_token'
        case ['pretrained', 'model', 'pos_embed']:
            return 'dpt.embeddings.position_embeddings'
        case ['pretrained', 'model', 'patch_embed', 'proj', leaf]:
            at = 'projection' if hybrid else 'patch_embeddings.projection'
            return f'dpt.embeddings.{at}.{leaf}'
        case ['pretrained', 'model', 'patch_embed', 'backbone', 'stem', which, leaf]:
            at = {'conv': 'convolution', 'norm': 'norm'}[which]
            return f'dpt.embeddings.backbone.bit.embedder.{at}.{leaf}'
        case [
            'pretrained',
            'model',
            'patch_embed',
            'backbone',
            'stages',
            stage,
            'blocks',
            n,
            *rest,
        ]:
            at = f'dpt.embeddings.backbone.bit.encoder.stages.{stage}.layers.{n}'
            return '.'.join((at, *rest))
        case ['pretrained', 'model', 'norm', leaf]:
            return f'dpt.layernorm.{leaf}'
        case ['pretrained', 'model', 'blocks', n, *rest, leaf]:
            at = {
                'norm1': 'layernorm_before',
                'norm2': 'layernorm_after',
                'attn.proj': 'attention.output.dense',
                'mlp.fc1': 'intermediate.dense',
                'mlp.fc2': 'output.dense',
            }['.'.join(rest)]
            return f'dpt.encoder.layer.{n}.{at}.{leaf}'
        case ['pretrained', stage, '0', 'project', '0', leaf]:
            return f'neck.reassemble_stage.readout_projects.{int(stage[-1]) - 1}.0.{leaf}'
        case ['pretrained', stage, n, leaf]:
            at = {'3': 'projection', '4': 'resize'}[n]
            return f'neck.reassemble_stage.layers.{int(stage[-1]) - 1}.{at}.{leaf}'
        case ['scratch', 'output_conv', n, leaf]:
            return f'head.head.{n}.{leaf}'
        case ['auxlayer', n, leaf]:
            return f'auxiliary_head.head.{n}.{leaf}'
        case ['scratch', lateral, leaf] if lateral.endswith('_rn'):
            return f'neck.convs.{int(lateral[5]) - 1}.{leaf}'
        case ['scratch', fusion, 'out_conv', leaf]:
            return f'neck.fusion_stage.layers.{4 - int(fusion[-1])}.projection.{leaf}'
        case ['scratch', fusion, unit, part, leaf]:
            at = {'conv': 'convolution', 'bn': 'batch_norm'}[part[:-1]] + part[-1]
            fusion, unit = 4 - int(fusion[-1]), unit[-1]
            return f'neck.fusion_stage.layers.{fusion}.residual_layer{unit}.{at}.{leaf}'
    raise ValueError(f'no name in transformers for {".".join(parts)}')
