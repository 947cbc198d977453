"""Where down is, by an IMU."""

import math

from dpt_ros.ros.gravity import Gravity
import numpy as np
import pytest
from sensor_msgs.msg import Imu

G = 9.81


def imu(
    seconds: float = 5.0,
    acceleration: tuple[float, float, float] = (0.0, 0.0, G),
    quaternion: tuple[float, float, float, float] | None = None,
) -> Imu:
    """Measure with an IMU; without a quaternion (x, y, z, w) it estimates no orientation."""
    message = Imu()
    message.header.stamp.sec = int(seconds)
    message.header.stamp.nanosec = round(seconds % 1 * 1e9)
    a, q = message.linear_acceleration, message.orientation
    a.x, a.y, a.z = acceleration
    if quaternion is None:
        message.orientation_covariance[0] = -1.0
    else:
        q.x, q.y, q.z, q.w = quaternion
    return message


def down(*messages: Imu, at: float = 5.0) -> tuple[float, float, float] | None:
    gravity = Gravity()
    for message in messages:
        gravity.put(message)
    return gravity.down(at)


def test_at_rest_what_pushes_up_tells_down():
    assert down(imu()) == pytest.approx((0, 0, -1))
    assert down(imu(acceleration=(0.0, -G, 0.0))) == pytest.approx((0, 1, 0))  # optical axes


@pytest.mark.parametrize(
    ('axis', 'wanted'), [((0, 1, 0), (0.5, 0, -0.866)), ((1, 0, 0), (0, -0.5, -0.866))]
)
def test_an_orientation_tells_down(axis: tuple, wanted: tuple):
    # 30 degrees about y has the nose down, so down is ahead; about x the right side is low.
    x, y, z = np.array(axis) * math.sin(math.radians(15))
    tilted = imu(quaternion=(float(x), float(y), float(z), math.cos(math.radians(15))))
    assert down(tilted) == pytest.approx(wanted, abs=1e-3)


def test_a_heading_changes_nothing():
    assert down(imu(quaternion=(0.0, 0.0, 0.6, 0.8))) == pytest.approx((0, 0, -1))


def test_while_it_is_pushed_the_last_word_holds():
    assert down(imu(4.9), imu(5.0, (4.0, 0.0, 12.0))) == pytest.approx((0, 0, -1))


def test_accelerations_are_averaged():
    tilted = down(*(imu(4 + i / 100, (0.5 * (-1) ** i, 0.0, 9.79)) for i in range(100)))
    assert abs(tilted[0]) < 0.01


def test_an_imu_without_orientation_that_says_nothing_of_it_is_read_by_its_accelerations():
    silent = imu(quaternion=(0.0, 0.0, 0.0, 0.0))
    assert down(silent) == pytest.approx((0, 0, -1))


@pytest.mark.parametrize('at', [3.9, 6.1])
def test_what_is_not_fresh_is_not_known(at: float):
    assert down(imu(), at=at) is None


def test_before_anything_came_nothing_is_known():
    assert Gravity().down(0.0) is None
