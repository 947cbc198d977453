"""
DPT on DINOv2 from its published description, sharing nothing with `dpt_ros`: an oracle.

What the two files of the authors hold, backbone (`pretrained.`) and head (`decode_head.`), random
weights in that layout, what they make of an image (`forward`), and the names in the one file of
Hugging Face (`for_hugging_face`). Written from facebookresearch/dinov2 (Apache-2.0).
"""

import math

import depth_anything_reference as dino
from depth_anything_reference import Layout, PATCH
import dpt_reference as dpt
import torch
from torch.nn import functional as F

LAYOUTS = {
    'small': Layout(384, 12, 6, (2, 5, 8, 11), (48, 96, 192, 384), 256),
    'base': Layout(768, 12, 12, (2, 5, 8, 11), (96, 192, 384, 768), 256),
    'large': Layout(1024, 24, 16, (4, 11, 17, 23), (128, 256, 512, 1024), 256),
}
FARTHEST = {'nyu': 10.0, 'kitti': 80.0}  # metres
NEAREST = 0.001
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of RGB from 0 to 255
UNUSED = tuple(  # in the files of Hugging Face only, as a conversion left them
    f'neck.fusion_stage.layers.0.residual_layer1.convolution{n}.weight' for n in (1, 2)
)


def shapes(layout):
    """Return the shape of every tensor of the authors' two files by its name."""
    c, f, h, found = layout.width, layout.features, 'decode_head', dino.backbone_shapes(layout)
    for n, d in enumerate(layout.widths):
        found |= dpt._linear(f'{h}.reassemble_blocks.readout_projects.{n}.0', 2 * c, c)
        found |= dpt._conv(f'{h}.reassemble_blocks.projects.{n}.conv', c, d, 1)
        if n != 2:
            found |= dpt._conv(
                f'{h}.reassemble_blocks.resize_layers.{n}', d, d, {0: 4, 1: 2, 3: 3}[n]
            )
        found |= dpt._conv(f'{h}.convs.{n}.conv', d, f, 3, bias=False)
        at = f'{h}.fusion_blocks.{n}'
        found |= dpt._conv(f'{at}.project.conv', f, f, 1)
        for unit in (1, 2) if n else (2,):
            for m in (1, 2):
                name = f'{at}.res_conv_unit{unit}.conv{m}.conv'
                found |= dpt._conv(name, f, f, 3, bias=False)
    found |= dpt._conv(f'{h}.project.conv', f, f, 3)
    found |= dpt._conv(f'{h}.conv_depth.head.0', f, f // 2, 3)
    found |= dpt._conv(f'{h}.conv_depth.head.2', f // 2, 32, 3)
    return found | dpt._conv(f'{h}.conv_depth.head.4', 32, 1, 1)


def random_weights(layout, seed=0, dtype=torch.float32):
    """Return random tensors in the layout of the authors' files; depth is around 6 metres."""
    state = dino.random_tensors(shapes(layout), seed, dtype)
    state['decode_head.conv_depth.head.4.weight'].abs_().mul_(4)
    return state


@torch.inference_mode()
def depth_map(state, image, layout):
    """
    Run the network of the authors on (B, 3, H, W), sides multiples of 14.

    :return: (B, 32 * ceil(h / 2), ...) where h is H / 14; metres before 0.001 is added.
    """
    w, h = dpt._Weights(state), 'decode_head'
    rows, columns = image.shape[-2] // PATCH, image.shape[-1] // PATCH
    maps = []
    for n, tokens in enumerate(dino.taps(w, image, layout, (rows, columns))):
        at = f'{h}.reassemble_blocks'
        patches, readout = tokens[:, 1:], tokens[:, :1].expand(-1, rows * columns, -1)
        x = w.linear(f'{at}.readout_projects.{n}.0', torch.cat((patches, readout), dim=-1))
        x = F.gelu(x).transpose(1, 2).unflatten(2, (rows, columns))
        x, at = w.conv(f'{at}.projects.{n}.conv', x), f'{at}.resize_layers.{n}'
        if n < 2:
            x = F.conv_transpose2d(x, w(f'{at}.weight'), w(f'{at}.bias'), stride=(4, 2)[n])
        if n == 3:
            x = w.conv(at, x, stride=2, padding=1)
        maps.append(w.conv(f'{h}.convs.{n}.conv', x, padding=1))
    x = None
    for n, skip in enumerate(reversed(maps)):
        at = f'{h}.fusion_blocks.{n}'
        if x is None:
            x = skip
        else:
            fitted = F.interpolate(skip, x.shape[-2:], mode='bilinear', align_corners=False)
            x = x + _residual_unit(w, f'{at}.res_conv_unit1', fitted)
        x = w.conv(f'{at}.project.conv', dpt._twice(_residual_unit(w, f'{at}.res_conv_unit2', x)))
    x = F.relu(w.conv(f'{h}.project.conv', x, padding=1))
    x = dpt._twice(w.conv(f'{h}.conv_depth.head.0', x, padding=1))
    x = F.relu(w.conv(f'{h}.conv_depth.head.2', x, padding=1))
    return w.conv(f'{h}.conv_depth.head.4', x)[:, 0].relu()


def _residual_unit(w, at, x):
    y = w.conv(f'{at}.conv1.conv', F.relu(x), padding=1)
    return x + w.conv(f'{at}.conv2.conv', F.relu(y), padding=1)


@torch.inference_mode()
def forward(state, pixels, layout, farthest):
    """Bring images (B, H, W, 3) uint8, RGB, to metres (B, H, W), all as the authors do."""
    image = (pixels.permute(0, 3, 1, 2) - _column(MEAN)) / _column(STD)
    margins = []
    for side in (pixels.shape[2], pixels.shape[1]):  # columns first, as F.pad counts
        missing = math.ceil(side / PATCH) * PATCH - side
        margins += [missing // 2, missing - missing // 2]
    depth = depth_map(state, F.pad(image, margins), layout) + NEAREST
    depth = depth.clamp(NEAREST, farthest)[:, None]
    return F.interpolate(depth, pixels.shape[1:3], mode='bilinear', align_corners=False)[:, 0]


def _column(values):
    return torch.tensor(values)[:, None, None]


# The same weights in a file of Hugging Face.


def for_hugging_face(state):
    """Rename the authors' state dict to the names on disk, and add what a conversion left over."""
    backbone = {key: t for key, t in state.items() if key.startswith('pretrained.')}
    renamed = dino.for_hugging_face(backbone)
    for key, tensor in state.items():
        if key.startswith('decode_head.'):
            renamed[_name_of_hugging_face(key.split('.')[1:])] = tensor
    example = renamed['neck.fusion_stage.layers.1.residual_layer1.convolution1.weight']
    return renamed | {name: torch.randn_like(example) for name in UNUSED}


def _name_of_hugging_face(parts):
    match parts:
        case ['reassemble_blocks', 'readout_projects', *rest]:
            return '.'.join(('neck.reassemble_stage.readout_projects', *rest))
        case ['reassemble_blocks', 'projects', n, 'conv', leaf]:
            return f'neck.reassemble_stage.layers.{n}.projection.{leaf}'
        case ['reassemble_blocks', 'resize_layers', n, leaf]:
            return f'neck.reassemble_stage.layers.{n}.resize.{leaf}'
        case ['convs', n, 'conv', leaf]:
            return f'neck.convs.{n}.{leaf}'
        case ['fusion_blocks', n, 'project', 'conv', leaf]:
            return f'neck.fusion_stage.layers.{n}.projection.{leaf}'
        case ['fusion_blocks', n, unit, conv, 'conv', leaf]:
            layer = f'residual_layer{unit[-1]}.convolution{conv[-1]}'
            return f'neck.fusion_stage.layers.{n}.{layer}.{leaf}'
        case ['project', 'conv', leaf]:
            return f'head.projection.{leaf}'
        case ['conv_depth', 'head', n, leaf]:
            return f'head.head.{n}.{leaf}'
    raise ValueError(f'no name at Hugging Face for {".".join(parts)}')
