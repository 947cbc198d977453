"""What the node publishes with the parameter file of a consumer: real networks, real messages."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.ros.messages import decode_camera, decode_info
from dpt_ros.ros.outputs import Origin, OUTPUTS
from dpt_ros.ros.parameters import options, Parameters, read
from dpt_ros.training.worlds import HELD_OUT, render, View
from dpt_ros.zoo.store import load
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
import torch
import yaml

CONFIG = Path(__file__).parents[2] / 'config'
CONSUMERS = ('nav2', 'rtabmap', 'octomap', 'nvblox', 'laserscan')
HEADER = Header(frame_id='camera_optical_frame')
HEADER.stamp.sec, HEADER.stamp.nanosec = 1700000000, 123456789
SIZE = (240, 320)
YARD = HELD_OUT[26]  # a world with a sky and people


def flatten(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return dotted names and values of nested groups of parameters."""
    flat = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        flat |= flatten(value, f'{prefix}{name}.') if nested else {f'{prefix}{name}': value}
    return flat


def parameters_of(file: str) -> dict[str, Any]:
    """Return the parameters of a file below config/, by dotted name."""
    return flatten(yaml.safe_load((CONFIG / file).read_text())['/**']['ros__parameters'])


@cache
def _world() -> View:
    return render(YARD, SIZE)


@cache
def _perception() -> Perception:
    tiny = load('dpt_tiny')
    return Perception(tiny, tiny, device=torch.device('cpu'), dtype=torch.float32)


def info_of(view: View) -> CameraInfo:
    """Describe the camera of a view."""
    c, (height, width) = view.camera, view.depth.shape
    return CameraInfo(
        header=HEADER,
        height=height,
        width=width,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[c.fx, 0.0, c.cx, 0.0, c.fy, c.cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[c.fx, 0.0, c.cx, 0.0, 0.0, c.fy, c.cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


@cache
def publish(consumer: str, **changes: Any) -> dict[str, Any]:
    """
    Publish a yard with a sky by the parameters of a consumer; '': by the defaults.

    :param changes: other parameters, such as depth__encoding for depth.encoding.
    :return: the messages by topic, without `~/`.
    """
    given = parameters_of(f'{consumer}/dpt.yaml') if consumer else {}
    given |= {name.replace('__', '.'): value for name, value in changes.items()}
    chosen, view = read(given), _world()
    info, perception = info_of(view), _perception()
    outputs = [o for o in OUTPUTS if o.needs <= perception.products]
    calibration = decode_info(info)
    camera = decode_camera(calibration, *SIZE[::-1], 'K')
    frame = Frame('', Origin(HEADER, calibration), view.rgb, camera)
    wanted = frozenset[str]().union(*(o.reads for o in outputs))
    (result,) = perception([frame], wanted, options(chosen))
    return {o.topic.removeprefix('~/'): o.build(result, chosen, None) for o in outputs}


@pytest.fixture(scope='session')
def published() -> Callable[..., dict[str, Any]]:
    """Give `publish`."""
    return publish


@pytest.fixture(scope='session')
def chosen() -> Callable[[str], Parameters]:
    """Give the parameters of dpt_node for a consumer."""
    return lambda consumer: read(parameters_of(f'{consumer}/dpt.yaml'))


@pytest.fixture(scope='session')
def settings() -> Callable[[str], dict[str, Any]]:
    """Give `parameters_of`."""
    return parameters_of


@pytest.fixture(scope='session')
def pixels() -> Callable[[Image], np.ndarray]:
    """Give a reader of images that trusts step and encoding alone, as consumers do."""
    kinds = {'32FC1': 'f4', '16UC1': 'u2', 'mono8': 'u1', 'rgb8': 'u1'}

    def read_pixels(image: Image) -> np.ndarray:
        rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
        values = rows.view(('>' if image.is_bigendian else '<') + kinds[image.encoding])
        return values.reshape(image.height, image.width, -1).squeeze()

    return read_pixels


@pytest.fixture(scope='session')
def xyz() -> Callable[[PointCloud2], np.ndarray]:
    """Give a reader of x, y, z that goes by the fields of a cloud, as PointCloud2Iterator does."""

    def read_xyz(cloud: PointCloud2) -> np.ndarray:
        rows = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
        offsets = {field.name: field.offset for field in cloud.fields}
        columns = [
            np.ndarray(len(rows), '<f4', rows, offsets[name], (cloud.point_step,))
            for name in 'xyz'
        ]
        return np.stack(columns, axis=-1)

    return read_xyz


@pytest.fixture(scope='session')
def in_body() -> Callable[[np.ndarray], np.ndarray]:
    """Give the way from the optical frame to a level body frame (REP 103), camera 0.5 m up."""
    return lambda points: np.stack(
        [points[..., 2], -points[..., 0], 0.5 - points[..., 1]], axis=-1
    )
