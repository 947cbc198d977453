"""
Depth Anything from its published description, sharing nothing with `dpt_ros`: an oracle.

What a file of the authors holds (`shapes`), random weights in that layout (`random_weights`), the
network as plain functions of such a state dict (`forward`), and its names in a file of Hugging
Face (`for_hugging_face`). Written from LiheYoung/Depth-Anything and
DepthAnything/Depth-Anything-V2 (Apache-2.0).
"""

from dataclasses import dataclass
import math

import dpt_reference as dpt
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """The sizes of one published network."""

    width: int
    depth: int
    heads: int
    taps: tuple
    widths: tuple
    features: int
    grid: int = 37  # patches along a side of the images trained on


LAYOUTS = {
    'v1_small': Layout(384, 12, 6, (8, 9, 10, 11), (48, 96, 192, 384), 64),
    'v1_base': Layout(768, 12, 12, (8, 9, 10, 11), (96, 192, 384, 768), 128),
    'v1_large': Layout(1024, 24, 16, (20, 21, 22, 23), (256, 512, 1024, 1024), 256),
    'v2_small': Layout(384, 12, 6, (2, 5, 8, 11), (48, 96, 192, 384), 64),
    'v2_base': Layout(768, 12, 12, (2, 5, 8, 11), (96, 192, 384, 768), 128),
    'v2_large': Layout(1024, 24, 16, (4, 11, 17, 23), (256, 512, 1024, 1024), 256),
}
PATCH = 14


def backbone_shapes(layout):
    """Return what stands under `pretrained.`: all of DINOv2."""
    c = layout.width
    found = {
        'pretrained.cls_token': (1, 1, c),
        'pretrained.pos_embed': (1, 1 + layout.grid**2, c),
        'pretrained.mask_token': (1, c),
        **dpt._conv('pretrained.patch_embed.proj', 3, c, PATCH),
        **dpt._norm('pretrained.norm', c),
    }
    for n in range(layout.depth):
        at = f'pretrained.blocks.{n}'
        found |= dpt._norm(f'{at}.norm1', c) | dpt._norm(f'{at}.norm2', c)
        found |= dpt._linear(f'{at}.attn.qkv', c, 3 * c) | dpt._linear(f'{at}.attn.proj', c, c)
        found |= dpt._linear(f'{at}.mlp.fc1', c, 4 * c) | dpt._linear(f'{at}.mlp.fc2', 4 * c, c)
        found |= {f'{at}.ls1.gamma': (c,), f'{at}.ls2.gamma': (c,)}
    return found


def shapes(layout):
    """Return the shape of every tensor of a published file by its name."""
    c, f, h, found = layout.width, layout.features, 'depth_head.', backbone_shapes(layout)
    for n, d in enumerate(layout.widths):
        found |= dpt._conv(f'{h}projects.{n}', c, d, 1)
        found |= {f'{h}scratch.layer{n + 1}_rn.weight': (f, d, 3, 3)}
        if n != 2:
            found |= dpt._conv(f'{h}resize_layers.{n}', d, d, {0: 4, 1: 2, 3: 3}[n])
    for n in (1, 2, 3, 4):
        at = f'{h}scratch.refinenet{n}'
        found |= dpt._conv(f'{at}.out_conv', f, f, 1)
        for unit in ('resConfUnit1', 'resConfUnit2'):
            found |= dpt._conv(f'{at}.{unit}.conv1', f, f, 3)
            found |= dpt._conv(f'{at}.{unit}.conv2', f, f, 3)
    found |= dpt._conv(f'{h}scratch.output_conv1', f, f // 2, 3)
    found |= dpt._conv(f'{h}scratch.output_conv2.0', f // 2, 32, 3)
    return found | dpt._conv(f'{h}scratch.output_conv2.2', 32, 1, 1)


def random_tensors(names, seed=0, dtype=torch.float32):
    """Return a random tensor for each of `names`, a dict of shapes, none at a default."""
    state = dpt.random_weights(names, seed, dtype)
    for key, tensor in state.items():
        if key.endswith('gamma'):  # of a branch: neither closed nor overwhelming
            tensor.add_(0.5)
    return state


def random_weights(layout, seed=0, dtype=torch.float32):
    """Return random tensors in the layout of a published file."""
    state = random_tensors(shapes(layout), seed, dtype)
    last = state['depth_head.scratch.output_conv2.2.weight']
    last.abs_().mul_(0.3)  # depth is positive, and a sigmoid is not at its end
    return state


@torch.inference_mode()
def forward(state, image, layout, *, maximum=None):
    """
    Run a network of the authors: (B, 3, H, W), sides multiples of 14, to depth (B, H, W).

    `maximum` in metres is of the metric networks; the others end in a ReLU.
    """
    w, h = dpt._Weights(state), 'depth_head.scratch'
    rows, columns = image.shape[-2] // PATCH, image.shape[-1] // PATCH
    maps = []
    for n, tokens in enumerate(taps(w, image, layout, (rows, columns))):
        x = w.layer_norm('pretrained.norm', tokens)[:, 1:]
        x = x.transpose(1, 2).unflatten(2, (rows, columns))
        x = w.conv(f'depth_head.projects.{n}', x)
        at = f'depth_head.resize_layers.{n}'
        if n < 2:
            x = F.conv_transpose2d(x, w(f'{at}.weight'), w(f'{at}.bias'), stride=(4, 2)[n])
        if n == 3:
            x = w.conv(at, x, stride=2, padding=1)
        maps.append(F.conv2d(x, w(f'{h}.layer{n + 1}_rn.weight'), padding=1))
    sizes = [tuple(2 * side for side in maps[0].shape[-2:]), *(m.shape[-2:] for m in maps[:3])]
    x = 0
    for n in (4, 3, 2, 1):
        at, skip = f'{h}.refinenet{n}', maps[n - 1]
        x = skip if n == 4 else x + dpt._residual_unit(w, f'{at}.resConfUnit1', skip)
        x = dpt._residual_unit(w, f'{at}.resConfUnit2', x)
        x = w.conv(f'{at}.out_conv', _enlarge(x, sizes[n - 1]))
    x = _enlarge(w.conv(f'{h}.output_conv1', x, padding=1), image.shape[-2:])
    x = F.relu(w.conv(f'{h}.output_conv2.0', x, padding=1))
    x = w.conv(f'{h}.output_conv2.2', x)[:, 0]
    return x.relu() if maximum is None else x.sigmoid() * maximum


def _enlarge(x, size):
    return F.interpolate(x, size, mode='bilinear', align_corners=True)


def taps(w, image, layout, grid):
    """Yield the tokens (B, 1 + h * w, C) behind each block tapped, before any norm."""
    x = w.conv('pretrained.patch_embed.proj', image, stride=PATCH).flatten(2).transpose(1, 2)
    x = torch.cat((w('pretrained.cls_token').expand(len(x), -1, -1), x), dim=1)
    x = x + positions(w('pretrained.pos_embed'), layout.grid, grid)
    for n in range(layout.depth):
        at = f'pretrained.blocks.{n}'
        y = _attention(w, f'{at}.attn', w.layer_norm(f'{at}.norm1', x), layout.heads)
        x = x + w(f'{at}.ls1.gamma') * y
        y = F.gelu(w.linear(f'{at}.mlp.fc1', w.layer_norm(f'{at}.norm2', x)))
        x = x + w(f'{at}.ls2.gamma') * w.linear(f'{at}.mlp.fc2', y)
        if n in layout.taps:
            yield x


def _attention(w, at, x, heads):
    q, k, v = w.linear(f'{at}.qkv', x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return w.linear(f'{at}.proj', (weights @ v).transpose(1, 2).flatten(2))


def positions(embedding, side, grid):
    """
    Bring learned positions, of shape (1, 1 + side * side, C), to another grid as DINOv2 does.

    Bicubic, at steps of side / (g + 0.1), g being patches along an axis; written out as one
    matrix an axis.
    """
    if grid == (side, side):
        return embedding
    square = embedding[0, 1:].unflatten(0, (side, side)).double()
    down, across = (_cubic(side, g) for g in grid)
    resized = torch.einsum('yr,xc,rcd->yxd', down, across, square).flatten(0, 1)
    return torch.cat((embedding[:, :1], resized[None].to(embedding.dtype)), dim=1)


def _cubic(side, length):
    """Return the weights (length, side) of a cubic convolution, a = -3/4, edges repeated."""
    matrix, a = torch.zeros(length, side, dtype=torch.float64), -0.75
    for row in range(length):
        center = (row + 0.5) * side / (length + 0.1) - 0.5
        for cell in range(math.floor(center) - 1, math.floor(center) + 3):
            t = abs(center - cell)
            near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[row, min(max(cell, 0), side - 1)] += near if t <= 1 else far
    return matrix


# The same weights in a file of Hugging Face.


def for_hugging_face(state):
    """Rename a state dict of the authors to the names on disk; query, key and value are apart."""
    renamed = {}
    for key, tensor in state.items():
        if '.attn.qkv.' in key:
            at, leaf = key.removeprefix('pretrained.blocks.').split('.attn.qkv.')
            for name, part in zip(('query', 'key', 'value'), tensor.chunk(3), strict=True):
                at_ = f'backbone.encoder.layer.{at}.attention.attention.{name}.{leaf}'
                renamed[at_] = part.contiguous()
        else:
            renamed[_name_of_hugging_face(key.split('.'))] = tensor
    return renamed


def _name_of_hugging_face(parts):
    match parts:
        case ['pretrained', 'pos_embed']:
            return 'backbone.embeddings.position_embeddings'
        case ['pretrained', token]:
            return f'backbone.embeddings.{token}'
        case ['pretrained', 'patch_embed', 'proj', leaf]:
            return f'backbone.embeddings.patch_embeddings.projection.{leaf}'
        case ['pretrained', 'norm', leaf]:
            return f'backbone.layernorm.{leaf}'
        case ['pretrained', 'blocks', n, 'attn', 'proj', leaf]:
            return f'backbone.encoder.layer.{n}.attention.output.dense.{leaf}'
        case ['pretrained', 'blocks', n, scale, 'gamma']:
            return f'backbone.encoder.layer.{n}.layer_scale{scale[-1]}.lambda1'
        case ['pretrained', 'blocks', n, *rest]:
            return '.'.join(('backbone.encoder.layer', n, *rest))
        case ['depth_head', 'projects', n, leaf]:
            return f'neck.reassemble_stage.layers.{n}.projection.{leaf}'
        case ['depth_head', 'resize_layers', n, leaf]:
            return f'neck.reassemble_stage.layers.{n}.resize.{leaf}'
        case ['depth_head', 'scratch', 'output_conv1', leaf]:
            return f'head.conv1.{leaf}'
        case ['depth_head', 'scratch', 'output_conv2', n, leaf]:
            return f'head.conv{2 + int(n) // 2}.{leaf}'
        case ['depth_head', *rest]:
            return dpt._name_in_transformers(rest, hybrid=False)
    raise ValueError(f'no name at Hugging Face for {".".join(parts)}')
