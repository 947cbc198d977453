"""
Our network against two others on equal random weights: transformers', and plain functions.

In double precision rounding is out of the picture, so equality is near to literal. transformers
is the judge of square images only (on others it fails or scrambles the map); `dpt_reference` is
the judge of the rest.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from dpt_reference import (
    backbone_shapes,
    CLASSES,
    decoder_shapes,
    for_transformers,
    forward,
    Layout,
    LAYOUTS,
    random_image,
    random_weights,
)
from dpt_ros.model.dpt import freeze
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import BASE, Checkpoint, HYBRID, LARGE, RelativeDepth, Resize
from dpt_ros.zoo.keys import OFFICIAL_DEPTH, OFFICIAL_SEGMENTATION, rename
import pytest
import torch
from torch.nn import functional as F
from transformers import DPTConfig, DPTForDepthEstimation, DPTForSemanticSegmentation

ARCHITECTURES = {'base': BASE, 'large': LARGE, 'hybrid': HYBRID}
SIZES = {'base': (96, 160), 'large': (64, 96), 'hybrid': (64, 128)}  # heights and widths
EXACT, FLOAT32 = 1e-9, 1e-4  # largest differences, as shares of the output's deviation


@dataclass
class Published:
    """Random weights as a published file holds them."""

    name: str
    task: str
    layout: Layout
    state: dict


@lru_cache(maxsize=1)
def backbone(layout):
    return random_weights(backbone_shapes(layout), dtype=torch.float64)


def decoder(layout, task):
    return random_weights(decoder_shapes(layout, task), dtype=torch.float64)


@pytest.fixture(
    scope='module',
    params=[(name, task) for name in ARCHITECTURES for task in ('depth', 'segmentation')],
    ids='-'.join,
)
def published(request):
    name, task = request.param
    layout = LAYOUTS[name]
    return Published(name, task, layout, {**backbone(layout), **decoder(layout, task)})


def ours(published, image, **changes):
    """Load the published weights as the zoo does and compute what the published network yields."""
    facts = {
        'depth': {'depth': RelativeDepth(), 'keys': OFFICIAL_DEPTH},
        'segmentation': {'labels': 'ade20k_150', 'keys': OFFICIAL_SEGMENTATION},
    }[published.task]
    architecture = replace(ARCHITECTURES[published.name], **changes)
    entry = Checkpoint(architecture, Resize(384, 384), **facts)
    with torch.device('meta'):
        network = store.build(entry)
    state = rename(published.state, entry.keys, published.task)
    network.load_state_dict(state, strict=True, assign=True)
    with torch.inference_mode():
        result = freeze(network.to(image.dtype))(image)[published.task]
    if published.task == 'depth':
        return result
    return F.interpolate(result, scale_factor=2, mode='bilinear', align_corners=True)


def theirs(published, image):
    """Compute the same with transformers."""
    layout = published.layout
    config = DPTConfig(
        hidden_size=layout.width,
        num_hidden_layers=layout.depth,
        num_attention_heads=layout.heads,
        intermediate_size=4 * layout.width,
        layer_norm_eps=1e-6,
        is_hybrid=layout.hybrid,
        backbone_out_indices=[*((2, 5) if layout.hybrid else ()), *layout.taps],
        neck_hidden_sizes=list(layout.widths),
        reassemble_factors=[1, 1, 1, 0.5] if layout.hybrid else [4, 2, 1, 0.5],
        use_batch_norm_in_fusion_residual=published.task == 'segmentation',
        num_labels=CLASSES,
    )
    heads = {'depth': DPTForDepthEstimation, 'segmentation': DPTForSemanticSegmentation}
    with torch.device('meta'):
        network = heads[published.task](config).eval()
    state = for_transformers(published.state, layout)
    network.load_state_dict(state, strict=True, assign=True)
    if layout.hybrid:  # it takes one size only, but interpolates the positions all the same
        network.dpt.embeddings.image_size = tuple(image.shape[-2:])
    with torch.inference_mode():
        result = network(image)
    return result.predicted_depth if published.task == 'depth' else result.logits


def difference(got, wanted):
    """Return the largest difference over the deviation of what is wanted."""
    assert got.shape == wanted.shape
    assert wanted.std() > 0.1  # of weights that hide nothing
    return ((got - wanted).abs().max() / wanted.std()).item()


def test_equals_transformers_on_a_square_image(published):
    image = random_image(128, 128, dtype=torch.float64)
    spread = {'standardization': 'midas'} if published.layout.hybrid else {}
    found = difference(ours(published, image, **spread), theirs(published, image))
    assert found < EXACT


def test_equals_the_published_functions_on_a_wide_image(published):
    image = random_image(*SIZES[published.name], dtype=torch.float64)
    wanted = forward(published.state, image, published.layout)
    assert difference(ours(published, image), wanted) < EXACT


def test_rounding_to_float32_is_not_seen(published):
    height, width = SIZES[published.name]
    image = random_image(width, height)  # a tall one this time
    wanted = forward(published.state, image.double(), published.layout)
    assert difference(ours(published, image), wanted) < FLOAT32


@pytest.mark.parametrize('published', [('hybrid', 'depth')], indirect=True, ids='-'.join)
def test_the_two_standardizations_differ_by_more_than_rounding(published):
    image = random_image(128, 128, dtype=torch.float64)
    found = difference(ours(published, image, standardization='dpt'), theirs(published, image))
    assert 2e-4 < found < 2e-2


@pytest.mark.parametrize('published', [('base', 'depth')], indirect=True, ids='-'.join)
def test_a_wide_image_of_as_many_patches_as_a_square_one_is_not_taken_for_it(published):
    image = random_image(288, 512)  # 18 x 32 patches, trained on 24 x 24: 576 both
    state = {key: tensor.to(image.dtype) for key, tensor in published.state.items()}
    wanted = forward(state, image, published.layout)
    assert difference(ours(published, image), wanted) < FLOAT32


@pytest.mark.parametrize('published', [('hybrid', 'depth')], indirect=True, ids='-'.join)
def test_a_hybrid_is_exact_on_a_larger_image_too(published):
    image = random_image(192, 256, dtype=torch.float64)
    wanted = forward(published.state, image, published.layout)
    assert difference(ours(published, image), wanted) < EXACT
