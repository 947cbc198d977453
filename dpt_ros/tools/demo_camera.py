"""
The executable `dpt_camera`: a camera without a robot. It publishes images as a driver does.

Where the source knows the truth of an image, that goes out too, with the same header.
"""

from array import array
import sys
from typing import Any

from dpt_ros.ros.main import run
from dpt_ros.ros.messages import encode_image
from dpt_ros.tools.sources import open_source, parse_intrinsics, Shot
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

FRAME = 'camera_optical_frame'
PARAMETERS = {  # name: default, description
    'source': ('world', 'Folder of images, video, bag, /dev/videoN, or world: one drawn.'),
    'rate': (15.0, 'Images a second.'),
    'intrinsics': ('', 'FX,FY,CX,CY of the source in pixels; empty: as it tells itself.'),
}
TOPICS: dict[str, type] = {
    'image_raw': Image,
    'camera_info': CameraInfo,
    'truth/depth': Image,  # 32FC1: metres along the optical axis, +Inf for the sky
    'truth/labels': Image,  # mono8: classes of worlds_10
    'truth/camera_info': CameraInfo,  # beside truth/depth, where consumers look for it
}


class DemoCamera(Node):
    """Publishes `TOPICS` at a fixed rate, those of the truth where it is known."""

    def __init__(self) -> None:
        """
        Open the source and start the clock.

        :raises ValueError: for a source that holds no images, or numbers that are no camera's.
        """
        super().__init__('camera')
        for name, (default, text) in PARAMETERS.items():
            self.declare_parameter(name, default, _read_only(text))
        source, rate, intrinsics = (self.get_parameter(name).value for name in PARAMETERS)
        if not (isinstance(rate, int | float) and rate > 0):
            raise ValueError(f"rate is '{rate}': give images a second, such as 15.0")
        given = parse_intrinsics(str(intrinsics)) if intrinsics else None
        self._shots = open_source(str(source), given)
        self._outputs: dict[str, Any] = {
            name: self.create_publisher(kind, name, QoSProfile(depth=1))
            for name, kind in TOPICS.items()
        }
        self.create_timer(1 / rate, self._publish)
        self.get_logger().info(
            f"publishing '{source}' on {self._outputs['image_raw'].topic_name} at {rate:g} Hz"
        )

    def _publish(self) -> None:
        shot = next(self._shots)
        info = _camera_info(shot)
        info.header.stamp = self.get_clock().now().to_msg()
        info.header.frame_id = FRAME
        self._outputs['camera_info'].publish(info)
        self._outputs['image_raw'].publish(encode_image(info.header, shot.pixels, 'rgb8'))
        if shot.depth is not None and shot.labels is not None:
            depth = encode_image(info.header, shot.depth, '32FC1')
            labels = encode_image(info.header, shot.labels, 'mono8')
            self._outputs['truth/depth'].publish(depth)
            self._outputs['truth/labels'].publish(labels)
            self._outputs['truth/camera_info'].publish(info)


def _read_only(text: str) -> ParameterDescriptor:
    """Describe a parameter that may come as any type, such as 15 for 15.0, and then stays."""
    return ParameterDescriptor(description=text, read_only=True, dynamic_typing=True)


def _camera_info(shot: Shot) -> CameraInfo:
    """Describe the camera of an image; one that is not known is not calibrated."""
    height, width = shot.pixels.shape[:2]
    info = CameraInfo(height=height, width=width)
    if shot.camera is not None:
        c = shot.camera
        info.distortion_model = c.distortion or 'plumb_bob'
        info.d = array('d', c.coefficients or [0.0] * 5)
        info.k = [c.fx, 0.0, c.cx, 0.0, c.fy, c.cy, 0.0, 0.0, 1.0]
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [c.fx, 0.0, c.cx, 0.0, 0.0, c.fy, c.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def main() -> None:
    """Run the camera until SIGINT, SIGTERM or a shutdown of ROS; the exit code is then 0."""
    try:
        run(DemoCamera)
    except ValueError as error:
        sys.exit(f'camera: {error}')


if __name__ == '__main__':
    main()
