"""Crops, caps, clamps and alignment, on images whose scores are known by hand."""

from itertools import chain
import math

from dpt_ros.evaluation.datasets import DATASETS
from dpt_ros.evaluation.protocols import (
    eigen_crop,
    garg_crop,
    kb_crop,
    METRIC,
    Protocol,
    RELATIVE,
    whole,
)
import numpy as np
import pytest

# First and last row and column, counted by hand for the usual sizes.
WINDOWS = [
    (eigen_crop, (480, 640), (45, 470, 41, 600)),
    (kb_crop, (375, 1242), (23, 374, 13, 1228)),
    (kb_crop, (352, 1216), (0, 351, 0, 1215)),
    (kb_crop, (370, 1225), (18, 369, 4, 1219)),  # (1225 - 1216) / 2, rounded down
    (garg_crop, (375, 1242), (153, 370, 44, 1196)),
    (whole, (3, 4), (0, 2, 0, 3)),
]
SMALL = Protocol(cap=10, below=10)
ALIGNED = Protocol(cap=80, below=math.inf, above=0, aligned=True)


def image(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


@pytest.mark.parametrize(('window', 'shape', 'ends'), WINDOWS)
def test_a_window_has_these_corners_and_nothing_beyond(window, shape, ends):
    inside = np.zeros(shape, bool)
    inside[window(*shape)] = True
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == ends


@pytest.mark.parametrize(
    ('window', 'shape', 'told'),
    [(kb_crop, (351, 1216), '1216x351'), (eigen_crop, (240, 320), '320x240')],
)
def test_images_of_another_size_are_refused(window, shape, told):
    with pytest.raises(ValueError, match=f'{told}.*as they were published'):
        window(*shape)


@pytest.mark.parametrize(
    ('dataset', 'shape', 'ends'),
    [('nyu', (480, 640), (45, 470, 41, 600)), ('kitti', (375, 1242), (153, 370, 44, 1196))],
)
def test_pixels_outside_the_crop_are_not_looked_at(dataset, shape, ends):
    protocol = METRIC[dataset]['metric']
    top, bottom, left, right = ends
    inside = slice(top, bottom + 1), slice(left, right + 1)
    truth, depth = np.full(shape, 2.0), np.full(shape, 7.0)
    depth[inside] = 2
    assert protocol.score(depth, truth)['abs_rel'] == 0
    area = (bottom - top + 1) * (right - left + 1)
    for corner in [(top, left), (top, right), (bottom, left), (bottom, right)]:
        wrong = depth.copy()
        wrong[corner] = 4  # twice too far: 1 in so many
        assert protocol.score(wrong, truth)['abs_rel'] == pytest.approx(1 / area)


@pytest.mark.parametrize(('dataset', 'cap'), [('nyu', 10), ('kitti', 80)])
def test_metric_depth_is_clamped_to_the_range(dataset, cap):
    protocol = Protocol(**{**vars(METRIC[dataset]['metric']), 'given': whole, 'counted': whole})
    for far in (cap + 1, math.inf):
        assert protocol.score(image(far), image(5))['rmse'] == cap - 5
    for near in (0, 1e-4, -1, math.nan):
        assert protocol.score(image(near), image(5))['rmse'] == pytest.approx(5 - 1e-3)


@pytest.mark.parametrize('unknown', [0, math.nan, math.inf, 10, 1e-3, -1])
def test_truth_out_of_range_or_not_known_does_not_count(unknown):
    scores = SMALL.score(image(4, 9), image(2, unknown))
    assert scores['abs_rel'] == 1
    assert SMALL.score(image(9), image(unknown)) == {}


def test_zero_shot_scores_truth_beyond_the_cap_of_kitti():
    assert RELATIVE['kitti']['aligned'].counts(image(0, 5, 79, 100, math.inf)).tolist() == [
        [False, True, True, True, False]
    ]
    assert RELATIVE['nyu']['aligned'].counts(image(0, 5e-4, 9, 10)).tolist() == [
        [False, True, True, False]
    ]


def test_inverse_depth_is_aligned_where_the_truth_counts():
    truth = image(1, 2, 4, 0)
    prediction = 3 / np.where(truth > 0, truth, 0.001) + 0.2  # the last would ruin the fit
    scores = ALIGNED.score(prediction, truth)
    assert scores['abs_rel'] == pytest.approx(0, abs=1e-6)
    assert scores['bad_pixels'] == 0 and scores['delta1'] == 1


def test_aligned_inverse_depth_is_clamped_at_the_cap():
    # The fit of 0, 1, 2, 3 to 0.1, 0.1, 0.1, 0.9 is -0.06, 0.18, 0.42, 0.66: see test_metrics.
    scores = ALIGNED.score(image(0, 1, 2, 3), image(10, 10, 10, 1 / 0.9))
    errors = [(80 - 10) / 10, abs(1 / 0.18 - 10) / 10, (10 - 1 / 0.42) / 10, 0.9 / 0.66 - 1]
    assert scores['abs_rel'] == pytest.approx(sum(errors) / 4)
    assert scores['bad_pixels'] == 100


def test_metric_depth_is_not_aligned():
    assert SMALL.score(image(2, 4), image(1, 2))['abs_rel'] == 1


def test_caps_are_those_published():
    for protocols in (METRIC, RELATIVE):
        assert [p.cap for p in protocols['nyu'].values()] == [10]
        assert [p.cap for p in protocols['kitti'].values()] == [80]


def test_relative_depth_is_always_aligned():
    every = chain.from_iterable(protocols.values() for protocols in RELATIVE.values())
    assert all(protocol.aligned and protocol.given is whole for protocol in every)
    assert {*METRIC, *RELATIVE} <= set(DATASETS) and METRIC.keys() == RELATIVE.keys()
