"""REP 117: +Inf is nothing in range, NaN is unknown; boundaries belong to the range."""

from collections.abc import Callable
from functools import cache

import cv2
from dpt_ros.perception.bands import at_once
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.cleanup import clean, cut_flying
from dpt_ros.training.worlds import HELD_OUT, render, View
from dpt_ros.zoo.store import load
import numpy as np
import pytest
from scipy.spatial import cKDTree
import torch

pytestmark = pytest.mark.usefixtures('each_way')

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
    mask = None if sky is None else torch.tensor([[sky]])
    cleaned = clean(torch.tensor([[depth]]), mask, near=0.5, far=8.0)
    np.testing.assert_equal(cleaned.item(), wanted)


@pytest.mark.parametrize('depth', [0.1, 2.0, 99.0, NAN, INF])
def test_the_sky_is_nothing_in_range_whatever_the_network_says(depth: float):
    cleaned = clean(torch.tensor([[depth]]), torch.tensor([[True]]), near=0.5, far=8.0)
    assert cleaned.item() == INF


def test_only_the_sky_is_taken_out():
    depth, sky = torch.full((3, 4), 2.0), torch.zeros(3, 4, dtype=torch.bool)
    sky[2, 3] = True
    cleaned = clean(depth, sky, near=0.5, far=8.0)
    assert torch.equal(cleaned.isinf(), sky)
    assert (cleaned[~sky] == 2).all()


@pytest.mark.parametrize('threads', [1, 2, 3, 7])
def test_what_floats_is_found_at_once_in_any_number_of_bands(monkeypatch, threads: int):
    size, reach = (90, 70), 3
    generator = torch.Generator().manual_seed(0)
    depth = 1 + 6 * torch.rand((1, 1, 9, 7), generator=generator)
    depth = torch.nn.functional.interpolate(depth, size, mode='bicubic')[0, 0]
    rays = torch.from_numpy(Camera(70, 90, 60, 60, 35, 45).rays()).permute(2, 0, 1).contiguous()
    wanted = cut_flying(clean(depth, None, 2.0, 6.0), rays, 5.0, reach)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    with at_once():
        found = cut_flying(clean(depth, None, 2.0, 6.0), rays, 5.0, reach)
    assert 100 < found.isnan().sum() < found.numel()
    assert torch.equal(found.nan_to_num(-1), wanted.nan_to_num(-1))


def test_what_goes_in_stays_as_it_is():
    depth, sky = torch.tensor([[0.1, 2.0, 9.0]]), torch.tensor([[False, False, True]])
    before = depth.clone(), sky.clone()
    clean(depth, sky, near=0.5, far=8.0)
    assert torch.equal(depth, before[0]) and torch.equal(sky, before[1])


CAMERA = Camera(64, 48, 60.0, 60.0, 31.5, 23.5)
RAYS = torch.from_numpy(CAMERA.rays()).permute(2, 0, 1)


def flying(depth: torch.Tensor, rays: torch.Tensor, degrees: float, reach: int) -> torch.Tensor:
    """Return which pixels go; all others stay as they are."""
    kept = cut_flying(depth, rays, degrees, reach)
    gone = kept.isnan() & ~depth.isnan()
    assert torch.equal(kept[~gone].nan_to_num(-1), depth[~gone].nan_to_num(-1))
    return gone


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
    found = flying(depth, rays, 10.0, 2)
    wanted = torch.zeros(48, 64, dtype=torch.bool)
    wanted[:, 30:34] = True
    assert torch.equal(found.T if turned else found, wanted)


def test_a_sharp_edge_is_no_flying_pixel():
    assert not flying(ramp(1.0, 3.0, 0), RAYS, 10.0, 2).any()


def test_an_angle_of_zero_finds_nothing():
    assert not flying(ramp(1.0, 30.0, 4), RAYS, 0.0, 2).any()


@pytest.mark.parametrize(('degrees', 'found'), [(19.0, False), (21.0, True)])
def test_a_ramp_is_believed_down_to_the_angle(degrees: float, found: bool):
    # A pixel is 1/60 m wide at 1 m, so 2 m of depth with 92 mm a pixel meet the ray under 20
    # degrees: atan(2 / 60 / 0.092). Columns 31 and 32 are the middle of the ramp.
    middle = flying(ramp(1.8, 1.8 + 5 * 0.092, 4), RAYS, degrees, 2)[20:28, 31:33]
    assert bool(middle.all()) == found and bool(middle.any()) == found


@pytest.mark.parametrize('height', [0.2, 0.5, 1.5])
@pytest.mark.parametrize('turned', [False, True])
def test_a_floor_is_believed_as_far_as_it_goes(height: float, turned: bool):
    # At 20 m the ray of a camera at 0.2 m meets the floor under 0.6 degrees.
    camera = Camera(320, 240, 250.0, 250.0, 159.5, 119.5)
    rays = torch.from_numpy(camera.rays()).permute(2, 0, 1)
    depth = height / rays[1]
    depth = torch.where((depth > 0) & (depth < 20), depth, torch.inf)
    if turned:  # a wall that is passed
        depth, rays = depth.T.contiguous(), rays.flip(0).transpose(1, 2)
    assert not flying(depth, rays, 4.0, 2).any()


def test_what_floats_over_a_floor_is_found():
    camera = Camera(320, 240, 250.0, 250.0, 159.5, 119.5)
    rays = torch.from_numpy(camera.rays()).permute(2, 0, 1)
    depth = torch.where(rays[1] > 0.05, 0.5 / rays[1], 10.0)
    depth[:, 160:] = depth[:, 160:].clamp_max(1.5)  # a box before floor and wall
    depth[:, 156:164] = torch.lerp(depth[:, 155:156], depth[:, 164:165], torch.arange(1, 9) / 9)
    found = flying(depth, rays, 4.0, 2)
    assert found[:120, 157:163].all()  # before the wall
    assert not found[:, :156].any() and not found[:, 164:].any()


def test_the_angle_does_not_depend_on_the_resolution():
    fine = CAMERA.resized(256, 192)
    rays = torch.from_numpy(fine.rays()).permute(2, 0, 1)
    row = torch.full((256,), 1.0)
    row[120:136] = torch.linspace(1.0, 3.0, 18)[1:-1]
    row[136:] = 3.0
    found = flying(row.expand(192, 256).contiguous(), rays, 10.0, 8)
    # The last, at 2.88 m, could as well be the wall at 3.
    assert found[:, 120:135].all() and found.sum() == 15 * 192


def test_what_is_not_finite_floats_nowhere():
    depth = ramp(1.0, 3.0, 4)
    depth[:, 30] = torch.nan
    depth[:, 34:] = torch.inf
    found = flying(depth, RAYS, 10.0, 2)
    assert found[:, 32].all()
    assert not found[:, 30:32].any()
    assert not found[:, 35:].any()


def blurred(size: int, values: np.ndarray) -> np.ndarray:
    """Draw values at 1 / `size` of their resolution and bring them back, as networks do."""
    height, width = values.shape
    small = (width // size, height // size)
    small = cv2.resize(values.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


# How networks draw an edge: from metres or inverse depth at the stride of the paper's last stage,
# or with a bell of the same width.
NETWORKS = {
    'metres at a quarter': lambda depth: blurred(4, depth),
    'inverse depth at a quarter': lambda depth: 1 / blurred(4, 1 / depth).clip(0.03),
    'metres at half, with a bell': lambda depth: blurred(2, cv2.GaussianBlur(depth, (0, 0), 1.5)),
}


@cache
def view(seed: int) -> tuple[View, np.ndarray, cKDTree]:
    """Draw a world; its rays (2, H, W), and its true points for asking which is nearest."""
    drawn = render(seed, (240, 320))
    rays = drawn.camera.rays().transpose(2, 0, 1)
    seen = np.isfinite(drawn.depth)
    return drawn, rays, cKDTree(lift(drawn.depth, rays)[seen])


def lift(depth: np.ndarray, rays: np.ndarray) -> np.ndarray:
    return np.stack((rays[0] * depth, rays[1] * depth, depth), axis=-1)


def counted(network: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Return the shares [%] of points off every surface, before and after, and of those lost."""
    before = after = lost = points = 0
    for seed in HELD_OUT[300:304]:
        drawn, rays, surfaces = view(seed)
        seen = np.isfinite(drawn.depth)
        depth = network(np.where(seen, drawn.depth, np.float32(20)))
        away, _ = surfaces.query(lift(depth, rays), distance_upper_bound=20)
        off = seen & (away > 0.05 + 0.05 * depth)
        depth[~seen] = INF  # as the class of the sky has it
        found = flying(torch.from_numpy(depth), torch.from_numpy(rays.copy()), 4.0, 2).numpy()
        before, points = before + off.sum(), points + seen.sum()
        after, lost = after + (off & ~found).sum(), lost + (seen & ~off & found).sum()
    kept = points - (before - after) - lost
    return {
        'before': 100 * before / points,
        'after': 100 * after / kept,
        'lost': 100 * lost / (points - before),
    }


@pytest.mark.parametrize('network', NETWORKS.values(), ids=NETWORKS.keys())
def test_most_points_off_every_surface_go_and_hardly_a_true_one(
    network: Callable[[np.ndarray], np.ndarray],
):
    shares = counted(network)
    assert shares['before'] > 2
    assert shares['after'] < 0.4 * shares['before']
    assert shares['lost'] < 2


def test_of_the_embedded_network_more_false_points_go_than_true_ones():
    # Its own predictions, brought to the median of the truth: most are off as whole surfaces.
    tiny = load('dpt_tiny')
    for seed in HELD_OUT[300:302]:
        drawn, rays, surfaces = view(seed)
        seen = np.isfinite(drawn.depth)
        image = torch.from_numpy(cv2.resize(drawn.rgb, (256, 192))).permute(2, 0, 1) / 127.5 - 1
        with torch.inference_mode():
            raw = tiny.network(image[None], {'depth'})['depth'][0].numpy()
        depth = cv2.resize(raw, (320, 240), interpolation=cv2.INTER_CUBIC)
        depth *= np.median(drawn.depth[seen] / depth[seen])
        away, _ = surfaces.query(lift(depth, rays), distance_upper_bound=20)
        off = seen & (away > 0.05 + 0.05 * depth)
        depth[~seen] = INF
        found = flying(torch.from_numpy(depth), torch.from_numpy(rays.copy()), 4.0, 2).numpy()
        assert (off & found).sum() / off.sum() > 2 * (seen & ~off & found).sum() / (
            seen & ~off
        ).sum()
        assert (seen & ~off & found).sum() < 0.02 * (seen & ~off).sum()


@pytest.mark.parametrize('threads', [1, 2, 3, 48])
def test_an_edge_where_two_threads_meet_is_found_as_any_other(threads, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    edge = ramp(1.0, 3.0, 4).T  # (64, 48), rows 30 to 33 float
    rays = torch.from_numpy(Camera(48, 64, 50.0, 50.0, 24.0, 32.0).rays()).permute(2, 0, 1)
    wanted = torch.zeros(edge.shape, dtype=torch.bool)
    wanted[30:34] = True
    assert torch.equal(flying(edge, rays, 10.0, 2), wanted)
