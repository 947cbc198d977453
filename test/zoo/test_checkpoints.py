"""The table of checkpoints: what is published, and what could not be built."""

import re

from dpt_ros.zoo.checkpoints import (
    Architecture,
    BoundedDepth,
    Checkpoint,
    CHECKPOINTS,
    InverseDepth,
    RelativeDepth,
    Resize,
    TINY,
)
import pytest

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
    [(RelativeDepth(), False), (InverseDepth(1.0, 0.1), True), (BoundedDepth(10.0), True)],
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
    with pytest.raises(ValueError, match="'minimal', 'lower_bound' or 'upper_bound', got 'fit'"):
        Resize(64, 64, rule='fit')


@pytest.mark.parametrize('blocks', [(5, 2, 8, 11), (2, 2, 8, 11)], ids=['disorder', 'twice'])
def test_blocks_out_of_order_are_refused(blocks):
    with pytest.raises(ValueError, match=f'increasing indices, got {re.escape(str(blocks))}'):
        Architecture('vit_tiny_patch16_224', blocks, (8, 8, 8, 8))
