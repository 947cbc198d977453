"""A camera of the demo: publishes the images of a source as a driver would."""

from array import array
from collections.abc import Sequence
import sys

from dpt_ros.ros.main import run
from dpt_ros.ros.messages import encode_image
from dpt_ros.tools.sources import open_source, Shot
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image

FRAME = 'camera_optical_frame'


class DemoCamera(Node):
    """Publishes image_raw and camera_info at a fixed rate, and the truth where it is known."""

    def __init__(self, source: str, intrinsics: Sequence[float] | None, rate: float):
        """Open the source and start the clock."""
        super().__init__('camera')
        self._shots = open_source(source, intrinsics)
        self._image = self.create_publisher(Image, 'image_raw', QoSProfile(depth=1))
        self._info = self.create_publisher(CameraInfo, 'camera_info', QoSProfile(depth=1))
        self._true_depth = self.create_publisher(Image, 'truth/depth', QoSProfile(depth=1))
        self._true_labels = self.create_publisher(Image, 'truth/labels', QoSProfile(depth=1))
        self.create_timer(1 / rate, self._publish)

    def _publish(self) -> None:
        shot = next(self._shots)
        info = _camera_info(shot)
        info.header.stamp = self.get_clock().now().to_msg()
        info.header.frame_id = FRAME
        self._info.publish(info)
        self._image.publish(encode_image(info.header, shot.pixels, 'rgb8'))
        if shot.depth is not None and shot.labels is not None:
            self._true_depth.publish(encode_image(info.header, shot.depth, '32FC1'))
            self._true_labels.publish(encode_image(info.header, shot.labels, 'mono8'))


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
    """Publish SOURCE at RATE, with FX,FY,CX,CY if a third argument gives them."""
    source, rate, *rest = remove_ros_args(sys.argv)[1:]
    intrinsics = list(map(float, rest[0].split(','))) if rest else None
    try:
        run(lambda: DemoCamera(source, intrinsics, float(rate)))
    except ValueError as error:
        sys.exit(f'camera: {error}')


if __name__ == '__main__':
    main()
