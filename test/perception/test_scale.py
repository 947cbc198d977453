"""Metres: the authors' constants (MODEL_FACTS B.2), and modes that cannot be."""

from dpt_ros.perception.scale import check_mode, metres, MODES, restore_size
from dpt_ros.zoo.checkpoints import (
    BoundedDepth,
    CHECKPOINTS,
    InverseDepth,
    MetricDepth,
    RelativeDepth,
    Restore,
)
import pytest
import torch


def convert(raw: float, depth: object, factor: float = 1.0, offset: float = 0.0) -> float:
    return metres(torch.full((1, 1, 1), raw), depth, factor, offset).item()


@pytest.mark.parametrize(
    ('name', 'raw', 'wanted'),
    [
        ('dpt_hybrid_kitti', 0.0, 172.71),
        ('dpt_hybrid_kitti', 16526.0, 1.0),
        ('dpt_hybrid_kitti', 3228.0, 5.0),
        ('dpt_hybrid_kitti', 1566.0, 10.0),
        ('dpt_hybrid_kitti', 111.5, 80.0),
        ('dpt_hybrid_nyu', 0.0, 7.257),
        ('dpt_hybrid_nyu', 2827.0, 1.0),
        ('dpt_hybrid_nyu', 203.9, 5.0),
    ],
)
def test_metric_weights_give_the_published_metres(name: str, raw: float, wanted: float):
    assert convert(raw, CHECKPOINTS[name].depth) == pytest.approx(wanted, rel=2e-4)


def test_metric_weights_ignore_the_parameters_of_fixed():
    nyu = CHECKPOINTS['dpt_hybrid_nyu'].depth
    assert convert(300.0, nyu, 7.0, 9.0) == convert(300.0, nyu)


def test_bounded_weights_give_a_share_of_their_maximum():
    assert convert(0.25, BoundedDepth(10.0), 7.0, 9.0) == 2.5


@pytest.mark.parametrize(
    ('raw', 'wanted'), [(0.0, 0.001), (2.5, 2.501), (9.999, 10.0), (12.0, 10.0)]
)
def test_metric_weights_give_metres_above_the_nearest_up_to_the_farthest(
    raw: float, wanted: float
):
    depth = MetricDepth(minimum=0.001, maximum=10.0)
    assert convert(raw, depth, 7.0, 9.0) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ('align_corners', 'wanted'), [(True, [0, 1, 2, 3]), (False, [0, 0.75, 2.25, 3])]
)
def test_a_map_is_brought_to_size_as_its_authors_do(align_corners: bool, wanted: list[float]):
    depth = torch.tensor([[[0.0, 3.0]]])
    restored = restore_size(depth, (1, 4), Restore('bilinear', align_corners))
    assert restored.flatten().tolist() == pytest.approx(wanted)


def test_a_map_of_the_right_size_is_passed_on():
    depth = torch.rand(1, 3, 4)
    assert restore_size(depth, (3, 4), Restore()) is depth


def test_fixed_scales_inverse_depth():
    # 1 / (0.5 * 3 + 0.5) m
    assert convert(3.0, RelativeDepth(), 0.5, 0.5) == 0.5


@pytest.mark.parametrize('offset', [0.0, -5.0])
def test_no_inverse_depth_is_very_far_but_never_behind(offset: float):
    assert convert(0.0, RelativeDepth(), 1.0, offset) == pytest.approx(1e8)


def test_half_precision_is_converted_in_float32():
    raw = torch.tensor([[[2827.0]]], dtype=torch.float16)
    depth = metres(raw, CHECKPOINTS['dpt_hybrid_nyu'].depth, 1.0, 0.0)
    assert depth.dtype == torch.float32
    assert depth.item() == pytest.approx(1.0, rel=1e-3)


def test_metres_of_relative_weights_need_a_scale():
    with pytest.raises(ValueError, match='dpt_x gives relative depth') as refusal:
        check_mode('model', RelativeDepth(), 'dpt_x')
    for cure in ("'fixed'", 'scale.factor', 'scale.offset', "'none'", 'metric model'):
        assert cure in str(refusal.value)


@pytest.mark.parametrize(
    'depth', [InverseDepth(1.0, 0.0), BoundedDepth(10.0), MetricDepth(0.001, 10.0)]
)
def test_metres_are_not_scaled_twice(depth: object):
    with pytest.raises(ValueError, match=r"dpt_x gives metres by itself.*choose 'model'"):
        check_mode('fixed', depth, 'dpt_x')


@pytest.mark.parametrize(
    ('mode', 'depth'),
    [
        ('model', InverseDepth(1.0, 0.0)),
        ('model', BoundedDepth(10.0)),
        ('model', MetricDepth(0.001, 10.0)),
        ('fixed', RelativeDepth()),
        ('none', RelativeDepth()),
    ],
)
def test_a_mode_that_fits_is_accepted(mode: str, depth: object):
    assert mode in MODES
    check_mode(mode, depth, 'dpt_x')


def test_a_share_of_metres_is_not_passed_off_as_inverse_depth():
    # Larger is farther there; ~/inverse_depth/image says larger is nearer.
    with pytest.raises(ValueError, match='none'):
        check_mode('none', BoundedDepth(10.0), 'dpt_x')
