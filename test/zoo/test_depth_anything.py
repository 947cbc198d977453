"""
Depth Anything: files in both published layouts against two other networks, to the last bits.

transformers reads the very file that ours does; it is the judge where its rule for positions is
the one asked for. `depth_anything_reference` is the judge of the authors' rule on any size.
"""

from dataclasses import replace
from functools import lru_cache
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from depth_anything_reference import (
    for_hugging_face,
    forward,
    LAYOUTS,
    PATCH,
    positions,
    random_weights,
    shapes,
)
from dpt_reference import difference, random_image
from dpt_ros.model.backbone import resize_position_embedding
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import BoundedDepth, CHECKPOINTS
from dpt_ros.zoo.keys import DEPTH_ANYTHING, rename, rename_key
import pytest
from safetensors.torch import save_file
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

ENTRIES = sorted(
    (name for name in CHECKPOINTS if name.startswith('depth_anything')),
    key=lambda name: name.split('_')[-1],  # weights are made once a size
)
# They differ from V2 large by their ends only. What transformers makes of them is compared with
# four blocks of full width instead of 24, to save time (docs/networks.md).
CUT = ('depth_anything_v2_indoor_large', 'depth_anything_v2_outdoor_large')
FOUR = (0, 1, 2, 3)
FACTS = Path(__file__).parents[3] / 'shared' / 'model_facts'
FLOAT32 = 1e-4  # largest difference, as a share of the output's deviation


def layout_of(name):
    version, size = name.split('_')[2], name.split('_')[-1]
    return LAYOUTS[f'{version}_{size}']


def layout_compared(name):
    """Return the layout that transformers judges."""
    layout = layout_of(name)
    return replace(layout, depth=len(FOUR), taps=FOUR) if name in CUT else layout


def weights(layout):
    """Make random weights; which blocks are tapped does not change them."""
    return weights_of_size(replace(layout, taps=()))


weights_of_size = lru_cache(maxsize=1)(random_weights)


@pytest.fixture
def folder():
    """Give a folder that is gone after the test: these files are large."""
    with TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def load(folder, monkeypatch):
    """Write random weights as the authors do, and load them by the name of the model."""

    def write_and_load(name, **architecture):
        entry = CHECKPOINTS[name]
        changed = replace(entry.architecture, **architecture)
        monkeypatch.setitem(
            CHECKPOINTS, name, replace(entry, architecture=changed, sha256=None, size=None)
        )
        torch.save(weights(layout_of(name)), folder / entry.file)
        return store.load(name, str(folder)).network

    return write_and_load


def write_for_hugging_face(name, folder):
    """Write `model.safetensors` and `config.json` as in a repository of Hugging Face."""
    layout, depth = layout_compared(name), CHECKPOINTS[name].depth
    backbone = Dinov2Config(
        hidden_size=layout.width,
        num_hidden_layers=layout.depth,
        num_attention_heads=layout.heads,
        image_size=518,
        patch_size=PATCH,
        out_indices=[tap + 1 for tap in layout.taps],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=layout.width,
        patch_size=PATCH,
        neck_hidden_sizes=list(layout.widths),
        fusion_hidden_size=layout.features,
        depth_estimation_type='metric' if isinstance(depth, BoundedDepth) else 'relative',
        max_depth=int(depth.maximum) if isinstance(depth, BoundedDepth) else 1,
    )
    config.save_pretrained(folder)
    file = folder / 'model.safetensors'
    save_file(for_hugging_face(weights(layout)), file, metadata={'format': 'pt'})
    return file


def read_by_transformers(folder):
    network, how = DepthAnythingForDepthEstimation.from_pretrained(
        folder, output_loading_info=True
    )
    assert not how['missing_keys']
    assert not how['unexpected_keys']
    assert not how['mismatched_keys']
    return network.eval()


def metres_or_raw(name, network, image):
    depth = CHECKPOINTS[name].depth
    scale = depth.maximum if isinstance(depth, BoundedDepth) else 1
    return network(image)['depth'] * scale


@pytest.mark.parametrize('name', ENTRIES)
def test_a_file_of_the_authors_becomes_their_network(name, load):
    maximum = CHECKPOINTS[name].depth.maximum if CHECKPOINTS[name].is_metric else None
    network, layout = load(name), layout_of(name)
    for size in ((8 * PATCH, 11 * PATCH), (9 * PATCH, 5 * PATCH)):  # odd grids, wide and tall
        image = random_image(*size)
        wanted = forward(weights(layout), image, layout, maximum=maximum)
        assert difference(metres_or_raw(name, network, image), wanted, spread=0.02) < FLOAT32


@pytest.mark.parametrize('name', ENTRIES)
def test_a_file_of_hugging_face_becomes_what_transformers_makes_of_it(name, folder, monkeypatch):
    entry, taps = CHECKPOINTS[name], layout_compared(name).taps
    rule = replace(entry.architecture, positions='huggingface', blocks=taps)
    monkeypatch.setitem(CHECKPOINTS, name, replace(entry, architecture=rule))
    file = write_for_hugging_face(name, folder)
    network, other = store.load(name, str(file)).network, read_by_transformers(folder)
    image = random_image(9 * PATCH, 9 * PATCH)
    with torch.inference_mode():
        wanted = other(image).predicted_depth
    assert difference(metres_or_raw(name, network, image), wanted, spread=0.02) < FLOAT32


def test_at_the_size_trained_on_the_rules_of_positions_agree(load, folder):
    name = 'depth_anything_v2_small'
    write_for_hugging_face(name, folder)
    image = random_image(518, 518)
    with torch.inference_mode():
        wanted = read_by_transformers(folder)(image).predicted_depth
    assert difference(load(name)(image)['depth'], wanted, spread=0.02) < FLOAT32


def test_at_another_size_the_rules_of_positions_are_far_apart(load):
    name, image = 'depth_anything_v2_small', random_image(8 * PATCH, 11 * PATCH)
    theirs, authors = load(name, positions='huggingface'), load(name, positions='depth_anything')
    assert difference(theirs(image)['depth'], authors(image)['depth'], spread=0.02) > 100 * FLOAT32


@pytest.mark.parametrize('grid', [(37, 53), (28, 37), (1, 2), (37, 66)])
def test_positions_are_read_at_the_steps_of_the_authors(grid):
    embedding = torch.randn(1, 1 + 37 * 37, 3, dtype=torch.float64)
    ours = resize_position_embedding(embedding, grid, rule='depth_anything')
    torch.testing.assert_close(ours, positions(embedding, 37, grid), rtol=0, atol=1e-5)


@pytest.mark.parametrize('grid', [(n, 2 * n) for n in range(1, 130, 7)])
def test_positions_have_the_grid_asked_for(grid):
    resized = resize_position_embedding(torch.randn(1, 1370, 2), grid, rule='depth_anything')
    assert resized.shape == (1, 1 + grid[0] * grid[1], 2)


@pytest.mark.parametrize('size', ['small', 'base', 'large'])
def test_the_description_is_what_the_official_code_lists(size):
    file = FACTS / f'dav2_vit{size[0]}_keys.json'
    if not file.is_file():
        pytest.skip('lists of the official code are not beside us')
    official = {key: tuple(shape) for key, shape in json.loads(file.read_text()).items()}
    assert shapes(LAYOUTS[f'v2_{size}']) == official


@pytest.mark.parametrize('rename_file', [dict, for_hugging_face], ids=['authors', 'hugging face'])
@pytest.mark.parametrize('name', ENTRIES)
def test_every_tensor_of_a_file_is_one_of_ours_or_unused(name, rename_file):
    with torch.device('meta'):
        ours = store.build(CHECKPOINTS[name]).state_dict()
        published = {key: torch.empty(s) for key, s in shapes(layout_of(name)).items()}
    file = rename_file(published)
    dropped = {key for key in file if rename_key(key, DEPTH_ANYTHING, 'depth') is None}
    unused = {key for key in published if 'mask_token' in key or '4.resConfUnit1' in key}
    assert dropped == set(rename_file({key: published[key] for key in unused}))
    renamed = rename(file, DEPTH_ANYTHING, 'depth')
    assert {key: t.shape for key, t in renamed.items()} == {k: t.shape for k, t in ours.items()}
    assert len({rename_key(key, DEPTH_ANYTHING, 'depth') for key in file} - {None}) == len(
        file
    ) - len(dropped)


def test_both_layouts_give_equal_tensors():
    layout = LAYOUTS['v2_small']
    authors = rename(weights(layout), DEPTH_ANYTHING, 'depth')
    other = rename(for_hugging_face(weights(layout)), DEPTH_ANYTHING, 'depth')
    assert authors.keys() == other.keys()
    assert all(torch.equal(authors[key], other[key]) for key in authors)
