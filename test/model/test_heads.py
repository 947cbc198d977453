"""The heads: sizes, bounds, and which of the fused maps each reads."""

from dpt_ros.model.heads import DepthHead, ProjectedDepthHead, SegmentationHead, UpsampledConv2d
import pytest
import torch
from torch import nn
from torch.nn import functional as F


def fused(height=64, width=96, channels=8):
    """Return what a decoder hands to a head for an image of this size."""
    sizes = ((height // s, width // s) for s in (16, 8, 4, 4))
    return [torch.randn(2, channels, *size) for size in sizes]


def constant(head, value):
    """Let the last convolution yield `value` whatever comes in."""
    nn.init.zeros_(head.out.weight)
    nn.init.constant_(head.out.bias, value)
    return head


@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('size', [None, (9, 14), (10, 15)])
def test_a_map_is_upsampled_corner_to_corner_then_convolved(size, relu):
    layer, x = UpsampledConv2d(3, 4, relu=relu), torch.randn(2, 3, 5, 7)
    large = F.interpolate(x, size or (10, 14), mode='bilinear', align_corners=True)
    expected = F.conv2d(large, layer.weight, layer.bias, padding=1)
    assert torch.equal(layer(x, size), expected.relu() if relu else expected)
    assert (layer(x, size) < 0).any() != relu


def test_depth_has_a_number_for_each_pixel():
    assert DepthHead(8)(fused(), (64, 96)).shape == (2, 64, 96)


def test_depth_is_read_off_the_finest_map_alone():
    head, maps = DepthHead(8), fused()
    others = [*(torch.full_like(m, torch.nan) for m in maps[:3]), maps[3]]
    assert torch.equal(head(others, (64, 96)), head(maps, (64, 96)))


def test_depth_below_zero_is_zero():
    assert constant(DepthHead(8), -3.0)(fused(), (64, 96)).eq(0).all()


def test_depth_above_zero_is_as_it_is():
    assert constant(DepthHead(8), 3.5)(fused(), (64, 96)).eq(3.5).all()


def test_bounded_depth_is_a_share_of_the_maximum():
    depth = constant(DepthHead(8, bounded=True), 2.0)(fused(), (64, 96))
    torch.testing.assert_close(depth, torch.full((2, 64, 96), 0.8807970779778823))  # 1/(1+e^-2)


def test_projected_depth_is_four_times_as_large_as_the_fused_map_whatever_the_image():
    assert ProjectedDepthHead(8)(fused(64, 96), (56, 84)).shape == (2, 64, 96)


def test_projected_depth_is_read_behind_one_more_convolution_and_relu():
    head, maps = ProjectedDepthHead(8), fused()
    x = F.interpolate(maps[3], (32, 48), mode='bilinear', align_corners=True)
    x = F.conv2d(x, head.project.weight, head.project.bias, padding=1).clamp(min=0)
    x = F.conv2d(x, head.narrow.weight, head.narrow.bias, padding=1)
    assert torch.equal(head(maps, (64, 96)), head.read(x))


def test_scores_stand_at_half_the_resolution():
    assert SegmentationHead(8, 11)(fused(), (64, 96)).shape == (2, 11, 32, 48)


def test_scores_are_read_off_the_finest_map_alone():
    head, maps = SegmentationHead(8, 11).eval(), fused()
    others = [*(torch.full_like(m, torch.nan) for m in maps[:3]), maps[3]]
    assert torch.equal(head(others, (64, 96)), head(maps, (64, 96)))


def test_auxiliary_scores_stand_at_a_quarter_of_the_resolution():
    head = SegmentationHead(8, 11, auxiliary=True)
    assert head.auxiliary_scores(fused()).shape == (2, 11, 16, 24)


def test_auxiliary_scores_are_those_of_a_classifier_of_their_own():
    head, maps = SegmentationHead(8, 11, auxiliary=True).eval(), fused()
    nn.init.zeros_(head.auxiliary[-1].weight)
    nn.init.constant_(head.auxiliary[-1].bias, 5)
    assert head.auxiliary_scores(maps).eq(5).all()
    assert not head(maps, (64, 96)).eq(5).any()


def test_a_head_for_inference_has_no_auxiliary_weights():
    assert not [key for key in SegmentationHead(8, 11).state_dict() if 'auxiliary' in key]


def test_a_head_for_inference_says_how_to_get_auxiliary_scores():
    with pytest.raises(ValueError, match='built for inference; build it with auxiliary=True'):
        SegmentationHead(8, 11).auxiliary_scores(fused())
