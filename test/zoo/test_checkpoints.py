"""The table of checkpoints: what is published, and what could not be built."""

import math
import re

from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import (
    Architecture,
    BoundedDepth,
    Checkpoint,
    CHECKPOINTS,
    InverseDepth,
    MetricDepth,
    RelativeDepth,
    Resize,
    TINY,
)
import pytest
import torch

DEPTH_ANYTHING = [name for name in CHECKPOINTS if name.startswith('depth_anything')]
OFFICIAL = {name: entry for name, entry in CHECKPOINTS.items() if 'intel-isl' in (entry.url or '')}


def test_the_release_of_the_authors_is_complete():
    assert {entry.file for entry in OFFICIAL.values()} == {
        'dpt_large-midas-2f21e586.pt',
        'dpt_hybrid-midas-501f0c75.pt',
        'dpt_hybrid_nyu-2ce69ec7.pt',
        'dpt_hybrid_kitti-cb926ef4.pt',
        'dpt_large-ade20k-b12dca68.pt',
        'dpt_hybrid-ade20k-53898607.pt',
    }


@pytest.mark.parametrize('name', OFFICIAL)
def test_the_name_of_a_published_file_holds_the_start_of_its_checksum(name):
    entry = CHECKPOINTS[name]
    assert entry.sha256.startswith(re.search(r'-([0-9a-f]{8})\.pt$', entry.file)[1])
    assert len(entry.sha256) in (8, 64)


@pytest.mark.parametrize('name', OFFICIAL)
def test_published_networks_see_colors_between_minus_one_and_one(name):
    assert CHECKPOINTS[name].mean == CHECKPOINTS[name].std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize('name', OFFICIAL)
def test_published_networks_are_trained_at_multiples_of_32(name):
    resize = CHECKPOINTS[name].resize
    assert (resize.multiple, resize.rule) == (32, 'minimal')
    assert resize.width % 32 == resize.height % 32 == 0


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_a_hybrid_says_how_its_convolutions_are_standardized(name):
    architecture = CHECKPOINTS[name].architecture
    assert (architecture.standardization == 'dpt') == ('r50' in architecture.backbone)


@pytest.mark.parametrize(
    ('name', 'farthest'), [('dpt_hybrid_nyu', 7.257), ('dpt_hybrid_kitti', 172.71)]
)
def test_metric_weights_see_as_far_as_their_offset_says(name, farthest):
    depth = CHECKPOINTS[name].depth
    assert 1 / (depth.scale * 0 + depth.offset) == pytest.approx(farthest, abs=0.005)


@pytest.mark.parametrize(
    ('name', 'raw', 'meters'), [('dpt_hybrid_nyu', 2827, 1), ('dpt_hybrid_kitti', 1566, 10)]
)
def test_metric_weights_turn_raw_output_into_meters(name, raw, meters):
    depth = CHECKPOINTS[name].depth
    assert 1 / (depth.scale * raw + depth.offset) == pytest.approx(meters, rel=1e-3)


@pytest.mark.parametrize(
    ('depth', 'metric'),
    [
        (RelativeDepth(), False),
        (InverseDepth(1.0, 0.1), True),
        (BoundedDepth(10.0), True),
        (MetricDepth(0.001, 10.0), True),
    ],
)
def test_depth_is_in_meters_unless_relative(depth, metric):
    assert Checkpoint(TINY, Resize(64, 64), depth=depth).is_metric == metric


def test_scores_are_not_in_meters():
    assert not Checkpoint(TINY, Resize(64, 64), labels='ade20k_150').is_metric


@pytest.mark.parametrize(
    ('heads', 'tasks'),
    [
        ({'depth': RelativeDepth()}, ('depth',)),
        ({'labels': 'worlds_10'}, ('segmentation',)),
        ({'depth': RelativeDepth(), 'labels': 'worlds_10'}, ('depth', 'segmentation')),
    ],
)
def test_tasks_are_those_of_the_heads(heads, tasks):
    assert Checkpoint(TINY, Resize(64, 64), **heads).tasks == tasks


def test_a_checkpoint_without_a_head_is_refused():
    with pytest.raises(ValueError, match='depth head, a segmentation head or both'):
        Checkpoint(TINY, Resize(64, 64))


def test_an_unknown_rule_of_resizing_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"rule must be one of .*, stretch, native, got 'fit'"):
        Resize(64, 64, rule='fit')
    with pytest.raises(ValueError, match=r"interpolation must be one of .*, got 'lanczos'"):
        Resize(64, 64, interpolation='lanczos')


@pytest.mark.parametrize('blocks', [(5, 2, 8, 11), (2, 2, 8, 11)], ids=['disorder', 'twice'])
def test_blocks_out_of_order_are_refused(blocks):
    with pytest.raises(ValueError, match=f'increasing indices, got {re.escape(str(blocks))}'):
        Architecture('vit_tiny_patch16_224', blocks, (8, 8, 8, 8))


@pytest.mark.parametrize('choice', ['readout', 'positions', 'decoder'])
def test_an_unknown_choice_is_refused_with_those_there_are(choice):
    with pytest.raises(ValueError, match=f"{choice} must be one of .*, got 'timm'"):
        Architecture('vit_tiny_patch16_224', (2, 5, 8, 11), (8, 8, 8, 8), **{choice: 'timm'})


def test_depth_anything_is_complete():
    sizes = ('small', 'base', 'large')
    families = ('v1', 'v2', 'v2_indoor', 'v2_outdoor')
    wanted = [f'depth_anything_{family}_{size}' for family in families for size in sizes]
    assert wanted == DEPTH_ANYTHING


@pytest.mark.parametrize('name', DEPTH_ANYTHING)
def test_depth_anything_is_fed_and_read_as_published(name):
    entry = CHECKPOINTS[name]
    assert entry.mean == (0.485, 0.456, 0.406)  # of ImageNet
    assert entry.std == (0.229, 0.224, 0.225)
    assert entry.resize == Resize(518, 518, 14, 'lower_bound')
    assert (entry.restore.mode, entry.restore.align_corners) == ('bilinear', True)
    assert len(entry.sha256) == 64
    farthest = {'indoor': BoundedDepth(20.0), 'outdoor': BoundedDepth(80.0)}
    assert entry.depth == farthest.get(name.split('_')[3], RelativeDepth())


@pytest.mark.parametrize('name', DEPTH_ANYTHING)
def test_the_file_of_depth_anything_is_of_the_size_its_name_says(name):
    entry = CHECKPOINTS[name]
    size = name.split('_')[-1]
    assert f'_vit{size[0]}' in entry.file
    assert f'vit_{size}_' in entry.architecture.backbone
    assert size.capitalize() in entry.url or '_v1_' in name


def test_checkpoints_are_for_commercial_use_unless_their_license_says_otherwise():
    restricted = {name for name, entry in CHECKPOINTS.items() if entry.non_commercial}
    families = ('v2', 'v2_indoor', 'v2_outdoor')
    sizes = ('base', 'large')
    assert restricted == {f'depth_anything_{f}_{s}' for f in families for s in sizes}
    assert {CHECKPOINTS[name].spdx for name in restricted} == {'CC-BY-NC-4.0'}


def test_sums_are_not_copied_from_one_row_to_another():
    sums = [entry.sha256 for entry in CHECKPOINTS.values() if entry.sha256]
    assert len(set(sums)) == len(sums)


# Cameras of the images trained on: focal length, and the height of image and network input.
CAMERAS = {
    'nyu': (518.8579, 480, 480),  # the data set's toolbox
    'kitti': (715.09, 375, 375),  # mean of BTS's list of 23158 images: 707.05 to 721.54
    'indoor': (886.81, 768, 518),  # Hypersim: 1024 pixels see 60 degrees
    'outdoor': (725.0087, 375, 518),  # Virtual KITTI 2
}


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_metres_are_for_the_camera_of_the_images_trained_on(name):
    (camera,) = set(name.split('_')) & CAMERAS.keys() or (None,)
    if camera is None:  # relative depth, labels, or a network that saw many cameras
        assert CHECKPOINTS[name].focal is None
    else:
        focal, height, input_height = CAMERAS[camera]
        assert CHECKPOINTS[name].focal == pytest.approx(focal * input_height / height, rel=1e-4)


def test_the_camera_of_hypersim_sees_60_degrees():
    assert CAMERAS['indoor'][0] == pytest.approx(512 / math.tan(math.radians(30)), rel=1e-5)


@pytest.mark.parametrize('name', [n for n, e in CHECKPOINTS.items() if e.size and e.url])
def test_a_file_is_as_large_as_its_tensors_and_a_little_more(name):
    with torch.device('meta'):
        ours = sum(p.numel() for p in store.build(CHECKPOINTS[name]).parameters())
    # More is a classifier of ImageNet, an auxiliary head, a skip that is not used, indices, of
    # which MiDaS 3.1 has many: `test_midas` counts them.
    assert 1 < CHECKPOINTS[name].size / (4 * ours) < (1.16 if 'beit' in name else 1.06)


def test_the_embedded_file_has_the_size_told():
    assert store.weights_path('dpt_tiny').stat().st_size == CHECKPOINTS['dpt_tiny'].size


@pytest.mark.parametrize('name', [n for n, entry in CHECKPOINTS.items() if entry.url])
def test_a_file_has_an_address_and_a_name_of_its_own(name):
    entry = CHECKPOINTS[name]
    others = {e.file for n, e in CHECKPOINTS.items() if n != name}
    assert entry.address == f'{entry.url}/{entry.remote or entry.file}'
    assert entry.file not in others
    assert entry.address.startswith('https://') and '/' not in entry.file
