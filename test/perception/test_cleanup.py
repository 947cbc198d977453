"""REP 117: +Inf is nothing in range, NaN is unknown; boundaries belong to the range."""

import cv2
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.cleanup import clean, flying
from dpt_ros.training.worlds import HELD_OUT, render, View
import numpy as np
import pytest
import torch

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ('depth', 'wanted'),
    [
        (2.0, 2.0),
        (0.5, 0.5),  # the nearest that counts
        (8.0, 8.0),  # the farthest that counts
        (0.49, NAN),
        (8.01, INF),
        (0.0, NAN),
        (-1.0, NAN),
        (NAN, NAN),
        (INF, INF),
        (-INF, NAN),
    ],
)
@pytest.mark.parametrize('sky', [None, False])
def test_depth_keeps_to_its_range(depth: float, wanted: float, sky: bool | None):
    mask = None if sky is None else torch.tensor([[[sky]]])
    cleaned = clean(torch.tensor([[[depth]]]), mask, near=0.5, far=8.0)
    np.testing.assert_equal(cleaned.item(), wanted)


@pytest.mark.parametrize('depth', [0.1, 2.0, 99.0, NAN, INF])
def test_the_sky_is_nothing_in_range_whatever_the_network_says(depth: float):
    cleaned = clean(torch.tensor([[[depth]]]), torch.tensor([[[True]]]), near=0.5, far=8.0)
    assert cleaned.item() == INF


def test_only_the_sky_is_taken_out():
    depth, sky = torch.full((2, 3, 4), 2.0), torch.zeros(2, 3, 4, dtype=torch.bool)
    sky[1, 2, 3] = True
    cleaned = clean(depth, sky, near=0.5, far=8.0)
    assert torch.equal(cleaned.isinf(), sky)
    assert (cleaned[~sky] == 2).all()


def test_what_goes_in_stays_as_it_is():
    depth, sky = torch.tensor([[[0.1, 2.0, 9.0]]]), torch.tensor([[[False, False, True]]])
    before = depth.clone(), sky.clone()
    clean(depth, sky, near=0.5, far=8.0)
    assert torch.equal(depth, before[0]) and torch.equal(sky, before[1])


CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
RAYS = torch.from_numpy(CAMERA.rays()).permute(2, 0, 1)


def ramp(low: float, high: float, pixels: int) -> torch.Tensor:
    """Draw two walls, left and right, with a ramp of some pixels between: (48, 64) metres."""
    row = torch.full((64,), low)
    end = 30 + pixels
    row[30:end] = torch.linspace(low, high, pixels + 2)[1:-1]
    row[end:] = high
    return row.expand(48, 64).contiguous()


@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize(('low', 'high'), [(1.0, 3.0), (3.0, 1.0)])
def test_what_floats_between_two_walls_is_found(low: float, high: float, turned: bool):
    depth, rays = ramp(low, high, 4), RAYS
    if turned:  # the edge runs across
        depth, rays = depth.T.contiguous(), rays.flip(0).transpose(1, 2)
    found = flying(depth, rays, 10.0)
    wanted = torch.zeros(48, 64, dtype=torch.bool)
    wanted[:, 30:34] = True
    assert torch.equal(found.T if turned else found, wanted)


def test_a_sharp_edge_is_no_flying_pixel():
    assert not flying(ramp(1.0, 3.0, 0), RAYS, 10.0).any()


def test_an_angle_of_zero_finds_nothing():
    assert not flying(ramp(1.0, 30.0, 4), RAYS, 0.0).any()


@pytest.mark.parametrize(('degrees', 'found'), [(19.0, False), (21.0, True)])
def test_a_slanted_wall_is_believed_down_to_the_angle(degrees: float, found: bool):
    # A wall whose plane holds the vertical axis, 20 degrees from the optical axis: seen from the
    # middle of the image the ray meets it under 20 degrees.
    tangent = np.tan(np.radians(20))
    depth = 1 / (RAYS[0] - tangent) * -tangent  # x = tangent * (z - 1)
    middle = flying(depth, RAYS, degrees)[20:28, 31:33]
    assert bool(middle.all()) == found and bool(middle.any()) == found


def test_the_angle_does_not_depend_on_the_resolution():
    fine = CAMERA.resized(256, 192)
    rays = torch.from_numpy(fine.rays()).permute(2, 0, 1)
    row = torch.full((256,), 1.0)
    row[120:136] = torch.linspace(1.0, 3.0, 18)[1:-1]
    row[136:] = 3.0
    found = flying(row.expand(192, 256).contiguous(), rays, 10.0)
    assert found[0, 120:136].all() and found.sum() == 16 * 192


def test_what_is_not_finite_floats_nowhere():
    depth = ramp(1.0, 3.0, 4)
    depth[:, 30] = torch.nan
    depth[:, 34:] = torch.inf
    found = flying(depth, RAYS, 10.0)
    assert found[:, 32].all()
    assert not found[:, 30:32].any()
    assert not found[:, 35:].any()


def as_a_network_sees(view: View) -> np.ndarray:
    """Blur the true depth of a view to a quarter and back, as a network's output is."""
    height, width = view.depth.shape
    filled = np.where(np.isfinite(view.depth), view.depth, 20).astype(np.float32)
    small = cv2.resize(filled, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.where(np.isfinite(view.depth), blurred, INF).astype(np.float32)


def distances(depth: np.ndarray, view: View, rays: np.ndarray, reach: int = 12) -> np.ndarray:
    """Measure from each point to the nearest true one within some pixels around, metres."""
    points = np.stack((rays[0] * depth, rays[1] * depth, depth))
    true = np.stack((rays[0], rays[1], np.ones_like(rays[0])))
    true = true * np.where(np.isfinite(view.depth), view.depth, 1e6)
    height, width = depth.shape
    padded = np.pad(true, ((0, 0), (reach, reach), (reach, reach)), constant_values=1e6)
    nearest = np.full(depth.shape, INF)
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            below, beside = down + height, right + width
            moved = padded[:, down:below, right:beside]
            nearest = np.minimum(nearest, np.linalg.norm(points - moved, axis=0))
    return nearest


def test_of_points_that_float_in_worlds_a_third_is_found_and_hardly_a_true_one():
    floating = found = true = lost = 0
    for seed in HELD_OUT[300:303]:
        view = render(seed, (240, 320))
        rays = view.camera.rays().transpose(2, 0, 1).astype(np.float32)
        depth = as_a_network_sees(view)
        wrong = np.isfinite(depth) & (distances(depth, view, rays) > 0.05 + 0.05 * depth)
        marked = flying(torch.from_numpy(depth), torch.from_numpy(rays), 2.0).numpy()
        marked &= np.isfinite(depth)
        floating, found = floating + wrong.sum(), found + (wrong & marked).sum()
        right = np.isfinite(depth) & ~wrong
        true, lost = true + right.sum(), lost + (right & marked).sum()
    assert floating > 0.02 * true
    assert found > 0.33 * floating
    assert lost < 0.02 * true
