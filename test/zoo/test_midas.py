"""
MiDaS 3.1 on BEiT and Swin V2: files in both layouts against two other networks.

transformers reads the very file that ours does, and `midas_reference` the authors' own. Both know
BEiT at any size and Swin V2 at its own. To save time the large ones are cut down here; all six
were run whole once, against the authors' code too (docs/networks.md).
"""

from dataclasses import replace
from functools import partial

from dpt_reference import difference, random_image
from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.perception.preprocess import network_size
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import CHECKPOINTS, RelativeDepth, Resize, Restore
from dpt_ros.zoo.keys import rename, rename_key
from midas_reference import for_hugging_face, forward, LAYOUTS, random_weights, shapes
import numpy as np
import pytest
from safetensors.torch import save_file
import timm
import torch
from transformers import BeitConfig, DPTConfig, DPTForDepthEstimation, Swinv2Config

FLOAT32 = 1e-4  # largest difference, as a share of the output's deviation
# What the suite runs: 4 of 24 blocks, 2 of 18 in the third stage at half the side, and narrow.
FEW = {'depth': 4, 'taps': (0, 1, 2, 3), 'width': 64, 'heads': 2, 'widths': (16, 32, 64, 64)}
FEW_STAGES = {'stages': (2, 2, 2, 2), 'side': 192, 'features': 32}
CUT = {
    'dpt_beit_large_512': FEW | {'features': 32},
    'dpt_beit_large_384': FEW | {'features': 32},
    'dpt_swin2_large_384': FEW_STAGES | {'width': 96, 'heads': 3, 'widths': (96, 192, 384, 768)},
    'dpt_swin2_base_384': FEW_STAGES | {'width': 64, 'heads': 2, 'widths': (64, 128, 256, 512)},
}
RUN = {name: replace(layout, **CUT.get(name, {})) for name, layout in LAYOUTS.items()}
BEIT_SIZES = [(64, 64), (96, 64), (32, 544)]  # heights, widths: one wider than was trained on
# Tensors and parameters of the authors' files, counted in their networks (isl-org/MiDaS, timm
# 0.6.12), and the bytes that their files have for each tensor besides its values.
COUNTED = {
    'dpt_beit_large_512': (487, 345_014_441),
    'dpt_beit_large_384': (487, 344_338_601),
    'dpt_beit_base_384': (283, 111_531_689),
    'dpt_swin2_large_384': (477, 213_411_869),
    'dpt_swin2_base_384': (477, 102_378_913),
    'dpt_swin2_tiny_256': (273, 41_701_331),
}
OVERHEAD = (380, 395)


def is_computed(key: str) -> bool:
    """Tell whether a tensor of the authors' file follows from sizes, and was not trained."""
    return key.endswith(('relative_position_index', 'attn_mask'))


def is_unused(key: str) -> bool:
    """Tell whether the depth does not depend on a tensor of the authors' file."""
    at = ('pretrained.model.norm.', 'pretrained.model.fc_norm.', 'pretrained.model.head.')
    return is_computed(key) or key.startswith((*at, 'scratch.refinenet4.resConfUnit1.'))


def described(name):
    """Return a file of the authors without memory for its values."""
    return {
        key: torch.empty(
            shape, dtype=torch.long if key.endswith('_index') else None, device='meta'
        )
        for key, shape in shapes(LAYOUTS[name]).items()
    }


@pytest.fixture(scope='module', params=LAYOUTS)
def published(request, tmp_path_factory):
    """Write random weights as the authors and as Hugging Face publish them."""
    name, folder = request.param, tmp_path_factory.mktemp('published')
    state = random_weights(RUN[name])
    torch.save(state, folder / CHECKPOINTS[name].file)
    tensors = {key: t.contiguous() for key, t in for_hugging_face(state, RUN[name]).items()}
    save_file(tensors, folder / 'model.safetensors', metadata={'format': 'pt'})
    if name == 'dpt_swin2_tiny_256':
        torch.save(tensors, folder / 'pytorch_model.bin')
    yield name, folder, state
    for file in folder.iterdir():
        file.unlink()  # these files are large


@pytest.fixture
def load(monkeypatch):
    """Load a file, or the authors' in a folder, as the model that is cut down as it was."""
    create = timm.create_model

    def load_cut(name, weights):
        entry, layout = CHECKPOINTS[name], RUN[name]
        if name in CUT:
            cut = {'blocks': layout.taps or (0, 1, 2, 3), 'widths': layout.widths}
            shape = replace(entry.architecture, width=layout.features, **cut)
            entry = replace(entry, architecture=shape)
            sizes = {'embed_dim': layout.width, 'num_heads': layout.heads}
            if layout.stages:
                sizes['num_heads'] = [layout.heads << stage for stage in range(4)]
                sizes |= {'depths': layout.stages, 'img_size': layout.side}
            monkeypatch.setattr(timm, 'create_model', partial(create, **sizes))
        monkeypatch.setitem(CHECKPOINTS, name, replace(entry, sha256=None, size=None))
        return store.load(name, str(weights)).network

    return load_cut


def configuration(layout):
    """Return what config.json says of a network; the authors' norms have another epsilon."""
    if layout.stages:
        backbone = Swinv2Config(
            image_size=layout.side,
            embed_dim=layout.width,
            depths=layout.stages,
            num_heads=[layout.heads << stage for stage in range(4)],
            window_size=layout.window,
            pretrained_window_sizes=layout.pretrained,
            out_features=['stage1', 'stage2', 'stage3', 'stage4'],
        )
    else:
        backbone = BeitConfig(
            image_size=layout.side,
            num_hidden_layers=layout.depth,
            hidden_size=layout.width,
            intermediate_size=4 * layout.width,
            num_attention_heads=layout.heads,
            use_relative_position_bias=True,
            reshape_hidden_states=False,
            out_features=[f'stage{tap + 1}' for tap in layout.taps],
            layer_norm_eps=1e-6,
        )
    return DPTConfig(
        backbone_config=backbone,
        neck_hidden_sizes=list(layout.widths),
        fusion_hidden_size=layout.features,
    )


def read_by_transformers(folder, layout):
    """Load `model.safetensors` of a folder strictly."""
    network, how = DPTForDepthEstimation.from_pretrained(
        folder, config=configuration(layout), output_loading_info=True
    )
    assert not any(how[kind] for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    return network.eval()


def test_a_file_of_any_layout_becomes_the_network_of_the_others(published, load):
    name, folder, state = published
    layout, ours = RUN[name], load(name, folder)
    theirs = read_by_transformers(folder, layout)
    others = [
        lambda image: forward(state, image, layout),
        lambda image: theirs(image).predicted_depth,
    ]
    for size in [(layout.side, layout.side)] if layout.stages else BEIT_SIZES:
        image = random_image(*size)
        with torch.inference_mode():
            depth, *wanted = (network(image) for network in (ours, *others))
        assert all(difference(depth['depth'], one) < FLOAT32 for one in wanted)
    for file in folder.glob('*model.*'):  # of Hugging Face
        same = load(name, file).state_dict()
        assert all(torch.equal(same[key], t) for key, t in ours.state_dict().items())


@pytest.mark.parametrize('name', LAYOUTS)
def test_the_description_has_the_size_of_the_authors_networks(name):
    file = described(name)
    trained = sum(t.numel() for key, t in file.items() if not is_computed(key))
    assert (len(file), trained) == COUNTED[name]


@pytest.mark.parametrize('name', [name for name in LAYOUTS if CHECKPOINTS[name].size])
def test_the_published_file_is_as_large_as_one_with_these_tensors(name):
    file = described(name)
    values = sum(tensor.numel() * tensor.element_size() for tensor in file.values())
    low, high = OVERHEAD
    assert low < (CHECKPOINTS[name].size - values) / len(file) < high


@pytest.mark.parametrize('layout', ['authors', 'hugging face'])
@pytest.mark.parametrize('name', LAYOUTS)
def test_every_tensor_of_a_file_is_one_of_ours_or_unused(name, layout):
    entry, file = CHECKPOINTS[name], described(name)
    with torch.device('meta'):
        ours = store.build(entry).state_dict()
    unused = set(filter(is_unused, file))
    if layout == 'hugging face':
        unused = for_hugging_face({key: file[key] for key in unused}, LAYOUTS[name]).keys()
        file = for_hugging_face(file, LAYOUTS[name])
    names = {key: rename_key(key, entry.keys, 'depth') for key in file}
    assert {key for key, found in names.items() if found is None} == unused
    used = [found for found in names.values() if found is not None]
    assert len(set(used)) == len(used)
    renamed = rename(file, entry.keys, 'depth')
    assert {key: t.shape for key, t in renamed.items()} == {k: t.shape for k, t in ours.items()}


@pytest.mark.parametrize('name', LAYOUTS)
def test_the_description_has_the_shapes_that_transformers_builds(name):
    layout = LAYOUTS[name]
    with torch.device('meta'):
        built = DPTForDepthEstimation(configuration(layout)).state_dict()
    file = for_hugging_face(described(name), layout)
    wanted, found = (sorted(tuple(t.shape) for t in one.values()) for one in (built, file))
    assert found == wanted


@pytest.mark.parametrize('name', LAYOUTS)
def test_entries_are_fed_and_read_as_published(name):
    entry, layout = CHECKPOINTS[name], LAYOUTS[name]
    rule = 'stretch' if layout.stages else 'minimal'  # squares are all that Swin V2 takes
    assert entry.resize == Resize(layout.side, layout.side, 32, rule)
    assert (entry.mean, entry.std, entry.color_max) == ((0.5,) * 3, (0.5,) * 3, 1)
    assert (entry.depth, entry.restore) == (RelativeDepth(), Restore('bicubic'))
    assert entry.architecture.blocks == (layout.taps or (0, 1, 2, 3))
    assert entry.address == f'https://github.com/isl-org/MiDaS/releases/download/v3_1/{name}.pt'
    assert entry.spdx == 'MIT'


@pytest.mark.parametrize(
    ('name', 'size'), [('dpt_beit_large_512', (896, 512)), ('dpt_beit_base_384', (672, 384))]
)
def test_beit_sees_a_wide_image_wide(name, size):
    assert network_size(1280, 720, CHECKPOINTS[name].resize) == size


@pytest.mark.parametrize('published', ['dpt_swin2_tiny_256'], indirect=True)
def test_a_wide_image_goes_through_swin_as_a_square_and_comes_back_wide(published, load):
    name, folder, _ = published
    network = load(name, folder)
    trained = store.Trained(name, CHECKPOINTS[name], network)
    device = torch.device('cpu')
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    perception = Perception(trained, None, device=device, dtype=torch.float32)
    with pytest.raises(ValueError, match=r'192x192 .* takes 256x256 only; leave network\.side'):
        Perception(trained, None, device=device, dtype=torch.float32, network_side=192)
    (result,) = perception(
        [Frame('', None, image, None)], {'inverse_depth'}, options(Parameters(scale_mode='none'))
    )
    assert result.products['inverse_depth'].shape == (90, 160)
    assert np.isfinite(result.products['inverse_depth']).all()
