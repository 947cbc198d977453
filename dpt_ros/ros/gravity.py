"""Where down is, by an IMU (sensor_msgs/Imu, REP 145)."""

import math

from dpt_ros.perception.scale.ground import Vector
from dpt_ros.ros.messages import seconds_of
from sensor_msgs.msg import Imu

STANDARD = 9.80665  # m/s^2
AT_REST = 1.0  # m/s^2 that an acceleration may differ by, or it is not gravity alone
SMOOTHING = 0.5  # seconds, over which accelerations are averaged
FRESH = 1.0  # seconds that what an IMU said holds


class Gravity:
    """The direction down in the axes of one IMU: by its orientation, else its accelerations."""

    def __init__(self) -> None:
        """Know nothing."""
        self._latest: tuple[float, Vector] | None = None  # seconds and down, in one assignment

    def put(self, imu: Imu) -> None:
        """Take a measurement; what tells nothing of gravity is left out."""
        seconds = seconds_of(imu.header)
        down = _by_orientation(imu)
        if down is None and (down := _by_acceleration(imu)) is not None and self._latest:
            since = seconds - self._latest[0]
            if 0 <= since < FRESH:
                share = 1 - math.exp(-since / SMOOTHING)
                mixed = (b + share * (n - b) for b, n in zip(self._latest[1], down, strict=True))
                down = _unit(*mixed)
        if down is not None:
            self._latest = seconds, down

    def down(self, seconds: float) -> Vector | None:
        """Return the unit vector down at a time; None where nothing fresh is known."""
        if self._latest is None or abs(seconds - self._latest[0]) > FRESH:
            return None
        return self._latest[1]


def _by_orientation(imu: Imu) -> Vector | None:
    """Turn down into the axes of the IMU; None: it estimates no orientation."""
    q = imu.orientation
    if imu.orientation_covariance[0] == -1 or abs(math.hypot(q.x, q.y, q.z, q.w) - 1) > 0.01:
        return None
    # The last row of the rotation from the IMU to the world, whose z points up, negated.
    return _unit(
        2 * (q.w * q.y - q.x * q.z), -2 * (q.y * q.z + q.w * q.x), 2 * (q.x**2 + q.y**2) - 1
    )


def _by_acceleration(imu: Imu) -> Vector | None:
    """Return the opposite of what holds the IMU up; None: it is accelerated, or does not tell."""
    a = imu.linear_acceleration
    strength = math.hypot(a.x, a.y, a.z)
    if imu.linear_acceleration_covariance[0] == -1 or not abs(strength - STANDARD) < AT_REST:
        return None
    return _unit(-a.x, -a.y, -a.z)


def _unit(x: float, y: float, z: float) -> Vector | None:
    """Return a vector of length 1; None where there is no direction."""
    length = math.hypot(x, y, z)
    return (x / length, y / length, z / length) if length > 1e-6 else None
