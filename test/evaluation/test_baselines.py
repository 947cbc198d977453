"""Baselines fitted to truth that obeys them."""

from math import exp, log

from dpt_ros.evaluation.baselines import fit_baselines
from dpt_ros.evaluation.datasets import Sample
import numpy as np
import pytest


def known(depth: np.ndarray) -> np.ndarray:
    return np.isfinite(depth)


def sample(depth: np.ndarray | None, labels: np.ndarray | None = None) -> Sample:
    shape = (depth if depth is not None else labels).shape
    return Sample(np.zeros((*shape, 3), np.uint8), depth, labels)


def test_depth_linear_in_the_row_is_found_from_images_of_any_size():
    def ramp(rows: int) -> np.ndarray:
        down = (np.arange(rows) + 0.5) / rows
        depth = np.exp(1 - 2 * down)[:, None].repeat(4, axis=1)
        depth[:, 0] = np.inf  # not known
        return depth

    row = fit_baselines([sample(ramp(192)), sample(ramp(384))], known, 0)['row']
    np.testing.assert_allclose(row.depth(96, 3), ramp(96)[:, 1:], rtol=1e-3)
    assert row.slope == pytest.approx(-2, rel=1e-3)


def test_the_constant_is_the_mean_of_log_depth():
    depth = np.array([[1.0, 4.0, 4.0, np.nan]])
    constant = fit_baselines([sample(depth)], known, 0)['constant']
    np.testing.assert_allclose(constant.depth(2, 5), exp(2 * log(4) / 3) * np.ones((2, 5)))


def test_classes_are_the_commonest_of_all_and_of_each_row():
    labels = np.array([[1, 1, 1], [2, 2, 255], [2, 255, 255], [0, 0, 255]], np.uint8)
    baselines = fit_baselines([sample(None, labels)], None, 3)
    np.testing.assert_array_equal(baselines['row'].labels(8, 2)[::2, 0], [1, 2, 2, 0])
    assert set(baselines['constant'].labels(3, 3).ravel()) == {1}  # as often as 2, and first


def test_depth_known_in_one_row_is_no_line():
    depth = np.full((192, 2), np.inf)
    depth[5] = 3
    row = fit_baselines([sample(depth)], known, 0)['row']
    np.testing.assert_allclose(row.depth(4, 1), 3)
