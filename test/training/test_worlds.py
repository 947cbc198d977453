"""Rendered worlds: reproducible, within the promised ranges, and true to their geometry."""

from dpt_ros.perception.camera import Camera
from dpt_ros.training.casting import BOX, ELLIPSOID, Parts
from dpt_ros.training.furnishing import class_names, FLOOR, furnish, SKY, SPHERES, World
from dpt_ros.training.materials import draw_sensor, Material, Sensor
from dpt_ros.training.worlds import (
    draw_shot,
    FIELD,
    HEIGHT,
    HELD_OUT,
    look,
    PITCH,
    place_camera,
    plan,
    Pose,
    render,
    ROLL,
    shoot,
    TRAINING,
)
import numpy as np
import pytest
import torch

SIZE = (48, 64)


def test_a_seed_is_an_image():
    first, again, other = render(5, SIZE), render(5, SIZE), render(6, SIZE)
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth, again.depth)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.camera == again.camera
    assert (first.rgb != other.rgb).mean() > 0.5


@pytest.mark.parametrize(
    'device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)], ids=['cpu', 'gpu']
)
def test_pictures_taken_together_are_those_taken_alone(device):
    # Rooms and yards, of few parts and of many; what casts no shadow in one must not in another.
    seeds = range(24)
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('there is no GPU')
    together = shoot(plan([draw_shot(seed, SIZE) for seed in seeds]).to(torch.device(device)))
    rgb, depth, labels = (part.cpu().numpy() for part in together)
    for seed in seeds:
        alone = render(seed, SIZE)
        rounding = 0 if device == 'cpu' else 1e-3
        assert (labels[seed] != alone.labels).mean() <= rounding
        np.testing.assert_allclose(
            np.sort(depth[seed], axis=None), np.sort(alone.depth, axis=None), rtol=1e-3
        )
        off = np.abs(rgb[seed].astype(int) - alone.rgb)
        assert (off > 1).mean() <= rounding


def test_held_out_worlds_are_none_of_training():
    assert len(HELD_OUT) == 512
    assert TRAINING.stop <= HELD_OUT.start


def test_the_classes_are_those_of_the_label_set():
    names = ('floor', 'wall', 'ceiling', 'sky', 'box', 'cylinder', 'sphere', 'table', 'chair')
    assert class_names() == (*names, 'person')


def test_images_are_what_they_say():
    occurring = set()
    for seed in range(100):
        view = render(seed, SIZE)
        assert view.rgb.shape == (*SIZE, 3) and view.rgb.dtype == np.uint8
        assert view.depth.shape == SIZE and view.depth.dtype == np.float32
        assert view.labels.shape == SIZE and view.labels.dtype == np.uint8
        assert (np.isinf(view.depth) == (view.labels == SKY)).all()
        assert (view.depth > 0.1).all()
        assert (view.depth[np.isfinite(view.depth)] < 20).all()
        assert (view.camera.width, view.camera.height) == (SIZE[1], SIZE[0])
        occurring |= set(np.unique(view.labels).tolist())
    assert occurring == set(range(len(class_names())))


def test_cameras_are_those_of_a_wheeled_robot():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        pose, camera = place_camera(furnish(rng), SIZE, rng)
        assert HEIGHT[0] <= pose.position[2] <= HEIGHT[1]
        assert PITCH[0] <= np.degrees(pose.pitch) <= PITCH[1]
        assert abs(np.degrees(pose.roll)) <= ROLL
        field = 2 * np.degrees(np.arctan(camera.width / 2 / camera.fx))
        assert FIELD[0] - 1e-6 <= field <= FIELD[1] + 1e-6


@pytest.mark.parametrize('seed', range(4))
def test_floor_pixels_lie_on_the_floor_from_wherever_the_camera_looks(seed):
    rng = np.random.default_rng(seed)
    world = furnish(rng)
    for _ in range(2):  # the same world, two poses
        pose, camera = place_camera(world, SIZE, rng)
        view = look(world, pose, camera, draw_sensor(rng), rng)
        rays = np.dstack((camera.rays(), np.ones(SIZE)))
        floor = view.labels == FLOOR
        points = rays[floor] * view.depth[floor][:, None] @ pose.rotation().T + pose.position
        np.testing.assert_allclose(points[:, 2], 0, atol=2e-3)


def a_ball_on_a_floor():
    white = np.array([Material((0.8,) * 3, (0.8,) * 3).row()] * 2, np.float32)
    parts = Parts(
        kind=np.array([BOX, ELLIPSOID]),
        label=np.array([FLOOR, SPHERES]),
        center=np.array([(0, 0, -0.5), (3, 0, 1.2)], float),
        half=np.array([(20, 20, 0.5), (0.4, 0.4, 0.4)], float),
        yaw=np.zeros(2),
        casts=np.array([False, True]),
    )
    down = np.array([0.0, 0.0, -1.0])
    sky = (np.array([0.2, 0.4, 0.9]), 0.3, 0.0)
    return World(parts, white, (10.0, 10.0), np.empty((0, 3)), down, 0.3, 0.0, sky)


def test_a_ball_throws_its_shadow_straight_below_when_light_comes_from_above():
    camera = Camera(161, 121, 80.0, 80.0, 80.0, 60.0)
    pose = Pose((0.0, 0.0, 1.0), yaw=0.0)
    sensor = Sensor(exposure=0.4, balance=(1, 1, 1), blur=0.3, gamma=1.0, noise=0.0)
    rgb = look(a_ball_on_a_floor(), pose, camera, sensor, np.random.default_rng(0)).rgb
    row = round(60 + 80 * 1.0 / 3.0)  # the floor 3 metres ahead, 1 metre below
    reach = 80 / 3.0  # pixels a metre, there
    shadow, beside = rgb[row, round(80 + 0.1 * reach)], rgb[row, round(80 + 0.8 * reach)]
    assert shadow.mean() < 0.8 * beside.mean()
