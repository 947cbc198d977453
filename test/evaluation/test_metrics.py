"""Scores, against values worked out by hand from their published definitions."""

from math import log, log10, sqrt

from dpt_ros.evaluation.metrics import align, Confusion, DEPTH, mean_scores, score_depth
import numpy as np
import pytest

TRUTH = np.array([1.0, 2.0, 4.0, 4.0], np.float32)
DEPTH_MAP = np.array([1.25, 2.0, 8.0, 7.0], np.float32)  # ratios 1.25, 1, 2 and 1.75, exactly
LOGS = [log(1.25), 0, log(2), log(1.75)]
SQUARES = sum(value**2 for value in LOGS) / 4
BY_HAND = {
    'abs_rel': (0.25 + 0 + 1 + 0.75) / 4,
    'sq_rel': (0.0625 + 0 + 16 / 4 + 9 / 4) / 4,
    'rmse': sqrt((0.0625 + 0 + 16 + 9) / 4),
    'rmse_log': sqrt(SQUARES),
    'silog': 100 * sqrt(SQUARES - (sum(LOGS) / 4) ** 2),
    'log10': (log10(1.25) + log10(2) + log10(1.75)) / 4,
    'delta1': 1 / 4,  # 1.25 itself is not below 1.25
    'delta2': 2 / 4,  # 1.75 is not below 1.5625
    'delta3': 3 / 4,  # 2 is not below 1.953125
    'bad_pixels': 50,  # 1.25 is not above 1.25
}


@pytest.mark.parametrize('metric', DEPTH)
def test_each_score_of_depth_is_as_defined(metric: str):
    assert score_depth(DEPTH_MAP, TRUTH)[metric] == pytest.approx(BY_HAND[metric], rel=1e-12)


def test_too_near_is_as_bad_a_ratio_as_too_far():
    assert score_depth(TRUTH / 2, TRUTH)['delta3'] == 0
    assert score_depth(TRUTH / 2, TRUTH)['bad_pixels'] == 100


def test_silog_is_blind_to_a_factor():
    assert score_depth(3 * DEPTH_MAP, TRUTH)['silog'] == pytest.approx(BY_HAND['silog'])


def test_images_count_alike_whatever_their_size():
    assert mean_scores([{'a': 1.0, 'b': 0.0}, {'a': 4.0, 'b': 2.0}]) == {'a': 2.5, 'b': 1.0}
    assert mean_scores([]) == {}


def test_alignment_undoes_scale_and_offset():
    truth = np.array([0.1, 0.5, 0.25, 2.0])
    np.testing.assert_allclose(align((truth - 0.3) * 7, truth), truth, rtol=1e-12)


def test_alignment_of_a_constant_is_the_mean():
    np.testing.assert_allclose(align(np.full(3, 5.0), np.array([1.0, 2.0, 6.0])), 3.0)


def test_alignment_is_of_least_squares():
    # p = 0, 1, 2, 3 against 1, 1, 1, 9: slope 12 / 5 about the means 1.5 and 3
    fitted = align(np.arange(4), np.array([1.0, 1.0, 1.0, 9.0]))
    np.testing.assert_allclose(fitted, [-0.6, 1.8, 4.2, 6.6], rtol=1e-12)


@pytest.fixture
def confusion() -> Confusion:
    """Count 12 pixels of two classes out of three, in two images, and one that is not known."""
    confusion = Confusion(('floor', 'wall', 'sky'))
    confusion.add(np.array([[0] * 6 + [1, 1]]), np.array([[0] * 8], np.uint8))
    confusion.add(np.array([[1] * 4 + [2]]), np.array([[1] * 4 + [255]], np.uint8))
    return confusion


def test_scores_of_labels(confusion: Confusion):
    assert confusion.iou() == {'floor': 6 / 8, 'wall': 4 / 6}  # the sky does not occur
    assert confusion.scores() == pytest.approx(
        {'miou': (6 / 8 + 4 / 6) / 2, 'pixel_accuracy': 10 / 12}
    )


def test_a_class_only_predicted_counts_with_nothing(confusion: Confusion):
    confusion.add(np.array([[2]]), np.array([[0]], np.uint8))
    assert confusion.iou()['sky'] == 0
