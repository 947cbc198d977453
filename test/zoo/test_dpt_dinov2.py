"""
DPT on DINOv2: files as Hugging Face publishes them against two other networks, to the last bits.

transformers reads the very file that ours does; it is the judge where its rule for positions is
the one asked for. `dinov2_reference` is the judge of the authors' rules from pixels to metres.
"""

from dataclasses import replace
from functools import lru_cache
import json
from math import prod
import re

from depth_anything_reference import PATCH
from dinov2_reference import (
    depth_map,
    FARTHEST,
    for_hugging_face,
    forward,
    LAYOUTS,
    NEAREST,
    random_weights,
    shapes,
    UNUSED,
)
from dpt_reference import difference, random_image
from dpt_ros.model.dpt import freeze
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.perception.preprocess import feed
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.training.data import Batch
from dpt_ros.training.train import losses_of, tuning_plan
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import CHECKPOINTS, MetricDepth
from dpt_ros.zoo.keys import HUGGINGFACE_DPT_DINOV2, rename, rename_key
import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from transformers import Dinov2Config, DPTConfig, DPTForDepthEstimation

ENTRIES = [name for name in CHECKPOINTS if name.startswith('dpt_dinov2')]
WHOLE = ['dpt_dinov2_small_nyu', 'dpt_dinov2_small_kitti']  # run with all of their weights
FLOAT32 = 1e-4  # largest difference, as a share of the output's deviation
# transformers 5 calls some modules otherwise in memory than all published files do.
IN_MEMORY = {
    r'attention\.attention\.(query|key|value)': lambda m: f'attention.{m[1][0]}_proj',
    r'attention\.output\.dense': 'attention.o_proj',
}


def size_of(name):
    return name.split('_')[2]


def layout_of(name):
    return LAYOUTS[size_of(name)]


@lru_cache(maxsize=1)
def weights(size):
    return random_weights(LAYOUTS[size])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Write the same weights in both formats, as the entries of the small network want them."""
    path = tmp_path_factory.mktemp('published')
    tensors = {key: t.contiguous() for key, t in for_hugging_face(weights('small')).items()}
    save_file(tensors, path / CHECKPOINTS[WHOLE[1]].file, metadata={'format': 'pt'})
    torch.save(tensors, path / CHECKPOINTS[WHOLE[0]].file)
    yield path
    for file in path.iterdir():
        file.unlink()  # these files are large


@pytest.fixture
def load(folder, monkeypatch):
    """Load the weights written by the name of the model."""

    def load_changed(name, **architecture):
        entry = CHECKPOINTS[name]
        changed = replace(entry.architecture, **architecture)
        unknown = {'sha256': None, 'size': None}
        monkeypatch.setitem(CHECKPOINTS, name, replace(entry, architecture=changed, **unknown))
        return store.load(name, str(folder))

    return load_changed


def configuration(layout):
    """Return what config.json says of a network, from what the conversion of the files says."""
    backbone = Dinov2Config(
        hidden_size=layout.width,
        num_hidden_layers=layout.depth,
        num_attention_heads=layout.heads,
        image_size=518,
        patch_size=PATCH,
        out_indices=[tap + 1 for tap in layout.taps],
        apply_layernorm=False,
        reshape_hidden_states=False,
    )
    return DPTConfig(
        backbone_config=backbone,
        neck_hidden_sizes=list(layout.widths),
        use_bias_in_fusion_residual=False,
        add_projection=True,
    )


@pytest.fixture(scope='module')
def theirs(folder):
    """Let transformers read the file of the small network, strictly."""
    network, how = DPTForDepthEstimation.from_pretrained(
        None,
        config=configuration(LAYOUTS['small']),
        state_dict=torch.load(folder / CHECKPOINTS[WHOLE[0]].file),
        output_loading_info=True,
    )
    assert not any(how[kind] for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    return network.eval()


def picture(height, width):
    """Return an image (height, width, 3) uint8."""
    image = random_image(height + 16, width + 16)[0, :, :height, :width]
    return ((image.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()


@pytest.mark.parametrize('grid', [(9, 9), (8, 6), (5, 7), (4, 9)], ids=str)
@pytest.mark.parametrize('name', WHOLE)
def test_a_file_becomes_what_transformers_makes_of_it(name, grid, load, theirs):
    network = load(name, positions='huggingface').network
    image = random_image(grid[0] * PATCH, grid[1] * PATCH)
    with torch.inference_mode():
        wanted = theirs(image).predicted_depth
    assert difference(network(image)['depth'], wanted) < FLOAT32


@pytest.mark.parametrize('grid', [(8, 6), (5, 7)], ids=str)
def test_a_file_becomes_the_network_of_the_authors(grid, load):
    image = random_image(grid[0] * PATCH, grid[1] * PATCH)
    wanted = depth_map(weights('small'), image, LAYOUTS['small'])
    assert difference(load(WHOLE[0]).network(image)['depth'], wanted) < FLOAT32


@pytest.mark.parametrize('name', ENTRIES)
def test_a_vga_image_has_the_margin_and_the_map_of_the_authors(name):
    # 35 x 46 patches; 35 are halved to 18 and doubled five times, 46 to 23.
    entry = CHECKPOINTS[name]
    image = feed(torch.zeros(1, 480, 640, 3, dtype=torch.uint8), entry)
    assert image.shape == (1, 3, 490, 644)
    with torch.device('meta'):
        depth = store.build(entry)(torch.empty(image.shape))['depth']
    assert depth.shape == (1, 576, 736)


@pytest.mark.parametrize('size', [(75, 101), (84, 98), (70, 112)], ids=str)
@pytest.mark.parametrize('name', WHOLE)
def test_an_image_becomes_the_metres_of_the_authors(name, size, load):
    trained = load(name)
    perception = Perception(trained, None, device=torch.device('cpu'), dtype=torch.float32)
    image = picture(*size)
    focal = trained.checkpoint.focal  # with another camera metres would be others
    camera = Camera(size[1], size[0], focal, focal, size[1] / 2, size[0] / 2)
    frame = Frame('', None, image, camera)
    chosen = options(Parameters(depth_edge_angle=0.0))
    (result,) = perception([frame], {'depth', 'points'}, chosen)
    farthest = FARTHEST[name.split('_')[-1]]
    wanted = forward(weights('small'), torch.from_numpy(image)[None], LAYOUTS['small'], farthest)
    assert (wanted.max() == farthest) == name.endswith('nyu')  # beyond 10 m it is cut off
    assert difference(torch.from_numpy(result.products['depth']), wanted[0]) < FLOAT32
    points = result.products['points'][..., :3] @ [0, 0, 1]
    np.testing.assert_array_equal(points, result.products['depth'])


def test_a_batch_is_its_images(load):
    perception = Perception(load(WHOLE[0]), None, device=torch.device('cpu'), dtype=torch.float32)
    frames = [Frame('', None, picture(75, 101)[::step].copy(), None) for step in (1, -1)]
    both = perception(frames, {'depth'}, options(Parameters()))
    for frame, result in zip(frames, both, strict=True):
        (alone,) = perception([frame], {'depth'}, options(Parameters()))
        depth = torch.from_numpy(alone.products['depth'])
        assert difference(torch.from_numpy(result.products['depth']), depth) < FLOAT32


@pytest.mark.parametrize('name', ENTRIES)
def test_every_tensor_of_a_file_is_one_of_ours_or_unused(name):
    with torch.device('meta'):
        ours = store.build(CHECKPOINTS[name]).state_dict()
        file = for_hugging_face(
            {key: torch.empty(shape) for key, shape in shapes(layout_of(name)).items()}
        )
    table = HUGGINGFACE_DPT_DINOV2
    assert CHECKPOINTS[name].keys is table
    dropped = {key for key in file if rename_key(key, table, 'depth') is None}
    assert dropped == {
        *UNUSED,
        'backbone.embeddings.mask_token',
        'backbone.layernorm.weight',
        'backbone.layernorm.bias',
    }
    renamed = rename(file, table, 'depth')
    assert {key: t.shape for key, t in renamed.items()} == {k: t.shape for k, t in ours.items()}
    names = [rename_key(key, table, 'depth') for key in file if key not in dropped]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('size', LAYOUTS)
def test_the_description_is_what_transformers_builds(size):
    with torch.device('meta'):
        network = DPTForDepthEstimation(configuration(LAYOUTS[size]))
        described = {key: torch.empty(shape) for key, shape in shapes(LAYOUTS[size]).items()}
    file = for_hugging_face(described)
    for pattern, replacement in IN_MEMORY.items():
        file = {re.sub(pattern, replacement, key): tensor for key, tensor in file.items()}
    built = network.state_dict()
    assert {key: t.shape for key, t in file.items()} == {k: t.shape for k, t in built.items()}


def bytes_of(tensors):
    """Return the size of a safetensors file of float32: its header tells names and shapes."""
    header, end = {'__metadata__': {'format': 'pt'}}, 0
    for name in sorted(tensors):
        start, end = end, end + 4 * prod(tensors[name].shape)
        shape = list(tensors[name].shape)
        header[name] = {'dtype': 'F32', 'shape': shape, 'data_offsets': [start, end]}
    text = len(json.dumps(header, separators=(',', ':')))
    return 8 + -(-text // 8) * 8 + end


def test_a_file_as_we_write_it_has_the_size_computed(folder):
    file = folder / CHECKPOINTS[WHOLE[1]].file
    assert file.stat().st_size == bytes_of(for_hugging_face(weights('small')))


@pytest.mark.parametrize('name', [n for n in ENTRIES if CHECKPOINTS[n].size is not None])
def test_the_published_file_is_as_large_as_one_with_these_names_and_shapes(name):
    with torch.device('meta'):
        described = {key: torch.empty(shape) for key, shape in shapes(layout_of(name)).items()}
        assert CHECKPOINTS[name].size == bytes_of(for_hugging_face(described))


@pytest.mark.parametrize('name', ENTRIES)
def test_entries_are_fed_and_read_as_published(name):
    entry, data = CHECKPOINTS[name], name.split('_')[-1]
    assert entry.architecture.blocks == layout_of(name).taps
    assert entry.depth == MetricDepth(NEAREST, FARTHEST[data])
    assert (entry.color_max, entry.mean) == (255, (123.675, 116.28, 103.53))
    assert entry.std == (58.395, 57.12, 57.375)
    assert (entry.resize.rule, entry.resize.multiple) == ('native', PATCH)
    assert (entry.restore.mode, entry.restore.align_corners) == ('bilinear', False)
    assert f'/dpt-dinov2-{size_of(name)}-{data}/' in entry.address
    assert entry.address.endswith(('/pytorch_model.bin', '/model.safetensors'))
    assert entry.file.startswith(f'dpt-dinov2-{size_of(name)}-{data}.')
    assert len(entry.sha256) == 64


def test_all_sizes_are_there_for_both_data_sets():
    wanted = {f'dpt_dinov2_{size}_{data}' for size in LAYOUTS for data in FARTHEST}
    assert set(ENTRIES) == wanted


def test_the_loss_of_tuning_is_taken_at_the_size_of_the_image(load):
    trained = load(WHOLE[0])
    rgb = torch.from_numpy(picture(56, 70))[None]
    depth = forward(weights('small'), rgb, LAYOUTS['small'], FARTHEST['nyu'])
    batch = Batch(rgb, depth, torch.zeros(1, 56, 70, dtype=torch.uint8))
    with torch.inference_mode():
        plan = replace(tuning_plan(trained.checkpoint, (56, 70), steps=1, batch=1), half=False)
        parts = losses_of(freeze(trained.network), batch, trained.checkpoint, plan)
    assert parts['depth'] < 1e-4  # the truth is what the network says


@pytest.mark.parametrize('name', ['dpt_dinov2_base_nyu', 'dpt_dinov2_large_nyu'])
def test_the_larger_networks_are_those_of_the_authors_too(name):
    with torch.device('meta'):
        network = store.build(CHECKPOINTS[name])
    state = weights(size_of(name))
    file = rename(for_hugging_face(state), CHECKPOINTS[name].keys, 'depth')
    network.load_state_dict(file, assign=True)
    image = random_image(3 * PATCH, 5 * PATCH)
    with torch.inference_mode():
        depth = freeze(network)(image)['depth']
    assert difference(depth, depth_map(state, image, layout_of(name))) < FLOAT32
