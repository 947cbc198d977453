"""
The topics that the node listens to: one row each.

A new input is one row of `INPUTS`. `wanted` says with which parameters it is subscribed to, `put`
where its messages are left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpt_ros.ros.parameters import Parameters
from dpt_ros.ros.worker import Worker
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu


@dataclass(frozen=True)
class Input:
    """One topic of each camera."""

    topic: str
    message: type
    wanted: Callable[[Parameters], bool]
    put: Callable[[Worker, str, Any], None]  # worker, name of the camera, message
    measures: bool = False  # what metres are fitted to; some wait, for they are matched by stamp

    @property
    def is_image(self) -> bool:
        """Whether it is what the camera sees."""
        return self.put is Worker.put_image


def _measures(mode: str) -> Callable[[Parameters], bool]:
    return lambda chosen: bool(chosen.depth_model) and chosen.scale_mode == mode


def _wants_imu(chosen: Parameters) -> bool:
    return _measures('ground')(chosen) and chosen.scale_gravity != 'fixed'


INPUTS = (
    Input('camera_info', CameraInfo, lambda _: True, Worker.put_info),
    Input('image', Image, lambda chosen: chosen.image_transport == 'raw', Worker.put_image),
    Input(
        'image/compressed',
        CompressedImage,
        lambda chosen: chosen.image_transport == 'compressed',
        Worker.put_image,
    ),
    Input('reference_depth', Image, _measures('reference'), Worker.put_reference, measures=True),
    Input('imu', Imu, _wants_imu, Worker.put_imu, measures=True),
)


def image_input(chosen: Parameters) -> Input:
    """Return the row by which images come."""
    (one,) = (one for one in INPUTS if one.is_image and one.wanted(chosen))
    return one
