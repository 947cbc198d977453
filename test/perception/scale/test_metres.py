"""Metres: the authors' constants (MODEL_FACTS B.2), and the size of the image."""

from dpt_ros.perception.bands import at_once
from dpt_ros.perception.scale.metres import (
    depth_of_weights,
    metres_of_inverse,
    metres_of_weights,
    restore_size,
)
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


def convert(raw: float, depth: object) -> float:
    return metres_of_weights(torch.full((1, 1, 1), raw), depth).item()


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


def test_bounded_weights_give_a_share_of_their_maximum():
    assert convert(0.25, BoundedDepth(10.0)) == 2.5


@pytest.mark.parametrize(
    ('raw', 'wanted'), [(0.0, 0.001), (2.5, 2.501), (9.999, 10.0), (12.0, 10.0)]
)
def test_metric_weights_give_metres_above_the_nearest_up_to_the_farthest(
    raw: float, wanted: float
):
    depth = MetricDepth(minimum=0.001, maximum=10.0)
    assert convert(raw, depth) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ('align_corners', 'wanted'), [(True, [0, 1, 2, 3]), (False, [0, 0.75, 2.25, 3])]
)
def test_a_map_is_brought_to_size_as_its_authors_do(align_corners: bool, wanted: list[float]):
    depth = torch.tensor([[[0.0, 3.0]]])
    restored = restore_size(depth, (1, 4), Restore('bilinear', align_corners))
    assert restored.flatten().tolist() == pytest.approx(wanted)


def test_a_map_of_the_right_size_is_passed_on():
    depth = torch.rand(1, 3, 4)
    assert restore_size(depth, (3, 4), Restore()).data_ptr() == depth.data_ptr()


def test_inverse_depth_is_scaled_and_shifted():
    # 1 / (0.5 * 3 + 0.5) m
    assert metres_of_inverse(torch.tensor(3.0), 0.5, 0.5).item() == 0.5


@pytest.mark.parametrize('offset', [0.0, -5.0])
def test_no_inverse_depth_is_very_far_but_never_behind(offset: float):
    assert metres_of_inverse(torch.tensor(0.0), 1.0, offset).item() == pytest.approx(1e8)


def test_half_precision_is_converted_in_float32():
    raw = torch.tensor([[[2827.0]]], dtype=torch.float16)
    depth = metres_of_weights(raw, CHECKPOINTS['dpt_hybrid_nyu'].depth)
    assert depth.dtype == torch.float32
    assert depth.item() == pytest.approx(1.0, rel=1e-3)


DEPTHS = [RelativeDepth(), InverseDepth(0.5, 0.1), BoundedDepth(10.0), MetricDepth(0.1, 20.0)]


@pytest.mark.usefixtures('each_way')
@pytest.mark.parametrize('depth', DEPTHS, ids=lambda one: type(one).__name__)
def test_what_is_no_number_is_no_distance(depth: object):
    raw = torch.tensor([[[torch.inf, -torch.inf, torch.nan, 0.5]]])
    metres = metres_of_weights(raw, depth)[0, 0]
    assert metres.isnan().tolist() == [True, True, True, False]


@pytest.mark.parametrize('depth', DEPTHS, ids=lambda one: type(one).__name__)
def test_a_cpu_reads_the_metres_that_any_device_reads(depth: object):
    raw = 50 * torch.rand(2, 7, 9, generator=torch.Generator().manual_seed(0)) - 5
    learning = raw.clone().requires_grad_()  # no loop knows gradients
    torch.testing.assert_close(
        metres_of_weights(raw, depth), metres_of_weights(learning, depth).detach()
    )


@pytest.mark.parametrize('threads', [1, 2, 3, 7])
@pytest.mark.parametrize('size', [(60, 80), (24, 32), (9, 11)])
@pytest.mark.parametrize('side', [24, 3])
def test_metres_and_their_size_may_be_computed_at_once(
    monkeypatch, side: int, size: tuple[int, int], threads: int
):
    raw = torch.rand(2, side, 32, generator=torch.Generator().manual_seed(0)) + 0.1
    entry = CHECKPOINTS['dpt_tiny']
    wanted = depth_of_weights(raw, entry, size)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    with at_once():
        found = depth_of_weights(raw, entry, size)
    assert torch.equal(found, wanted)
