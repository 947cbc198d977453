"""Modes of scale on drawn worlds: whose word counts, when, and for how long."""

from dataclasses import replace
import math

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.scale.metres import metres_of_inverse
from dpt_ros.perception.scale.scaler import (
    check_mode,
    MODES,
    Reference,
    reference_points,
    Scaler,
    Settings,
    Sight,
)
from dpt_ros.perception.scale.tracker import Scale
from dpt_ros.training.furnishing import FLOOR
from dpt_ros.training.worlds import draw_shot, HELD_OUT, plan, shoot
from dpt_ros.zoo.checkpoints import BoundedDepth, CHECKPOINTS, InverseDepth, MetricDepth
import numpy as np
import pytest
import torch
from torch import Tensor

RELATIVE, METRIC = CHECKPOINTS['depth_anything_v2_small'], CHECKPOINTS['dpt_tiny']
NYU = CHECKPOINTS['dpt_hybrid_nyu']
FACTOR, OFFSET = 0.0123, 0.087  # 1 / metres = FACTOR * x + OFFSET
SIZE = (120, 160)
SETTINGS = Settings(
    mode='reference',
    factor=1.0,
    offset=0.0,
    smoothing=1.0,
    hold=2.0,
    jump=0.2,
    least_points=50,
    tolerance=0.05,
    camera_height=0.5,
    camera_pitch=0.0,
    camera_roll=0.0,
    gravity='fixed',
    ground_share=0.03,
)


class World:
    """What a robot sees in a drawn world, and what a relative network would make of it."""

    def __init__(self, seed: int):
        self.shot = draw_shot(seed, SIZE)
        batch = shoot(plan([self.shot]))
        self.depth, self.labels = batch.depth[0], batch.labels[0]
        self.inverse = (1 / self.depth - OFFSET) / FACTOR
        rays = np.moveaxis(self.shot.camera.rays(), -1, 0)
        self.rays = torch.from_numpy(np.ascontiguousarray(rays))
        self.floor = self.labels == FLOOR


WORLD = World(HELD_OUT[0])


def sparse(world: World, seed: int, seconds: float = 0.0, count: int = 500) -> Reference:
    """Measure depth at some pixels, with 1 % of error, three in ten grossly wrong."""
    rng = np.random.default_rng(seed)
    depth = world.depth.numpy() * (1 + 0.01 * rng.standard_normal(SIZE)).astype(np.float32)
    wrong = rng.random(SIZE) < 0.3
    depth = np.where(wrong, rng.uniform(0.2, 20, SIZE), depth)
    seen = rng.permutation(depth.size).reshape(SIZE) < count
    return Reference(seconds, np.where(seen, depth, np.nan).astype(np.float32))


def off(scale: Scale, world: World) -> float:
    """Return the mean relative error of the metres that a scale makes."""
    metres = metres_of_inverse(world.inverse, scale.factor, scale.offset)
    error = (metres / world.depth - 1).abs()
    return error[world.depth.isfinite()].mean().item()


def look(
    scaler: Scaler,
    world: World = WORLD,
    *references: Reference,
    at: float = 0.0,
    inverse: Tensor | None = None,
    settings: Settings = SETTINGS,
    source: str = '',
) -> Scale:
    sight = Sight(source, at, world.shot.camera, references)
    given = world.inverse if inverse is None else inverse
    return scaler.fitted(sight, given, world.floor, world.rays, settings)


def by_ground(world: World, **changes: object) -> Scale:
    pose = world.shot.pose
    settings = replace(
        SETTINGS,
        mode='ground',
        camera_height=pose.position[2],
        camera_pitch=math.degrees(pose.pitch),
        camera_roll=math.degrees(pose.roll),
        **changes,
    )
    return look(Scaler(RELATIVE), world, settings=settings)


def test_a_sparse_reference_gives_metres():
    assert off(look(Scaler(RELATIVE), WORLD, sparse(WORLD, 0)), WORLD) < 0.01


def test_a_reference_of_another_size_gives_metres():
    depth = WORLD.depth.nan_to_num(0, posinf=0)[None, None]
    half = torch.nn.functional.interpolate(depth, scale_factor=0.5, mode='nearest-exact')
    scale = look(Scaler(RELATIVE), WORLD, Reference(0.0, half[0, 0].numpy()))
    assert off(scale, WORLD) < 0.01


def test_a_reference_pixel_meets_the_place_that_it_shows():
    # On a ramp, the place is the value: pixel (u, v) of half the size lies at 2 u + 0.5.
    ramp = torch.arange(8.0).expand(6, 8) + 10 * torch.arange(6.0)[:, None]
    depth = np.zeros((3, 4), np.float32)
    depth[1, 2] = 5.0
    x, y = reference_points(ramp, Reference(0.0, depth))
    assert x.tolist() == pytest.approx([4.5 + 10 * 2.5])
    assert y.tolist() == pytest.approx([0.2])


def test_what_a_reference_does_not_know_is_no_point():
    unknown = np.array([[0, np.nan, np.inf, -np.inf, -1]], np.float32)
    x, y = reference_points(torch.ones(1, 5), Reference(0.0, unknown))
    assert len(x) == len(y) == 0


def test_a_reference_of_another_aspect_is_refused():
    square = Reference(0.0, np.ones((90, 90), np.float32))
    lost = look(Scaler(RELATIVE), WORLD, square).lost
    assert '90x90 does not have the aspect' in lost and '160x120' in lost


def test_a_reference_that_comes_late_is_matched_with_its_frame():
    scaler, other = Scaler(RELATIVE), 2 * WORLD.inverse
    assert look(scaler, at=1.0).lost
    scale = look(scaler, WORLD, sparse(WORLD, 0, 1.02), at=1.1, inverse=other)
    assert off(scale, WORLD) < 0.01


def test_a_reference_that_comes_early_waits_for_its_frame():
    scaler, other = Scaler(RELATIVE), 2 * WORLD.inverse
    assert look(scaler, WORLD, sparse(WORLD, 0, 1.1), at=1.0, inverse=other).lost
    assert off(look(scaler, at=1.1), WORLD) < 0.01


def test_a_reference_of_another_time_is_told_with_how_far_it_is():
    lost = look(Scaler(RELATIVE), WORLD, sparse(WORLD, 0, 7.5), at=5.0).lost
    assert 'within 0.05 s' in lost and '2.5 s away' in lost


def test_one_reference_is_used_once():
    scaler = Scaler(RELATIVE)
    look(scaler, WORLD, sparse(WORLD, 0, 1.0), at=1.0)
    assert look(scaler, at=1.04).age == pytest.approx(0.04)


def test_the_scale_of_a_scene_at_rest_does_not_jitter():
    scaler, rng = Scaler(RELATIVE), np.random.default_rng(0)
    factors = []
    for frame in range(60):
        noise = torch.from_numpy(rng.standard_normal(SIZE).astype(np.float32))
        inverse = WORLD.inverse + 0.01 * WORLD.inverse.mean() * noise
        reference = sparse(WORLD, frame, frame / 15, count=300)
        factors.append(look(scaler, WORLD, reference, at=frame / 15, inverse=inverse).factor)
    jitter = np.abs(np.diff(factors[10:]) / factors[10:-1])
    assert jitter.max() < 0.005


def test_without_a_reference_metres_are_held_then_stop_then_return():
    scaler, seen = Scaler(RELATIVE), []
    for at in (0.0, 1.0, 1.9, 2.1, 3.0):
        references = (sparse(WORLD, 0, at),) if at in (0.0, 3.0) else ()
        seen.append(look(scaler, WORLD, *references, at=at))
    assert [bool(scale.lost) for scale in seen] == [False, False, False, True, False]
    assert 'no reference_depth' in seen[3].notes[0]


def test_each_camera_has_its_own_scale():
    scaler = Scaler(RELATIVE)
    look(scaler, WORLD, sparse(WORLD, 0), source='front')
    twice = look(scaler, WORLD, sparse(WORLD, 0), inverse=2 * WORLD.inverse, source='rear')
    assert twice.factor == pytest.approx(FACTOR / 2, rel=0.01)
    assert look(scaler, at=0.1, source='front').factor == pytest.approx(FACTOR, rel=0.01)


def test_another_mode_begins_anew():
    scaler = Scaler(RELATIVE)
    look(scaler, WORLD, sparse(WORLD, 0))
    ground = replace(SETTINGS, mode='ground', ground_share=1.0)
    assert look(scaler, settings=ground).lost


def test_a_metric_network_is_corrected_by_the_scale_alone():
    inverse = 1.25 / WORLD.depth  # it takes everything for a fifth nearer
    scale = look(Scaler(METRIC), WORLD, sparse(WORLD, 0), inverse=inverse)
    assert scale.factor == pytest.approx(0.8, rel=0.01)
    assert scale.offset == 0


WITH_FLOOR = [seed for seed in HELD_OUT[:12] if World(seed).floor.float().mean() > 0.05]


@pytest.mark.parametrize('seed', WITH_FLOOR)
def test_the_floor_of_a_drawn_world_gives_metres(seed: int):
    scale = by_ground(World(seed))
    assert scale.factor == pytest.approx(FACTOR, rel=0.02)
    assert off(scale, World(seed)) < 0.02


def test_the_floor_gives_metres_though_a_quarter_of_it_is_mislabelled():
    world = World(WITH_FLOOR[0])
    wrong = torch.from_numpy(np.random.default_rng(0).random(SIZE) < 0.25)
    world.floor = world.floor | (wrong & world.depth.isfinite())
    assert off(by_ground(world), world) < 0.02


def test_too_little_ground_is_refused():
    assert re_share(by_ground(WORLD, ground_share=0.99).lost) == '99.0% are needed'


def re_share(text: str) -> str:
    return text.split(', ')[-1]


def test_the_ground_needs_a_calibrated_camera():
    scaler, settings = Scaler(RELATIVE), replace(SETTINGS, mode='ground')
    sight = Sight('', 0.0, None)
    lost = scaler.fitted(sight, WORLD.inverse, WORLD.floor, None, settings).lost
    assert 'needs camera_info' in lost


def test_with_gravity_from_an_imu_the_ground_waits_for_it_and_then_obeys_it():
    pose, scaler = WORLD.shot.pose, Scaler(RELATIVE)
    height = pose.position[2]
    settings = replace(SETTINGS, mode='ground', gravity='imu_optical', camera_height=height)
    assert 'imu' in look(scaler, settings=settings).lost
    down = tuple(pose.rotation().T @ (0.0, 0.0, -1.0))
    sight = Sight('', 0.1, WORLD.shot.camera, (), down)
    scale = scaler.fitted(sight, WORLD.inverse, WORLD.floor, WORLD.rays, settings)
    assert off(scale, WORLD) < 0.02


def test_what_is_known_before_the_network_runs_is_not_fitted():
    sights = [Sight('', 0.0, None)]
    fixed = replace(SETTINGS, mode='fixed', factor=2.0, offset=0.5)
    assert Scaler(RELATIVE).known(sights, (1.0, 1.0), fixed) == [Scale(2.0, 0.5)]
    assert Scaler(RELATIVE).known(sights, (1.0, 1.0), SETTINGS) is None


@pytest.mark.parametrize(
    ('focal', 'zoom', 'farther'), [(518.86, 1.0, 1.0), (1037.72, 1.0, 2.0), (1037.72, 0.5, 1.0)]
)
def test_a_longer_lens_than_the_trained_one_shows_things_that_are_farther(
    focal: float, zoom: float, farther: float
):
    camera = Camera(640, 480, focal, focal, 320.0, 240.0)
    sights = [Sight('front', 0.0, camera), Sight('rear', 0.0, None)]
    model = replace(SETTINGS, mode='model')
    corrected, unknown = Scaler(NYU).known(sights, (zoom, zoom), model)
    assert metres_of_inverse(torch.tensor(0.5), corrected.factor).item() == 2 * farther
    assert f'metres times {farther:.3f}' in corrected.notes[0]
    assert (unknown.factor, unknown.offset) == (1.0, 0.0)


def test_a_lens_is_told_when_it_is_learned_and_when_it_changes_and_not_between():
    scaler, model = Scaler(NYU), replace(SETTINGS, mode='model')
    cameras = [None, None, *(Camera(640, 480, f, f, 320.0, 240.0) for f in (500.0, 500.0, 600.0))]
    sights = [Sight('', float(at), camera) for at, camera in enumerate(cameras)]
    told = [scaler.known([sight], (1.0, 1.0), model)[0].notes for sight in sights]
    assert [len(notes) for notes in told] == [1, 0, 1, 0, 1]
    assert 'no camera_info tells' in told[0][0] and '519 px' in told[0][0]


def test_where_the_trained_lens_is_not_known_nothing_is_corrected():
    sights = [Sight('', 0.0, Camera(64, 48, 90.0, 90.0, 32.0, 24.0))]
    assert Scaler(METRIC).known(sights, (1, 1), replace(SETTINGS, mode='model')) == [Scale()]


def test_metres_of_relative_weights_need_a_scale():
    with pytest.raises(ValueError, match='dpt_x gives relative depth') as refusal:
        check_mode('model', RELATIVE, 'dpt_x')
    for cure in ("'reference'", "'ground'", "'fixed'", 'scale.factor', "'none'", 'metric model'):
        assert cure in str(refusal.value)


@pytest.mark.parametrize('mode', ['fixed', 'none'])
@pytest.mark.parametrize(
    'depth', [InverseDepth(1.0, 0.0), BoundedDepth(10.0), MetricDepth(0.001, 10.0)]
)
def test_metres_are_neither_scaled_twice_nor_passed_off_as_inverse_depth(mode: str, depth: object):
    with pytest.raises(ValueError, match=r"dpt_x gives metres by itself.*choose 'model'"):
        check_mode(mode, replace(METRIC, depth=depth), 'dpt_x')


@pytest.mark.parametrize(
    ('checkpoint', 'modes'),
    [(METRIC, {'model', 'reference', 'ground'}), (RELATIVE, set(MODES) - {'model'})],
)
def test_a_mode_that_fits_is_accepted(checkpoint: object, modes: set[str]):
    for mode in modes:
        check_mode(mode, checkpoint, 'dpt_x')
