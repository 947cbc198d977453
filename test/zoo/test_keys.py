"""Names in the published files against ours: each tensor has one place or a reason for none."""

import ast
import csv
from pathlib import Path
import re

from dpt_reference import (
    for_transformers,
    forward,
    LAYOUTS,
    parameters,
    random_image,
    random_weights,
    shapes,
)
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import (
    Architecture,
    BASE,
    Checkpoint,
    CHECKPOINTS,
    HYBRID,
    LARGE,
    RelativeDepth,
    Resize,
)
from dpt_ros.zoo.keys import (
    DPT_DEPTH,
    DPT_SEGMENTATION,
    HUGGINGFACE_DEPTH,
    HUGGINGFACE_SEGMENTATION,
    OFFICIAL_DEPTH,
    OFFICIAL_SEGMENTATION,
    rename,
    rename_key,
)
import pytest
from safetensors.torch import save_file
import torch
from torch.nn import functional as F
from transformers import DPTConfig, DPTForDepthEstimation, DPTForSemanticSegmentation

DEPTH = {'depth': RelativeDepth(), 'keys': OFFICIAL_DEPTH}
SEGMENTATION = {'labels': 'ade20k_150', 'keys': OFFICIAL_SEGMENTATION}
# Layout, task, our entry; tensors and parameters of the file; parameters used, in millions.
PUBLISHED = [
    pytest.param('base', 'depth', BASE, DEPTH, 224, 111_647_081, '109.70', id='base-depth'),
    pytest.param('large', 'depth', LARGE, DEPTH, 368, 344_055_465, '341.85', id='large-depth'),
    pytest.param('hybrid', 'depth', HYBRID, DEPTH, 368, 123_146_985, '121.20', id='hybrid-depth'),
    pytest.param(
        'large', 'segmentation', LARGE, SEGMENTATION, 442, 344_985_364, '342.15', id='large-ade'
    ),
    pytest.param(
        'hybrid', 'segmentation', HYBRID, SEGMENTATION, 442, 124_076_884, '121.50', id='hybrid-ade'
    ),
]
UNUSED = {
    r'pretrained\.model\.head\..*': 'classes of ImageNet',
    r'pretrained\.model\.norm\..*': 'behind the last block tapped',
    r'scratch\.refinenet4\.resConfUnit1\..*': 'of a skip that the coarsest fusion does not get',
    r'auxlayer\..*': 'training only',
}
FACTS = Path(__file__).parents[3] / 'shared' / 'model_facts' / 'maps'


HUGGINGFACE = {'depth': HUGGINGFACE_DEPTH, 'segmentation': HUGGINGFACE_SEGMENTATION}
EITHER = {'depth': DPT_DEPTH, 'segmentation': DPT_SEGMENTATION}


def build(architecture, facts):
    with torch.device('meta'):
        return store.build(Checkpoint(architecture, Resize(384, 384), **facts))


def is_unused(key):
    return any(re.fullmatch(pattern, key) for pattern in UNUSED)


@pytest.mark.parametrize(('name', 'task', '_', '__', 'tensors', 'count', '___'), PUBLISHED)
def test_the_description_has_the_size_of_the_published_file(
    name, task, _, __, tensors, count, ___
):
    assert len(shapes(LAYOUTS[name], task)) == tensors
    assert parameters(LAYOUTS[name], task) == count


@pytest.mark.skipif(not FACTS.is_dir(), reason='lists of the official code are not beside us')
@pytest.mark.parametrize(('name', 'task', '_', '__', '___', '____', '_____'), PUBLISHED)
def test_the_description_is_what_the_official_code_lists(name, task, _, __, ___, ____, _____):
    file = FACTS / f'dpt_{name}_{"depth" if task == "depth" else "ade"}.tsv'
    with file.open(encoding='utf-8') as lines:
        rows = csv.DictReader(lines, delimiter='\t')
        official = {row['official']: ast.literal_eval(row['shape']) for row in rows}
    assert shapes(LAYOUTS[name], task) == official


@pytest.mark.parametrize(('name', 'task', 'entry', 'facts', '_', '__', '___'), PUBLISHED)
def test_every_tensor_of_a_file_is_one_of_ours_or_unused(name, task, entry, facts, _, __, ___):
    published = {
        key: torch.empty(s, device='meta') for key, s in shapes(LAYOUTS[name], task).items()
    }
    renamed = {key: rename_key(key, facts['keys'], task) for key in published}
    assert {key for key, ours in renamed.items() if ours is None} == set(
        filter(is_unused, published)
    )
    used = [ours for ours in renamed.values() if ours is not None]
    assert len(set(used)) == len(used)
    assert set(used) == set(build(entry, facts).state_dict())


@pytest.mark.parametrize(('name', 'task', 'entry', 'facts', '_', '__', '___'), PUBLISHED)
def test_every_tensor_of_a_file_has_the_shape_of_ours(name, task, entry, facts, _, __, ___):
    published = {
        key: torch.empty(s, device='meta') for key, s in shapes(LAYOUTS[name], task).items()
    }
    ours = build(entry, facts).state_dict()
    for key, tensor in rename(published, facts['keys'], task).items():
        assert tensor.shape == ours[key].shape, key


@pytest.mark.parametrize(('name', 'task', 'entry', 'facts', '_', 'count', 'used'), PUBLISHED)
def test_our_network_has_the_parameters_used_and_no_others(
    name, task, entry, facts, _, count, used
):
    ours = sum(parameter.numel() for parameter in build(entry, facts).parameters())
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    dropped = sum(
        torch.Size(shape).numel()
        for key, shape in shapes(LAYOUTS[name], task).items()
        if is_unused(key) and not key.endswith(statistics)
    )
    assert ours == count - dropped
    assert f'{ours / 1e6:.2f}' == used


@pytest.mark.parametrize('pattern', UNUSED)
def test_no_reason_to_drop_a_tensor_is_idle(pattern):
    assert any(re.fullmatch(pattern, key) for key in shapes(LAYOUTS['large'], 'segmentation'))


@pytest.mark.parametrize('key', ['module.scratch.layer1_rn.weight', 'epoch', 'pretrained.model'])
def test_an_unknown_tensor_is_refused_by_its_name(key):
    with pytest.raises(ValueError, match=f"'{re.escape(key)}', is not part of this kind"):
        rename({key: torch.zeros(1)}, OFFICIAL_DEPTH, 'depth')


def test_a_tensor_of_the_other_task_is_refused():
    with pytest.raises(ValueError, match=r"'scratch\.output_conv\.1\.running_mean', is not part"):
        rename({'scratch.output_conv.1.running_mean': torch.zeros(1)}, OFFICIAL_DEPTH, 'depth')


def test_two_tensors_of_one_name_are_refused():
    table = ((r'(first|second)', 'same'),)
    with pytest.raises(ValueError, match="would become 'same', one is 'second'"):
        rename({'first': torch.zeros(1), 'second': torch.zeros(1)}, table, 'depth')


def test_the_first_row_that_matches_wins():
    assert (
        rename_key('a', ((r'a', 'TASK.first'), (r'.', 'second')), 'depth') == 'tasks.depth.first'
    )


def test_tensors_are_passed_on_and_not_copied():
    tensor = torch.zeros(3)
    renamed = rename({'pretrained.model.cls_token': tensor}, OFFICIAL_DEPTH, 'depth')
    assert renamed['backbone.cls_token'] is tensor


def names_at_hugging_face(layout, task):
    """Return the name, or three for query, key and value, of each tensor of the authors' file."""
    return {
        key: list(for_transformers({key: torch.empty(s, device='meta')}, layout))
        for key, s in shapes(layout, task).items()
    }


@pytest.mark.skipif(not FACTS.is_dir(), reason='lists of the official code are not beside us')
@pytest.mark.parametrize(('name', 'task', '_', '__', '___', '____', '_____'), PUBLISHED)
def test_names_at_hugging_face_are_those_listed(name, task, _, __, ___, ____, _____):
    file = FACTS / f'dpt_{name}_{"depth" if task == "depth" else "ade"}.tsv'
    with file.open(encoding='utf-8') as lines:
        rows = {row['official']: row['HF_key'] for row in csv.DictReader(lines, delimiter='\t')}
    for key, names in names_at_hugging_face(LAYOUTS[name], task).items():
        if len(names) == 1:
            assert names == [rows[key]]


@pytest.mark.parametrize(('name', 'task', '_', '__', '___', '____', '_____'), PUBLISHED)
def test_both_layouts_agree_on_our_name_of_every_tensor(name, task, _, __, ___, ____, _____):
    for key, names in names_at_hugging_face(LAYOUTS[name], task).items():
        ours = rename_key(key, EITHER[task], task)
        found = [rename_key(other, EITHER[task], task) for other in names]
        wanted = [f'{ours}#{n}' for n in range(3)] if len(names) == 3 else [ours] * len(names)
        assert found == wanted


@pytest.mark.parametrize(('name', 'task', 'entry', 'facts', '_', '__', '___'), PUBLISHED)
def test_every_tensor_of_a_file_of_hugging_face_has_its_place(
    name, task, entry, facts, _, __, ___
):
    published = {
        key: torch.empty(s, device='meta') for key, s in shapes(LAYOUTS[name], task).items()
    }
    renamed = rename(for_transformers(published, LAYOUTS[name]), HUGGINGFACE[task], task)
    ours = build(entry, facts).state_dict()
    assert {key: t.shape for key, t in renamed.items()} == {k: t.shape for k, t in ours.items()}


@pytest.mark.parametrize('suffix', ['safetensors', 'bin'])
@pytest.mark.parametrize('task', ['depth', 'segmentation'])
def test_a_file_of_hugging_face_becomes_the_network_of_the_authors(
    tmp_path, monkeypatch, task, suffix
):
    layout = LAYOUTS['tiny']
    state = random_weights(shapes(layout, task))
    file = tmp_path / f'model.{suffix}'
    tensors = {key: t.contiguous() for key, t in for_transformers(state, layout).items()}
    if suffix == 'bin':
        torch.save(tensors, file)
    else:
        save_file(tensors, file, metadata={'format': 'pt'})
    facts = {'depth': {'depth': RelativeDepth()}, 'segmentation': {'labels': 'ade20k_150'}}[task]
    architecture = Architecture(layout.timm, layout.taps, layout.widths, width=layout.features)
    entry = Checkpoint(
        architecture, Resize(224, 224), keys=EITHER[task], file='of the authors', **facts
    )
    monkeypatch.setitem(CHECKPOINTS, 'small', entry)
    network, image = store.load('small', str(file)).network, random_image(160, 160)
    ours = network(image)[task]
    wanted = forward(state, image, layout)
    if task == 'segmentation':
        ours = F.interpolate(ours, scale_factor=2, mode='bilinear', align_corners=True)
    assert (ours - wanted).abs().max() < 1e-4 * wanted.std()
    if suffix == 'safetensors':  # and transformers makes the same of that very file
        theirs = read_by_transformers(tmp_path, layout, task)(image)
        other = theirs.predicted_depth if task == 'depth' else theirs.logits
        assert (ours - other).abs().max() < 1e-4 * wanted.std()


def read_by_transformers(folder, layout, task):
    """Load `model.safetensors` of a folder strictly."""
    DPTConfig(
        hidden_size=layout.width,
        num_hidden_layers=layout.depth,
        num_attention_heads=layout.heads,
        intermediate_size=4 * layout.width,
        image_size=224,
        layer_norm_eps=1e-6,
        backbone_out_indices=list(layout.taps),
        neck_hidden_sizes=list(layout.widths),
        fusion_hidden_size=layout.features,
        use_batch_norm_in_fusion_residual=task == 'segmentation',
        num_labels=150,
    ).save_pretrained(folder)
    kinds = {'depth': DPTForDepthEstimation, 'segmentation': DPTForSemanticSegmentation}
    network, how = kinds[task].from_pretrained(folder, output_loading_info=True)
    assert not any(how[kind] for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    return network.eval()


def test_pieces_are_joined_in_their_order_wherever_they_stand():
    table = ((r'([abc])', lambda m: f'joined#{"abc".index(m[1])}'), (r'(d)', r'\1'))
    state = {key: torch.full((2,), float(n)) for n, key in enumerate('cdab')}
    renamed = rename(state, table, 'depth')
    assert renamed.keys() == {'joined', 'd'}
    assert renamed['joined'].tolist() == [2, 2, 3, 3, 0, 0]
    assert renamed['d'] is state['d']


def test_a_file_that_mixes_two_layouts_is_refused():
    state = {
        'pretrained.model.cls_token': torch.zeros(1, 1, 4),
        'dpt.embeddings.cls_token': torch.zeros(1, 1, 4),
    }
    with pytest.raises(ValueError, match=r"would become 'backbone\.cls_token'"):
        rename(state, DPT_DEPTH, 'depth')
