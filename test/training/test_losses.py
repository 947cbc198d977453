"""The losses, against values worked out by hand."""

import math

from dpt_ros.training import losses
import numpy as np
import pytest
import torch

ALL = torch.ones(1, 2, 2, dtype=torch.bool)


def maps(*rows):
    return torch.tensor(rows, dtype=torch.float64)[None]


def test_alignment_finds_scale_and_shift():
    truth = maps((1, 2), (3, 5))
    np.testing.assert_allclose(losses.align((truth - 7) / 3, truth, ALL), truth)


def test_alignment_looks_only_at_what_is_known():
    prediction, truth = maps((1, 2), (3, 100)), maps((3, 5), (7, float('inf')))
    mask = truth.isfinite()
    expected = 2 * prediction + 1
    np.testing.assert_allclose(losses.align(prediction, truth, mask), expected)


def test_alignment_of_a_constant_is_the_mean():
    aligned = losses.align(maps((4, 4), (4, 4)), maps((1, 2), (3, 6)), ALL)
    np.testing.assert_allclose(aligned, 3)


def test_the_largest_residuals_are_trimmed():
    prediction, truth = maps((0, 1, 2, 3, 100)), maps((0, 0, 0, 0, 0))
    mask = torch.ones(1, 1, 5, dtype=torch.bool)
    # Of five, one is left out: (0 + 1 + 2 + 3) / (2 * 5).
    assert losses.trimmed_absolute(prediction, truth, mask, 0.2).item() == pytest.approx(0.6)


def test_gradients_are_matched_at_every_scale():
    # Residual 0 1 / 2 4: |1| + |2| across, |2| + |3| down, over 4 pixels; the next scale has one.
    prediction = maps((0, 1), (2, 4))
    zero = torch.zeros_like(prediction)
    assert losses.gradient_matching(prediction, zero, ALL, 1).item() == pytest.approx(8 / 4)
    assert losses.gradient_matching(prediction, zero, ALL, 2).item() == pytest.approx(8 / 4)
    # A ramp of slope 1 over 4x4: scale 0 has 12 steps of 1 over 16, scale 1 two of 2 over 4.
    ramp = torch.arange(4.0)[None, None].expand(1, 4, 4)
    mask = torch.ones_like(ramp, dtype=torch.bool)
    loss = losses.gradient_matching(ramp, torch.zeros_like(ramp), mask, 2)
    assert loss.item() == pytest.approx(12 / 16 + 4 / 4)


def test_gradients_beside_the_unknown_do_not_count():
    prediction, truth = maps((0, 9), (2, 4)), maps((0, float('inf')), (0, 0))
    loss = losses.gradient_matching(prediction, truth, truth.isfinite(), 1)
    assert loss.item() == pytest.approx((2 + 2) / 3)


def test_scale_and_shift_do_not_matter():
    torch.manual_seed(0)
    prediction, truth = torch.rand(2, 8, 8), torch.rand(2, 8, 8)
    mask = torch.rand(2, 8, 8) > 0.2
    loss = losses.scale_and_shift_invariant(prediction, truth, mask)
    moved = losses.scale_and_shift_invariant(5 * prediction - 2, truth, mask)
    assert loss.item() == pytest.approx(moved.item(), rel=1e-4)
    exact = losses.scale_and_shift_invariant(3 * truth + 1, truth, mask)
    assert exact.item() == pytest.approx(0, abs=1e-5)


def test_silog_is_the_deviation_of_log_ratios():
    # Ratios e and 1: g = 1, 0; mean of squares 1/2, square of mean 1/4.
    prediction, truth = maps((np.e, 2)), maps((1, 2))
    mask = torch.ones(1, 1, 2, dtype=torch.bool)
    for focus in (0.0, 0.85, 1.0):
        expected = np.sqrt(0.5 - focus * 0.25)
        assert losses.silog(prediction, truth, mask, focus).item() == pytest.approx(expected)


def test_log_depth_is_the_relative_error_and_masks_the_sky():
    prediction, truth = maps((2 * np.e, 2 * np.e), (2 * np.e, 5)), maps((2, 2), (2, float('inf')))
    loss = losses.log_depth(prediction, truth, truth.isfinite())
    assert loss.item() == pytest.approx(1)  # off by a factor e everywhere, no slopes


@pytest.mark.parametrize('name', ['scale_and_shift_invariant', 'silog', 'log_depth'])
def test_nothing_known_costs_nothing_and_can_be_differentiated(name):
    prediction = torch.rand(1, 4, 4, requires_grad=True)
    loss = getattr(losses, name)(
        prediction, torch.full((1, 4, 4), float('inf')), torch.zeros(1, 4, 4, dtype=torch.bool)
    )
    assert loss.item() == 0
    if loss.requires_grad:
        loss.backward()
        assert torch.isfinite(prediction.grad).all()


def test_cross_entropy_of_the_auxiliary_head_counts_a_fifth():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    even, sure = torch.zeros(1, 2, 2, 2), torch.tensor([100.0, -100.0]).view(1, 2, 1, 1)
    sure = sure.expand(1, 2, 2, 2)
    assert losses.segmentation(even, sure, labels).item() == pytest.approx(np.log(2))
    assert losses.segmentation(sure, even, labels).item() == pytest.approx(0.2 * np.log(2))


def test_unlabelled_pixels_are_left_out():
    labels = torch.full((1, 2, 2), 255)
    scores = torch.zeros(1, 2, 2, 2, requires_grad=True)
    assert losses.segmentation(scores, scores, labels).item() == 0
    labels[0, 0, 0] = 1
    assert losses.segmentation(scores, scores, labels).item() == pytest.approx(1.2 * np.log(2))


def test_labels_are_read_where_scores_stand_with_corners_aligned():
    labels = torch.arange(7)[None, None].expand(1, 7, 7)
    # Four scores over seven pixels, corner on corner: pixels 0, 2, 4, 6.
    assert losses.at_scores(labels, (4, 4))[0, 0].tolist() == [0, 2, 4, 6]


def test_classes_known_to_be_absent_cost_their_probability():
    # Softmax of log 1, 2, 5 is 1/8, 2/8, 5/8; the third is said to be absent, in one pixel of two.
    scores = torch.log(torch.tensor([1.0, 2.0, 5.0])).reshape(1, 3, 1, 1).expand(1, 3, 1, 2)
    scores = scores.clone()
    scores[0, :, 0, 1] = 0
    mask = torch.tensor([[[True, False]]])
    assert losses.absent(scores, mask, (2,)).item() == pytest.approx(-math.log(3 / 8))
    assert losses.absent(scores, ~mask, (0, 1)).item() == pytest.approx(-math.log(1 / 3))
    assert losses.absent(scores, mask & False, (2,)) == 0
    assert losses.absent(scores, mask, ()).item() == pytest.approx(0)
