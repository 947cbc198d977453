"""
Published state dicts -> ours: tables of (pattern, replacement), and what reads them.

A pattern matches a whole key. A replacement is what `re.sub` takes: text, or a function of the
match where an index shifts. None drops the tensor: it takes no part in inference. `TASK` stands
for the task that the file was trained for. A name that ends in `#0`, `#1`, ... is that part of a
tensor of ours which the file holds in pieces; they are joined along the first axis.
"""

from collections.abc import Callable, Mapping, Sequence
import re

import torch
from torch import Tensor

Replacement = str | Callable[[re.Match], str] | None
Table = Sequence[tuple[str, Replacement]]

_UNITS = {'1': 'skip', '2': 'refine'}
_PARTS = {'conv': 'conv', 'convolution': 'conv', 'bn': 'norm', 'batch_norm': 'norm'}
_PLACES = {'query': 0, 'key': 1, 'value': 2}

# The decoder of isl-org/DPT; Depth Anything has it below `depth_head.`.
SCRATCH: Table = (
    (
        r'(?:depth_head\.)?scratch\.layer(.)_rn\.(.*)',
        lambda m: f'TASK.decoder.lateral.{int(m[1]) - 1}.{m[2]}',
    ),
    # The coarsest fusion has no skip.
    (r'(?:depth_head\.)?scratch\.refinenet4\.resConfUnit1\..*', None),
    (
        r'(?:depth_head\.)?scratch\.refinenet(.)\.resConfUnit(.)\.(conv|bn)(.*)',
        lambda m: f'TASK.decoder.fusion.{int(m[1]) - 1}.{_UNITS[m[2]]}.{_PARTS[m[3]]}{m[4]}',
    ),
    (
        r'(?:depth_head\.)?scratch\.refinenet(.)\.out_conv\.(.*)',
        lambda m: f'TASK.decoder.fusion.{int(m[1]) - 1}.project.{m[2]}',
    ),
)

REASSEMBLE: Table = (
    (
        r'pretrained\.act_postprocess(.)\.0\.project\.0\.(.*)',
        lambda m: f'TASK.decoder.reassemble.{int(m[1]) - 1}.read.project.{m[2]}',
    ),
    (
        r'pretrained\.act_postprocess(.)\.3\.(.*)',
        lambda m: f'TASK.decoder.reassemble.{int(m[1]) - 1}.project.{m[2]}',
    ),
    (
        r'pretrained\.act_postprocess(.)\.4\.(.*)',
        lambda m: f'TASK.decoder.reassemble.{int(m[1]) - 1}.resample.{m[2]}',
    ),
)
OUTPUT: Table = (
    (r'scratch\.output_conv\.0\.(.*)', r'TASK.head.narrow.\1'),
    (r'scratch\.output_conv\.2\.(.*)', r'TASK.head.hidden.\1'),
    (r'scratch\.output_conv\.4\.(.*)', r'TASK.head.out.\1'),
)
PATCHES: Table = (
    (r'pretrained\.model\.patch_embed\.proj\.(.*)', r'backbone.patch_embed.\1'),
    (r'pretrained\.model\.(norm|fc_norm|head)\..*', None),  # past the last tap
)

# isl-org/DPT and, for the same networks, MiDaS v3.
OFFICIAL: Table = (
    (r'pretrained\.model\.(cls_token|pos_embed|blocks\..*)', r'backbone.\1'),
    (r'pretrained\.model\.patch_embed\.backbone\.(.*)', r'backbone.\1'),
    *PATCHES,
    *REASSEMBLE,
    *SCRATCH,
    (r'auxlayer\..*', None),  # training only
)
OFFICIAL_DEPTH: Table = (*OFFICIAL, *OUTPUT)
OFFICIAL_SEGMENTATION: Table = (*OFFICIAL, (r'scratch\.output_conv\.(.*)', r'TASK.head.scores.\1'))

# MiDaS 3.1 on BEiT and on Swin V2, whose stages timm 0.6 ended with what now begins the next.
OFFICIAL_BEIT: Table = (
    (r'pretrained\.model\.blocks\.\d+\.attn\.relative_position_index', None),  # of its size
    (r'pretrained\.model\.(cls_token|blocks\..*)', r'backbone.\1'),
    *PATCHES,
    *REASSEMBLE,
    *SCRATCH,
    *OUTPUT,
)
OFFICIAL_SWIN2: Table = (
    (r'pretrained\.model\.patch_embed\.norm\.(.*)', r'backbone.patch_norm.\1'),
    (
        r'pretrained\.model\.layers\.(.)\.downsample\.(.*)',
        lambda m: f'backbone.layers.{int(m[1]) + 1}.downsample.{m[2]}',
    ),
    (r'pretrained\.model\.layers\..\.blocks\.\d+\.attn_mask', None),  # of its size
    (r'pretrained\.model\.(layers\..*)', r'backbone.\1'),
    *PATCHES,
    *SCRATCH,
    *OUTPUT,
)

# Depth Anything V1 and V2, the .pth files of the authors.
OFFICIAL_DEPTH_ANYTHING: Table = (
    (r'pretrained\.(cls_token|pos_embed|blocks\..*|norm\..*)', r'backbone.\1'),
    (r'pretrained\.patch_embed\.proj\.(.*)', r'backbone.patch_embed.\1'),
    (r'pretrained\.mask_token', None),  # of DINOv2's training
    (r'depth_head\.projects\.(.*)\.(.*)', r'TASK.decoder.reassemble.\1.project.\2'),
    (r'depth_head\.resize_layers\.(.*)\.(.*)', r'TASK.decoder.reassemble.\1.resample.\2'),
    *SCRATCH,
    (r'depth_head\.scratch\.output_conv1\.(.*)', r'TASK.head.narrow.\1'),
    (r'depth_head\.scratch\.output_conv2\.0\.(.*)', r'TASK.head.hidden.\1'),
    (r'depth_head\.scratch\.output_conv2\.2\.(.*)', r'TASK.head.out.\1'),
)

# Files of Hugging Face, by the names they have on disk; transformers 5 renames some in memory.
NECK: Table = (
    (
        r'neck\.reassemble_stage\.readout_projects\.(.)\.0\.(.*)',
        r'TASK.decoder.reassemble.\1.read.project.\2',
    ),
    (
        r'neck\.reassemble_stage\.layers\.(.)\.projection\.(.*)',
        r'TASK.decoder.reassemble.\1.project.\2',
    ),
    (
        r'neck\.reassemble_stage\.layers\.(.)\.resize\.(.*)',
        r'TASK.decoder.reassemble.\1.resample.\2',
    ),
    (r'neck\.convs\.(.*)', r'TASK.decoder.lateral.\1'),
    (r'neck\.fusion_stage\.layers\.0\.residual_layer1\..*', None),  # coarse to fine there
    (
        r'neck\.fusion_stage\.layers\.(.)\.residual_layer(.)\.(convolution|batch_norm)(.*)',
        lambda m: f'TASK.decoder.fusion.{3 - int(m[1])}.{_UNITS[m[2]]}.{_PARTS[m[3]]}{m[4]}',
    ),
    (
        r'neck\.fusion_stage\.layers\.(.)\.projection\.(.*)',
        lambda m: f'TASK.decoder.fusion.{3 - int(m[1])}.project.{m[2]}',
    ),
)


def _layers(theirs: str, ours: str) -> Table:
    """Return the rows for what most blocks have; both name a block, ours by groups of theirs."""
    names = {
        r'attention\.output\.dense': 'attn.proj',
        'layernorm_before': 'norm1',
        'layernorm_after': 'norm2',
        r'intermediate\.dense': 'mlp.fc1',
        r'output\.dense': 'mlp.fc2',
    }
    return tuple(
        (rf'{theirs}\.{name}\.(?P<leaf>.*)', rf'{ours}.{name_here}.\g<leaf>')
        for name, name_here in names.items()
    )


def _relative(theirs: str, ours: str) -> Table:
    """Return the rows for blocks of `model.relative`, whose keys have no bias."""
    at = rf'{theirs}\.attention\.(?:attention|self)'
    return (
        *_layers(theirs, ours),
        (
            rf'{at}\.(?P<part>query|key|value)\.weight',
            lambda m: m.expand(rf'{ours}.attn.qkv.weight#{_PLACES[m["part"]]}'),
        ),
        (rf'{at}\.query\.bias', rf'{ours}.attn.q_bias'),
        (rf'{at}\.value\.bias', rf'{ours}.attn.v_bias'),
    )


# Intel/dpt-large, dpt-hybrid-midas, dpt-large-ade.
HUGGINGFACE: Table = (
    (r'dpt\.embeddings\.cls_token', 'backbone.cls_token'),
    (r'dpt\.embeddings\.position_embeddings', 'backbone.pos_embed'),
    (r'dpt\.embeddings\.(?:patch_embeddings\.)?projection\.(.*)', r'backbone.patch_embed.\1'),
    (r'dpt\.embeddings\.backbone\.bit\.embedder\.convolution\.(.*)', r'backbone.stem.conv.\1'),
    (r'dpt\.embeddings\.backbone\.bit\.embedder\.norm\.(.*)', r'backbone.stem.norm.\1'),
    (
        r'dpt\.embeddings\.backbone\.bit\.encoder\.stages\.(.)\.layers\.(.*)',
        r'backbone.stages.\1.blocks.\2',
    ),
    (
        r'dpt\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(.*)',
        lambda m: f'backbone.blocks.{m[1]}.attn.qkv.{m[3]}#{_PLACES[m[2]]}',
    ),
    *_layers(r'dpt\.encoder\.layer\.(\d+)', r'backbone.blocks.\1'),
    (r'dpt\.layernorm\..*', None),  # past the last tap
    *NECK,
    (r'auxiliary_head\..*', None),  # training only
)
HEAD: Table = (
    (r'head\.head\.0\.(.*)', r'TASK.head.narrow.\1'),
    (r'head\.head\.2\.(.*)', r'TASK.head.hidden.\1'),
    (r'head\.head\.4\.(.*)', r'TASK.head.out.\1'),
)
HUGGINGFACE_DEPTH: Table = (*HUGGINGFACE, *HEAD)
HUGGINGFACE_SEGMENTATION: Table = (*HUGGINGFACE, (r'head\.head\.(.*)', r'TASK.head.scores.\1'))

HUGGINGFACE_DINOV2: Table = (
    (r'backbone\.embeddings\.cls_token', 'backbone.cls_token'),
    (r'backbone\.embeddings\.position_embeddings', 'backbone.pos_embed'),
    (r'backbone\.embeddings\.patch_embeddings\.projection\.(.*)', r'backbone.patch_embed.\1'),
    (r'backbone\.embeddings\.mask_token', None),  # of DINOv2's training
    (
        r'backbone\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(.*)',
        lambda m: f'backbone.blocks.{m[1]}.attn.qkv.{m[3]}#{_PLACES[m[2]]}',
    ),
    (
        r'backbone\.encoder\.layer\.(\d+)\.attention\.output\.dense\.(.*)',
        r'backbone.blocks.\1.attn.proj.\2',
    ),
    (
        r'backbone\.encoder\.layer\.(\d+)\.layer_scale(.)\.lambda1',
        r'backbone.blocks.\1.ls\2.gamma',
    ),
    (r'backbone\.encoder\.layer\.(\d+)\.((?:norm|mlp).*)', r'backbone.blocks.\1.\2'),
)

# LiheYoung/depth-anything-*-hf, depth-anything/Depth-Anything-V2-*-hf.
HUGGINGFACE_DEPTH_ANYTHING: Table = (
    *HUGGINGFACE_DINOV2,
    (r'backbone\.layernorm\.(.*)', r'backbone.norm.\1'),
    *NECK,
    (r'head\.conv1\.(.*)', r'TASK.head.narrow.\1'),
    (r'head\.conv2\.(.*)', r'TASK.head.hidden.\1'),
    (r'head\.conv3\.(.*)', r'TASK.head.out.\1'),
)

# facebook/dpt-dinov2-*.
HUGGINGFACE_DPT_DINOV2: Table = (
    *HUGGINGFACE_DINOV2,
    (r'backbone\.layernorm\..*', None),  # past the last tap
    *NECK,
    (r'head\.projection\.(.*)', r'TASK.head.project.\1'),
    *HEAD,
)

# Intel/dpt-beit-*.
HUGGINGFACE_BEIT: Table = (
    (r'backbone\.embeddings\.cls_token', 'backbone.cls_token'),
    (r'backbone\.embeddings\.patch_embeddings\.projection\.(.*)', r'backbone.patch_embed.\1'),
    (
        r'backbone\.encoder\.layer\.(\d+)\.attention\.attention\.'
        r'relative_position_bias\.relative_position_bias_table',
        r'backbone.blocks.\1.attn.relative_position_bias_table',
    ),
    (r'backbone\.encoder\.layer\.\d+\..*\.relative_position_index', None),  # of its size
    *_relative(r'backbone\.encoder\.layer\.(\d+)', r'backbone.blocks.\1'),
    (r'backbone\.encoder\.layer\.(\d+)\.lambda_(.)', r'backbone.blocks.\1.gamma_\2'),
    *NECK,
    *HEAD,
)

# Intel/dpt-swinv2-*.
HUGGINGFACE_SWIN2: Table = (
    (r'backbone\.embeddings\.patch_embeddings\.projection\.(.*)', r'backbone.patch_embed.\1'),
    (r'backbone\.embeddings\.norm\.(.*)', r'backbone.patch_norm.\1'),
    (
        r'backbone\.encoder\.layers\.(.)\.downsample\.(.*)',
        lambda m: f'backbone.layers.{int(m[1]) + 1}.downsample.{m[2]}',
    ),
    (
        r'backbone\.encoder\.layers\.(.)\.blocks\.(\d+)\.attention\.self\.logit_scale',
        r'backbone.layers.\1.blocks.\2.attn.logit_scale',
    ),
    (
        r'backbone\.encoder\.layers\.(.)\.blocks\.(\d+)\.attention\.self\.'
        r'continuous_position_bias_mlp\.(.*)',
        r'backbone.layers.\1.blocks.\2.attn.cpb_mlp.\3',
    ),
    *_relative(r'backbone\.encoder\.layers\.(.)\.blocks\.(\d+)', r'backbone.layers.\1.blocks.\2'),
    *NECK,
    *HEAD,
)

# What a checkpoint may be given in. Names of the authors and of Hugging Face never meet, so one
# table knows both, and the names in a file tell whose it is.
DPT_DEPTH: Table = (*OFFICIAL_DEPTH, *HUGGINGFACE_DEPTH)
DPT_SEGMENTATION: Table = (*OFFICIAL_SEGMENTATION, *HUGGINGFACE_SEGMENTATION)
BEIT: Table = (*OFFICIAL_BEIT, *HUGGINGFACE_BEIT)
SWIN2: Table = (*OFFICIAL_SWIN2, *HUGGINGFACE_SWIN2)
DEPTH_ANYTHING: Table = (*OFFICIAL_DEPTH_ANYTHING, *HUGGINGFACE_DEPTH_ANYTHING)

# Ours, as `DPT.state_dict` names it.
OWN: Table = ((r'(.*)', r'\1'),)


def rename(state: Mapping[str, Tensor], table: Table, task: str) -> dict[str, Tensor]:
    """
    Rename a published state dict to the names of `model.DPT`.

    :param state: tensors by their published names.
    :param table: one of this module's.
    :param task: 'depth' or 'segmentation', the task of the file.
    :return: the same tensors by our names, pieces joined, without those that inference has no use
        for.
    :raises ValueError: for a name that no row of the table, or more than one name of ours, knows.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        ours = rename_key(key, table, task)
        if ours in renamed:
            raise ValueError(f"two tensors of the file would become '{ours}', one is '{key}'")
        if ours is not None:
            renamed[ours] = tensor
    return _join(renamed)


def _join(renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the pieces of each tensor, `name#0`, `name#1`, ..., and leave the whole ones alone."""
    pieces: dict[str, list[Tensor]] = {}
    for ours in sorted(renamed):
        pieces.setdefault(ours.partition('#')[0], []).append(renamed[ours])
    return {
        name: found[0] if len(found) == 1 else torch.cat(found) for name, found in pieces.items()
    }


def rename_key(key: str, table: Table, task: str) -> str | None:
    """Return our name of one tensor, or None if it is dropped; the first row that matches wins."""
    for pattern, replacement in table:
        if match := re.fullmatch(pattern, key):
            if replacement is None:
                return None
            ours = replacement(match) if callable(replacement) else match.expand(replacement)
            return ours.replace('TASK', f'tasks.{task}')
    raise ValueError(f"a tensor of the file, '{key}', is not part of this kind of network")
