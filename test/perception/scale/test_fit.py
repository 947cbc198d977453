"""Scale and offset among outliers: drawn worlds and a real kitchen, moved by known numbers."""

from pathlib import Path

import cv2
from dpt_ros.perception.scale.fit import Fit, fit_inverse_depth, MOST, thin, UnfitError
from dpt_ros.training.worlds import HELD_OUT, render
import numpy as np
import pytest
import torch

SCENE = Path(__file__).parents[3] / '../shared/data/rgbd_scene'
FACTOR, OFFSET = 0.0123, 0.087  # 1 / metres = FACTOR * x + OFFSET
SEEDS = HELD_OUT[:4]


def world(seed: int) -> np.ndarray:
    """Return the depth of what a robot sees in a drawn world, (N,) metres, no sky."""
    depth = render(seed, (120, 160)).depth.ravel().astype(np.float64)
    return depth[np.isfinite(depth)]


def spoil(depth: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Measure depth with an error of 1 %, and a share of it grossly wrong."""
    measured = depth * (1 + 0.01 * rng.standard_normal(len(depth)))
    wrong = rng.random(len(depth)) < share
    return np.where(wrong, rng.uniform(0.2, 20.0, len(depth)), measured)


def fitted(x: np.ndarray, depth: np.ndarray, with_offset: bool = True, least: int = 50) -> Fit:
    x, y = torch.from_numpy(x), torch.from_numpy(1 / depth)
    return fit_inverse_depth(x, y, with_offset=with_offset, least=least)


def off(fit: Fit, x: np.ndarray, depth: np.ndarray) -> float:
    """Return the mean relative error of the metres that a fit makes."""
    return float(np.mean(np.abs(1 / (fit.factor * x + fit.offset) / depth - 1)))


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('count', [200, 2000, 20_000])
def test_scale_and_offset_are_found_among_a_third_of_outliers(seed: int, count: int):
    rng = np.random.default_rng(seed)
    depth = rng.choice(world(seed), count)
    x = (1 / depth - OFFSET) / FACTOR
    noisy = x + 0.005 * x.mean() * rng.standard_normal(count)
    fit = fitted(noisy, spoil(depth, 0.3, rng))
    assert fit.factor == pytest.approx(FACTOR, rel=0.01)
    assert fit.offset == pytest.approx(OFFSET, abs=0.01 * np.mean(1 / depth))
    assert off(fit, x, depth) < 0.01
    assert 0.55 < fit.inliers / fit.points < 0.75


@pytest.mark.parametrize('seed', SEEDS)
def test_of_metric_networks_the_scale_alone_is_found(seed: int):
    rng = np.random.default_rng(seed)
    depth = rng.choice(world(seed), 500)
    fit = fitted(1.3 / depth, spoil(depth, 0.3, rng), with_offset=False)
    assert fit.factor == pytest.approx(1 / 1.3, rel=0.01)
    assert fit.offset == 0


@pytest.mark.skipif(not SCENE.is_dir(), reason=f'{SCENE} is not there')
@pytest.mark.parametrize('frame', [0, 40, 94, 300])
def test_a_real_kitchen_is_aligned_by_one_pixel_in_a_hundred(frame: int):
    rng = np.random.default_rng(frame)
    image = cv2.imread(str(SCENE / f'frame-{frame:06}.depth.png'), cv2.IMREAD_UNCHANGED)
    depth = image[(image > 0) & (image < 65535)] / 1000
    factor, offset = rng.uniform(0.001, 1), rng.uniform(-0.1, 0.2)
    x = (1 / depth - offset) / factor
    corrupted = x + 0.005 * x.mean() * rng.standard_normal(len(x))
    seen = rng.choice(len(x), len(x) // 100, replace=False)
    fit = fitted(corrupted[seen], spoil(depth[seen], 0.3, rng))
    assert off(fit, corrupted, depth) < 0.01


def test_exact_points_give_exact_numbers():
    x = np.linspace(1.0, 90.0, 100)
    fit = fitted(x, 1 / (FACTOR * x + OFFSET))
    assert (fit.factor, fit.offset) == pytest.approx((FACTOR, OFFSET), rel=1e-9)
    assert (fit.inliers, fit.points) == (100, 100)
    assert fit.quartiles == pytest.approx((23.25, 45.5, 67.75))


def test_far_points_are_not_drowned_by_near_ones():
    # 10 % of error at every range, which in 1 / m is 40 times as much near as far.
    far, ours, plain = 0.05, [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = np.exp(rng.uniform(np.log(far), np.log(2.0), 500))
        depth = 1 / (x * (1 + 0.1 * rng.standard_normal(500)))
        fit = fitted(x, depth)
        ours.append(abs(fit.factor * far + fit.offset - far))
        plain.append(abs(np.polyval(np.polyfit(x, 1 / depth, 1), far) - far))
    assert np.mean(ours) < 0.5 * np.mean(plain)


def test_what_is_unknown_does_not_count():
    x = np.linspace(1.0, 90.0, 100)
    depth = 1 / (FACTOR * x + OFFSET)
    depth[::5], depth[1::5] = np.nan, np.inf
    x[2::5] = np.nan
    assert fitted(x, depth, least=40).points == 40


@pytest.mark.parametrize(
    ('x', 'depth', 'complaint'),
    [
        (np.arange(1.0, 40), np.arange(1.0, 40), '39 points with depth are seen, at least 50'),
        (np.linspace(1, 5, 99), np.linspace(1, 5, 99), 'nearer is not nearer to the network'),
        (
            np.linspace(1, 1.2, 99),
            1 / np.linspace(1, 1.2, 99),
            'between 0.84 and 0.99 m: too little of depth to tell scale from offset',
        ),
    ],
)
def test_points_that_do_not_tell_are_refused(x: np.ndarray, depth: np.ndarray, complaint: str):
    with pytest.raises(UnfitError, match=complaint):
        fitted(x, depth)


def test_a_wall_is_enough_where_there_is_no_offset():
    assert fitted(np.full(99, 0.5), np.full(99, 4.0), with_offset=False).factor == 0.5


@pytest.mark.parametrize('seed', range(8))
def test_a_reference_of_something_else_is_refused(seed: int):
    rng = np.random.default_rng(seed)
    with pytest.raises(UnfitError, match=r'agree|not nearer'):
        fitted(rng.uniform(0.1, 2, 1000), rng.uniform(0.3, 20, 1000))


def test_a_change_is_told_in_metres():
    fit = Fit(2.0, 0.0, 9, 9, 0.0, (1.0, 2.0, 3.0))
    assert fit.change(2.0, 0.0) == 0
    assert fit.change(1.0, 0.0) == pytest.approx(1.0)  # twice as far
    assert fit.change(4.0, 0.0) == pytest.approx(1.0)  # half as far
    assert fit.change(2.0, 0.2) == pytest.approx(0.1)  # where it is most, far away


@pytest.mark.parametrize('count', [0, 1, 5, MOST, MOST + 1, 307_200])
def test_thinning_keeps_points_evenly(count: int):
    kept = thin(count)
    assert len(kept) == min(count, MOST)
    assert len(kept.unique()) == len(kept)
    if count:
        assert (int(kept[0]), int(kept[-1])) == (0, max(count - 1, 0)) or count == 1
