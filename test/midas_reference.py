"""
MiDaS 3.1 on BEiT and Swin V2 from its published description, sharing nothing with `dpt_ros`.

What a file of the authors holds (`shapes`; they used timm 0.6.12), random weights in that layout
(`random_weights`), the network as plain functions of such a state dict (`forward`), and its names
in a file of Hugging Face (`for_hugging_face`). Written from isl-org/MiDaS (MIT),
https://arxiv.org/abs/2307.14460, and the papers on BEiT and Swin V2.
"""

from dataclasses import dataclass
import math

import dpt_reference as dpt
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """The sizes of one published network; `stages` of Swin V2, `depth` of BEiT."""

    width: int
    heads: int
    side: int  # of the images trained on, in pixels
    widths: tuple
    depth: int = 0
    taps: tuple = ()
    stages: tuple = ()  # blocks of each
    window: int = 0  # patches along a side
    pretrained: tuple = (0, 0, 0, 0)  # windows of the stages before; 0: as now
    features: int = 256
    hybrid: bool = False


_BASE = {'depth': 12, 'taps': (2, 5, 8, 11), 'widths': (96, 192, 384, 768)}
_LARGE = {'depth': 24, 'taps': (5, 11, 17, 23), 'widths': (256, 512, 1024, 1024)}
_WIDE = {'stages': (2, 2, 18, 2), 'window': 24, 'pretrained': (12, 12, 12, 6)}
LAYOUTS = {
    'dpt_beit_large_512': Layout(1024, 16, 512, **_LARGE),
    'dpt_beit_large_384': Layout(1024, 16, 384, **_LARGE),
    'dpt_beit_base_384': Layout(768, 12, 384, **_BASE),
    'dpt_swin2_large_384': Layout(192, 6, 384, (192, 384, 768, 1536), **_WIDE),
    'dpt_swin2_base_384': Layout(128, 4, 384, (128, 256, 512, 1024), **_WIDE),
    'dpt_swin2_tiny_256': Layout(96, 3, 256, (96, 192, 384, 768), stages=(2, 2, 6, 2), window=16),
}


# What a file holds.


def shapes(layout):
    """Return the shape of every tensor of a file of the authors by its name."""
    backbone = _swin_shapes(layout) if layout.stages else _beit_shapes(layout)
    found = {f'pretrained.model.{key}': shape for key, shape in backbone.items()}
    decoder = dpt.decoder_shapes(layout, 'depth')
    if layout.stages:  # whose maps need no reassembly
        decoder = {key: shape for key, shape in decoder.items() if 'act_postprocess' not in key}
    return found | decoder


def _block_shapes(at, c):
    found = dpt._norm(f'{at}.norm1', c) | dpt._norm(f'{at}.norm2', c)
    found |= {f'{at}.attn.qkv.weight': (3 * c, c), f'{at}.attn.q_bias': (c,)}
    found |= {f'{at}.attn.v_bias': (c,)} | dpt._linear(f'{at}.attn.proj', c, c)
    return found | dpt._linear(f'{at}.mlp.fc1', c, 4 * c) | dpt._linear(f'{at}.mlp.fc2', 4 * c, c)


def _beit_shapes(layout):
    c, grid = layout.width, layout.side // 16
    found = {'cls_token': (1, 1, c), **dpt._conv('patch_embed.proj', 3, c, 16)}
    for n in range(layout.depth):
        at = f'blocks.{n}'
        found |= _block_shapes(at, c)
        found |= {f'{at}.gamma_1': (c,), f'{at}.gamma_2': (c,)}
        table = ((2 * grid - 1) ** 2 + 3, layout.heads)
        found[f'{at}.attn.relative_position_bias_table'] = table
        found[f'{at}.attn.relative_position_index'] = (1 + grid**2,) * 2
    return found | dpt._norm('fc_norm', c) | dpt._linear('head', c, 1000)


def _swin_shapes(layout):
    c, found = layout.width, dpt._conv('patch_embed.proj', 3, layout.width, 4)
    found |= dpt._norm('patch_embed.norm', c)
    for i, depth in enumerate(layout.stages):
        c, heads, grid = layout.width << i, layout.heads << i, layout.side // 4 >> i
        window = min(layout.window, grid)
        for j in range(depth):
            at = f'layers.{i}.blocks.{j}'
            found |= _block_shapes(at, c) | {f'{at}.attn.logit_scale': (heads, 1, 1)}
            found |= dpt._linear(f'{at}.attn.cpb_mlp.0', 2, 512)
            found[f'{at}.attn.cpb_mlp.2.weight'] = (heads, 512)
            if j % 2 and grid > window:
                found[f'{at}.attn_mask'] = ((grid // window) ** 2, window**2, window**2)
        if i < 3:
            found[f'layers.{i}.downsample.reduction.weight'] = (2 * c, 4 * c)
            found |= dpt._norm(f'layers.{i}.downsample.norm', 2 * c)
    return found | dpt._norm('norm', c) | dpt._linear('head', c, 1000)


def random_weights(layout, seed=0, dtype=torch.float32):
    """Return random tensors in the layout of a file of the authors, none at a default."""
    state = dpt.random_weights(shapes(layout), seed, dtype)
    for key, tensor in state.items():
        if key.endswith(('gamma_1', 'gamma_2')):  # of a branch: neither closed nor overwhelming
            tensor.add_(0.5)
        if key.endswith('relative_position_bias_table'):
            tensor.mul_(tensor.shape[0] ** 0.5)  # as large as the products it is added to
        if key.endswith('logit_scale'):  # some beyond 100, where it is cut
            tensor.mul_(1.5).add_(math.log(10))
        if key.endswith('cpb_mlp.2.weight'):
            tensor.mul_(3)  # over both ends of the sigmoid
        if key.endswith('relative_position_index'):
            state[key] = tensor.mul_(100).long()  # which nobody should read
    return state


# The network.


@torch.inference_mode()
def forward(state, image, layout):
    """Run a network of the authors on (B, 3, H, W), sides multiples of 32: depth (B, H, W)."""
    w = dpt._Weights(state)
    return dpt.decode(w, list((_swin if layout.stages else _beit)(w, image, layout)))


def _offsets(rows, columns):
    """Return how far patch i is behind patch j in rows and in columns, (n, n) each."""
    y, x = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    return y[:, None] - y, x[:, None] - x


def _heads(w, at, x, heads):
    """Return query, key and value (B, heads, n, c)."""
    query, key, value = F.linear(x, w(f'{at}.qkv.weight')).chunk(3, dim=-1)
    parts = (query + w(f'{at}.q_bias'), key, value + w(f'{at}.v_bias'))
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]


def _attend(w, at, scores, value):
    return w.linear(f'{at}.proj', (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))


def _mlp(w, at, x):
    return w.linear(f'{at}.fc2', F.gelu(w.linear(f'{at}.fc1', x)))


def _beit(w, image, layout):
    """Yield the four maps at strides 4, 8, 16 and 32."""
    at, grid = 'pretrained.model', (image.shape[-2] // 16, image.shape[-1] // 16)
    x = w.conv(f'{at}.patch_embed.proj', image, stride=16).flatten(2).transpose(1, 2)
    x = torch.cat((w(f'{at}.cls_token').expand(len(x), -1, -1), x), dim=1)
    down, across = _offsets(*grid)
    for n in range(layout.depth):
        here = f'{at}.blocks.{n}'
        table = w(f'{here}.attn.relative_position_bias_table')
        side = 2 * (layout.side // 16) - 1
        square = table[:-3].unflatten(0, (side, side)).permute(2, 0, 1)[None]
        size = (2 * grid[0] - 1, 2 * grid[1] - 1)
        square = F.interpolate(square, size, mode='bilinear', align_corners=False)[0]
        bias = square[:, down + grid[0] - 1, across + grid[1] - 1]  # (heads, n, n)
        to_readout = table[-2, :, None, None].expand(-1, bias.shape[1], 1)
        bias = torch.cat((to_readout, bias), dim=2)
        of_readout = table[-3, :, None, None].expand(-1, 1, bias.shape[1])
        of_readout = torch.cat((table[-1, :, None, None], of_readout), dim=2)
        bias = torch.cat((of_readout, bias), dim=1)
        query, key, value = _heads(
            w, f'{here}.attn', w.layer_norm(f'{here}.norm1', x), layout.heads
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
        x = x + w(f'{here}.gamma_1') * _attend(w, f'{here}.attn', scores, value)
        x = x + w(f'{here}.gamma_2') * _mlp(w, f'{here}.mlp', w.layer_norm(f'{here}.norm2', x))
        if n in layout.taps:
            yield dpt.reassemble(w, x, layout.taps.index(n) + 1, grid)


def _norm(w, at, x):
    return F.layer_norm(x, x.shape[-1:], w(f'{at}.weight'), w(f'{at}.bias'), 1e-5)


def _swin(w, image, layout):
    """Yield the four maps at strides 4, 8, 16 and 32."""
    at = 'pretrained.model'
    x = w.conv(f'{at}.patch_embed.proj', image, stride=4).permute(0, 2, 3, 1)
    x = _norm(w, f'{at}.patch_embed.norm', x)
    for i, depth in enumerate(layout.stages):
        window = min(layout.window, x.shape[1])
        for j in range(depth):
            shift = window // 2 if j % 2 and x.shape[1] > window else 0
            here = f'{at}.layers.{i}.blocks.{j}'
            known = layout.pretrained[i] or window
            y = _windows(w, f'{here}.attn', x, window, shift, known, layout.heads << i)
            x = x + _norm(w, f'{here}.norm1', y)
            x = x + _norm(w, f'{here}.norm2', _mlp(w, f'{here}.mlp', x))
        yield x.permute(0, 3, 1, 2)
        if i < 3:  # four patches become one: the rows first
            corners = [x[:, a::2, b::2] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
            x = F.linear(torch.cat(corners, -1), w(f'{at}.layers.{i}.downsample.reduction.weight'))
            x = _norm(w, f'{at}.layers.{i}.downsample.norm', x)


def _windows(w, at, x, window, shift, known, heads):
    """Attend in every window by itself, as it lies on a torus; x is (B, side, side, C)."""
    side, bias = x.shape[1], _bias(w, at, window, known)
    result = torch.zeros_like(x)
    for top in range(shift, side + shift, window):
        for left in range(shift, side + shift, window):
            rows, columns = ((torch.arange(window) + edge) % side for edge in (top, left))
            y, x_ = rows.repeat_interleave(window), columns.repeat(window)
            # Who is farther away than a window is a neighbour around the edge only.
            far = ((y[:, None] - y).abs() >= window) | ((x_[:, None] - x_).abs() >= window)
            query, key, value = _heads(w, at, x[:, y, x_], heads)
            cosine = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-1, -2)
            scores = cosine * w(f'{at}.logit_scale').clamp(max=math.log(100)).exp()
            result[:, y, x_] = _attend(w, at, scores + bias - 100.0 * far, value)
    return result


def _bias(w, at, window, known):
    """Return the bias (heads, n, n) that the small network finds for every offset."""
    offset = torch.arange(1 - window, window, dtype=w(f'{at}.logit_scale').dtype) / (known - 1) * 8
    offset = torch.sign(offset) * torch.log2(offset.abs() + 1) / math.log2(8)
    table = torch.cartesian_prod(offset, offset)
    table = F.relu(w.linear(f'{at}.cpb_mlp.0', table)) @ w(f'{at}.cpb_mlp.2.weight').T
    table = table.T.unflatten(1, (2 * window - 1, 2 * window - 1))
    down, across = _offsets(window, window)
    return 16 * table.sigmoid()[:, down + window - 1, across + window - 1]


# The same weights in a file of Hugging Face.


def for_hugging_face(state, layout):
    """Rename a state dict of the authors; query, key and value are apart, buffers are left out."""
    renamed = {}
    for key, tensor in state.items():
        if key.endswith(('relative_position_index', 'attn_mask')) or key.startswith(UNUSED):
            continue
        parts = key.split('.')
        if parts[-2] == 'qkv':
            for name, part in zip(('query', 'key', 'value'), tensor.chunk(3), strict=True):
                renamed[f'{_block(parts)}.{_attention(layout)}.{name}.weight'] = part
        elif not key.startswith('pretrained.model'):
            renamed[dpt._name_in_transformers(parts, hybrid=False)] = tensor
        else:
            renamed[_name_at_hugging_face(parts, layout)] = tensor
    return renamed


UNUSED = tuple(f'pretrained.model.{name}.' for name in ('head', 'norm', 'fc_norm'))


def _block(parts):
    """Name a block there: (... blocks N ...) or (... layers I blocks J ...)."""
    if parts[2] == 'blocks':
        return f'backbone.encoder.layer.{parts[3]}'
    return f'backbone.encoder.layers.{parts[3]}.blocks.{parts[5]}'


def _attention(layout):
    return 'attention.self' if layout.stages else 'attention.attention'


def _name_at_hugging_face(parts, layout):
    attention = _attention(layout)
    match parts[2:]:
        case ['cls_token']:
            return 'backbone.embeddings.cls_token'
        case ['patch_embed', 'proj', leaf]:
            return f'backbone.embeddings.patch_embeddings.projection.{leaf}'
        case ['patch_embed', 'norm', leaf]:
            return f'backbone.embeddings.norm.{leaf}'
        case ['layers', i, 'downsample', *rest]:
            return '.'.join((f'backbone.encoder.layers.{i}.downsample', *rest))
        case [*_, ('norm1' | 'norm2') as name, leaf]:
            place = {'norm1': 'before', 'norm2': 'after'}[name]
            return f'{_block(parts)}.layernorm_{place}.{leaf}'
        case [*_, ('fc1' | 'fc2') as name, leaf]:
            place = {'fc1': 'intermediate', 'fc2': 'output'}[name]
            return f'{_block(parts)}.{place}.dense.{leaf}'
        case [*_, 'proj', leaf]:
            return f'{_block(parts)}.attention.output.dense.{leaf}'
        case [*_, 'q_bias']:
            return f'{_block(parts)}.{attention}.query.bias'
        case [*_, 'v_bias']:
            return f'{_block(parts)}.{attention}.value.bias'
        case [*_, ('gamma_1' | 'gamma_2') as name]:
            return f'{_block(parts)}.lambda_{name[-1]}'
        case [*_, 'relative_position_bias_table' as name]:
            return f'{_block(parts)}.{attention}.relative_position_bias.{name}'
        case [*_, 'logit_scale' as name]:
            return f'{_block(parts)}.{attention}.{name}'
        case [*_, 'cpb_mlp', n, leaf]:
            return f'{_block(parts)}.{attention}.continuous_position_bias_mlp.{n}.{leaf}'
    raise ValueError('.'.join(parts))
