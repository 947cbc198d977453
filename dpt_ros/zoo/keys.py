"""
Published state dicts -> ours: tables of (pattern, replacement), and what reads them.

A pattern matches a whole key. A replacement is what `re.sub` takes: text, or a function of the
match where an index shifts. None drops the tensor: it takes no part in inference. `TASK` stands
for the task that the file was trained for.
"""

from collections.abc import Callable, Mapping, Sequence
import re

from torch import Tensor

Replacement = str | Callable[[re.Match], str] | None
Table = Sequence[tuple[str, Replacement]]

# isl-org/DPT and, for the same networks, MiDaS v3.
OFFICIAL: Table = (
    (r'pretrained\.model\.(cls_token|pos_embed|blocks\..*)', r'backbone.\1'),
    (r'pretrained\.model\.patch_embed\.proj\.(.*)', r'backbone.patch_embed.\1'),
    (r'pretrained\.model\.patch_embed\.backbone\.(.*)', r'backbone.\1'),
    (r'pretrained\.model\.(norm|head)\..*', None),  # past the last tap
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
    (r'scratch\.layer(.)_rn\.(.*)', lambda m: f'TASK.decoder.lateral.{int(m[1]) - 1}.{m[2]}'),
    (r'scratch\.refinenet4\.resConfUnit1\..*', None),  # the coarsest fusion has no skip
    (
        r'scratch\.refinenet(.)\.resConfUnit1\.(conv.*)',
        lambda m: f'TASK.decoder.fusion.{int(m[1]) - 1}.skip.{m[2]}',
    ),
    (
        r'scratch\.refinenet(.)\.resConfUnit1\.bn(.*)',
        lambda m: f'TASK.decoder.fusion.{int(m[1]) - 1}.skip.norm{m[2]}',
    ),
    (
        r'scratch\.refinenet(.)\.resConfUnit2\.(conv.*)',
        lambda m: f'TASK.decoder.fusion.{int(m[1]) - 1}.refine.{m[2]}',
    ),
    (
        r'scratch\.refinenet(.)\.resConfUnit2\.bn(.*)',
        lambda m: f'TASK.decoder.fusion.{int(m[1]) - 1}.refine.norm{m[2]}',
    ),
    (
        r'scratch\.refinenet(.)\.out_conv\.(.*)',
        lambda m: f'TASK.decoder.fusion.{int(m[1]) - 1}.project.{m[2]}',
    ),
    (r'auxlayer\..*', None),  # training only
)
OFFICIAL_DEPTH: Table = (
    *OFFICIAL,
    (r'scratch\.output_conv\.0\.(.*)', r'TASK.head.narrow.\1'),
    (r'scratch\.output_conv\.2\.(.*)', r'TASK.head.hidden.\1'),
    (r'scratch\.output_conv\.4\.(.*)', r'TASK.head.out.\1'),
)
OFFICIAL_SEGMENTATION: Table = (*OFFICIAL, (r'scratch\.output_conv\.(.*)', r'TASK.head.scores.\1'))

# Ours, as `DPT.state_dict` names it.
OWN: Table = ((r'(.*)', r'\1'),)


def rename(state: Mapping[str, Tensor], table: Table, task: str) -> dict[str, Tensor]:
    """
    Rename a published state dict to the names of `model.DPT`.

    :param state: tensors by their published names.
    :param table: one of this module's.
    :param task: 'depth' or 'segmentation', the task of the file.
    :return: the same tensors by our names, without those that inference has no use for.
    :raises ValueError: for a name that no row of the table, or more than one name of ours, knows.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        ours = rename_key(key, table, task)
        if ours in renamed:
            raise ValueError(f"two tensors of the file would become '{ours}', one is '{key}'")
        if ours is not None:
            renamed[ours] = tensor
    return renamed


def rename_key(key: str, table: Table, task: str) -> str | None:
    """Return our name of one tensor, or None if it is dropped; the first row that matches wins."""
    for pattern, replacement in table:
        if match := re.fullmatch(pattern, key):
            if replacement is None:
                return None
            ours = replacement(match) if callable(replacement) else match.expand(replacement)
            return ours.replace('TASK', f'tasks.{task}')
    raise ValueError(f"a tensor of the file, '{key}', is not part of this kind of network")
