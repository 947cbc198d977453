"""
How far a flat ground is: a camera of known height and tilt needs no other sensor.

Points of the ground keep n . p = h, with n the direction down and h the height of the camera. A
pixel of ray r = (x, y, 1) sees p = z r, so that 1 / z = (n . r) / h.
"""

import math

import torch
from torch import Tensor

REACH = 30.0  # metres; farther, a flat ground is a row of pixels and a tenth of a degree is 10 %

Vector = tuple[float, float, float]


def down_of(pitch: float, roll: float) -> Vector:
    """
    Return the direction down in the optical frame of a camera (x right, y down, z forward).

    :param pitch: radians, positive where the camera looks down (REP 103: about y, which is left).
    :param roll: radians, positive where its right side is low (REP 103: about x, forward).
    """
    level = math.cos(pitch)
    return level * math.sin(roll), level * math.cos(roll), math.sin(pitch)


def mounted(down: Vector, pitch: float, roll: float) -> Vector:
    """
    Turn the direction down of a body (x forward, y left, z up) into the camera's optical frame.

    :param pitch: radians, of the camera on the body, as in `down_of`; `roll` likewise.
    """
    cp, sp, cr, sr = math.cos(pitch), math.sin(pitch), math.cos(roll), math.sin(roll)
    x, y, z = down
    forward = cp * x - sp * z  # the rows of Rx(-roll) Ry(-pitch)
    left = sr * sp * x + cr * y + sr * cp * z
    up = cr * sp * x - sr * y + cr * cp * z
    return -left, -up, forward


def ground_inverse_depth(rays: Tensor, down: Vector, height: float) -> Tensor:
    """
    Compute the inverse depth of a flat ground.

    :param rays: (2, ...) float32, x / z and y / z of pixels, as `Camera.rays` has them.
    :param down: unit vector in the optical frame.
    :param height: of the camera above the ground, metres.
    :return: (...) float32, 1 / m; NaN where the ground is farther than `REACH` or never met.
    """
    x, y, z = down
    inverse = (x * rays[0] + y * rays[1] + z) / height
    return inverse.where(inverse > 1 / REACH, torch.nan)
