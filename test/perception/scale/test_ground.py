"""How far the ground is: by the poses of drawn worlds, and by hand."""

import math

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.scale.ground import down_of, ground_inverse_depth, mounted, REACH
from dpt_ros.training.worlds import Pose
import numpy as np
import pytest
import torch

LEVEL = (0.0, 1.0, 0.0)  # y is down in an optical frame
ANGLES = [(0.0, 0.0), (0.3, 0.0), (0.0, -0.2), (0.4, 0.1), (-0.1, 0.25)]
FORWARD_DOWN = (0.0, 0.0, -1.0)  # of a level body


@pytest.mark.parametrize(('pitch', 'roll'), ANGLES)
def test_down_is_where_the_pose_of_a_drawn_camera_has_it(pitch: float, roll: float):
    to_world = Pose((0.0, 0.0, 0.5), 1.1, pitch, roll).rotation()
    np.testing.assert_allclose(down_of(pitch, roll), to_world.T @ FORWARD_DOWN, atol=1e-12)


def test_a_camera_that_looks_straight_down_has_down_ahead():
    assert down_of(math.pi / 2, 0.0) == pytest.approx((0.0, 0.0, 1.0), abs=1e-12)


def test_with_the_right_side_low_down_is_to_the_right():
    assert down_of(0.0, 0.1)[0] > 0


@pytest.mark.parametrize(('pitch', 'roll'), ANGLES)
def test_a_camera_on_a_level_body_is_tilted_by_its_mount_alone(pitch: float, roll: float):
    assert mounted(FORWARD_DOWN, pitch, roll) == pytest.approx(down_of(pitch, roll))


@pytest.mark.parametrize(('pitch', 'roll'), ANGLES)
def test_a_level_camera_on_a_tilted_body_is_tilted_by_the_body_alone(pitch: float, roll: float):
    x, y, z = down_of(pitch, roll)
    body = (z, -x, -y)  # forward, left, up of right, down, forward
    assert mounted(body, 0.0, 0.0) == pytest.approx(down_of(pitch, roll))


def test_a_body_that_noses_down_adds_to_a_camera_that_looks_down():
    x, y, z = down_of(0.1, 0.0)
    assert mounted((z, -x, -y), 0.3, 0.0) == pytest.approx(down_of(0.4, 0.0))


@pytest.mark.parametrize('pitch', [0.0, 0.2])
def test_the_ground_ahead_is_height_over_the_tangent_away(pitch: float):
    # The ray of row v looks atan(y) below the axis, which looks `pitch` below the horizon; it
    # meets the ground at slant range h / sin, of which z is the part along the axis.
    camera, height = Camera(5, 101, 60.0, 60.0, 2.0, 50.0), 0.6
    rays = torch.from_numpy(np.moveaxis(camera.rays(), -1, 0))
    inverse = ground_inverse_depth(rays, down_of(pitch, 0.0), height)
    for row in (60, 75, 100):
        below = math.atan((row - 50.0) / 60.0)
        z = height / math.sin(below + pitch) * math.cos(below)
        assert 1 / inverse[row, 2].item() == pytest.approx(z, rel=1e-5)


def test_at_the_horizon_and_above_there_is_no_ground():
    camera = Camera(5, 101, 60.0, 60.0, 2.0, 50.0)
    rays = torch.from_numpy(np.moveaxis(camera.rays(), -1, 0))
    inverse = ground_inverse_depth(rays, LEVEL, 0.6)
    assert inverse[:51].isnan().all()
    assert (1 / inverse[inverse.isfinite()] < REACH).all()
