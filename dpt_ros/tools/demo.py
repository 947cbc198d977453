"""
The demo: a camera, the node, and this as a listener, three processes on one real ROS graph.

It counts what comes out, records a bag, and leaves one picture of the liveliest frame.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from time import monotonic
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from dpt_ros.ros.messages import decode_image
from dpt_ros.ros.parameters import Parameters
from dpt_ros.tools.picture import draw, Views
from dpt_ros.tools.sources import open_source
from dpt_ros.zoo.labels import load_labels
from dpt_ros.zoo.store import checkpoint
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

NAMESPACE = '/camera'
IMAGE = f'{NAMESPACE}/image_raw'
TOPICS: dict[str, type] = {
    IMAGE: Image,
    f'{NAMESPACE}/camera_info': CameraInfo,
    f'{NAMESPACE}/dpt/depth/image': Image,
    f'{NAMESPACE}/dpt/depth/camera_info': CameraInfo,
    f'{NAMESPACE}/dpt/depth/color': Image,
    f'{NAMESPACE}/dpt/segmentation/mask': Image,
    f'{NAMESPACE}/dpt/segmentation/overlay': Image,
    f'{NAMESPACE}/dpt/points': PointCloud2,
}
TRUTH: dict[str, type] = {f'{NAMESPACE}/truth/depth': Image, f'{NAMESPACE}/truth/labels': Image}
RECORDED_EVERY = 0.5  # seconds between two frames of the recording, each of 14 MB at 640x480
STARTS_WITHIN = 180.0  # seconds until the first whole frame; PyTorch takes long the first time


class Listener(Node):
    """Hears every topic of the demo as bytes, records them, and keeps the liveliest."""

    def __init__(self, writer: Writer, topics: Mapping[str, type]):
        """Subscribe to topics of these types, and prepare the recording."""
        super().__init__('dpt_demo')
        self.ages: list[float] = []  # seconds from the stamp of an image to its depth
        self.frames_in, self.frames_out, self.dropped = 0, 0, 0  # as the node tells once a second
        self.depth_errors: list[float] = []  # median relative error of each whole frame
        self.accuracies: list[float] = []  # share of pixels with the right label, likewise
        self.whole: dict[str, Any] = {}  # topic -> message, of the liveliest frame
        self._liveliness = 0.0  # of that frame
        self._pending: dict[int, dict[str, tuple[Any, bytes]]] = defaultdict(dict)
        self._writer, self._recorded = writer, -RECORDED_EVERY
        self._connections: dict[str, Any] = {}
        store = get_typestore(Stores.ROS2_HUMBLE)
        for topic, kind in topics.items():
            name = f'sensor_msgs/msg/{kind.__name__}'
            self._connections[topic] = writer.add_connection(topic, name, typestore=store)
            heard = partial(self._hear, topic, kind)
            self.create_subscription(kind, topic, heard, QoSProfile(depth=5), raw=True)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._hear_diagnostics, 1)

    def _hear(self, topic: str, kind: type, data: bytes) -> None:
        now = self.get_clock().now().nanoseconds
        message: Any = deserialize_message(data, kind)
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if topic.endswith('depth/image'):
            self.ages.append((now - stamp) * 1e-9)
        frame = self._pending[stamp]
        frame[topic] = message, data
        if len(frame) == len(self._connections):
            self._see({name: heard for name, (heard, _) in frame.items()})
            if monotonic() - self._recorded >= RECORDED_EVERY:
                self._recorded = monotonic()
                for name, (_, raw) in frame.items():
                    self._writer.write(self._connections[name], now, raw)
            for old in [s for s in self._pending if s <= stamp]:
                del self._pending[old]

    def _see(self, frame: dict[str, Any]) -> None:
        """Hold a whole frame against the truth, if the source told it; keep the liveliest."""
        depth, mask, true_depth, true_mask = _maps(frame)
        if (liveliness := _entropy(mask)) >= self._liveliness:
            self.whole, self._liveliness = frame, liveliness
        if true_depth is not None and true_mask is not None:
            self.depth_errors.append(float(np.nanmedian(np.abs(depth / true_depth - 1))))
            self.accuracies.append(float(np.mean(mask == true_mask)))

    def _hear_diagnostics(self, array: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in array.status[0].values}
        names = ('frames in', 'frames out', 'frames dropped')
        self.frames_in, self.frames_out, self.dropped = (int(values[name]) for name in names)

    def line(self) -> str:
        """Say where things stand."""
        counts = f'in {self.frames_in:4d}  out {self.frames_out:4d}  dropped {self.dropped:4d}'
        if not self.ages:
            return counts
        p50, p95 = np.percentile(self.ages, (50, 95)) * 1e3
        return f'{counts}  latency p50 {p50:.0f} ms, p95 {p95:.0f} ms'


def run_demo(
    source: str,
    *,
    camera: Sequence[float] | None,
    params: Path | None,
    rate: float,
    seconds: float,
    output: Path,
    show: Callable[..., None],
) -> list[Path]:
    """
    Run camera and node for some seconds and write what came of it.

    :param source: see `sources.open_source`; `camera` are its fx, fy, cx, cy.
    :param params: parameter file of the node; None: the defaults.
    :param output: folder for dpt.png and bag/, made if missing; earlier ones are replaced.
    :param show: prints a line; called with end and flush as print has them.
    :return: what was written.
    """
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if not source.startswith('/dev/'):  # a camera is for one process only
        next(open_source(source, camera))  # before anything is started or replaced
    output.mkdir(parents=True, exist_ok=True)
    bag, picture = output / 'bag', output / 'dpt.png'
    shutil.rmtree(bag, ignore_errors=True)
    picture.unlink(missing_ok=True)
    rclpy.init()
    writer = Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        listener = Listener(writer, TOPICS | TRUTH if source == 'world' else TOPICS)
        with _processes(source, camera, params, rate) as running:
            _listen(listener, list(running.values()), seconds, show)
        listener.destroy_node()
    rclpy.try_shutdown()
    if failed := [name for name, process in running.items() if process.returncode]:
        raise RuntimeError(f'the {" and the ".join(failed)} failed; the lines above say why')
    if not listener.whole:
        raise RuntimeError(
            f'no frame came out whole within {STARTS_WITHIN:g} s; the lines above say why, or the '
            'machine is too busy: try again'
        )
    pixels = draw(*_views(listener.whole), *_words(listener, source))
    cv2.imwrite(str(picture), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return [picture, bag]


@contextmanager
def _processes(
    source: str, camera: Sequence[float] | None, params: Path | None, rate: float
) -> Iterator[dict[str, subprocess.Popen]]:
    """Start the camera and the node; end both by their ids."""
    ros = ['--ros-args', '-r', f'__ns:={NAMESPACE}']
    intrinsics = ','.join(map(str, camera or ()))
    eyes = {'source': source, 'rate': rate, 'intrinsics': intrinsics}
    told: list[str] = []
    for name, value in eyes.items():
        told += ['-p', f'{name}:={json.dumps(value)}']
    file = ['--params-file', str(params)] if params else []
    commands = {
        'camera': ['dpt_ros.tools.demo_camera', *ros, *told],
        'node': ['dpt_ros.ros.main', *ros, '-r', 'image:=image_raw', *file],
    }
    running = {
        name: subprocess.Popen([sys.executable, '-m', *command])
        for name, command in commands.items()
    }
    try:
        yield running
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            process.wait(10)


def _listen(
    listener: Listener,
    running: Sequence[subprocess.Popen],
    seconds: float,
    show: Callable[..., None],
) -> None:
    """Spin until `seconds` after the first whole frame, showing a live line."""
    end, shown = monotonic() + STARTS_WITHIN, 0.0
    started = False
    show('waiting for the first frame: the node loads PyTorch, at first for up to a minute')
    while monotonic() < end and all(process.poll() is None for process in running):
        try:
            rclpy.spin_once(listener, timeout_sec=0.1)
        except ExternalShutdownException:  # asked to end early
            break
        if listener.whole and not started:
            started, end = True, monotonic() + seconds
        if listener.frames_out and monotonic() - shown > 0.5:
            shown = monotonic()
            show(f'\r{listener.line()}', end='', flush=True)
    show(f'\r{listener.line()}')


def _views(frame: dict[str, Any]) -> tuple[Views, Any]:
    """Decode one whole frame for the picture."""
    outputs = f'{NAMESPACE}/dpt'
    cloud = frame[f'{outputs}/points']
    depth, mask, true_depth, true_mask = _maps(frame)
    points = np.frombuffer(cloud.data, np.float32).reshape(-1, cloud.point_step // 4)
    points = points[np.isfinite(points[:, 2])]
    colors = np.ascontiguousarray(points[:, 4]).view(np.uint8).reshape(-1, 4)[:, 2::-1]
    views = Views(
        image=decode_image(frame[IMAGE]),
        depth_color=decode_image(frame[f'{outputs}/depth/color']),
        mask=mask,
        overlay=decode_image(frame[f'{outputs}/segmentation/overlay']),
        points=points[:, :3],
        point_colors=colors,
        depth=depth,
        true_depth=true_depth,
        true_mask=true_mask,
    )
    labels = checkpoint(Parameters().segmentation_model).labels
    return views, labels and load_labels(labels)


def _maps(frame: dict[str, Any]) -> list[np.ndarray | None]:
    """Read depth, labels, and the truth of both, all (H, W); None for what is not there."""
    kinds = {'32FC1': np.float32, 'mono8': np.uint8}
    names = (f'{NAMESPACE}/dpt/depth/image', f'{NAMESPACE}/dpt/segmentation/mask', *TRUTH)
    return [
        np.frombuffer(image.data, kinds[image.encoding]).reshape(image.height, image.width)
        if (image := frame.get(name))
        else None
        for name in names
    ]


def _entropy(mask: np.ndarray | None) -> float:
    """Return how evenly a mask is shared by many classes, in nats."""
    shares = np.bincount(np.zeros(1, np.uint8) if mask is None else mask.ravel())
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def _words(listener: Listener, source: str) -> tuple[str, list[str]]:
    """Give the title and the notes of the picture."""
    name = Parameters().depth_model
    image = listener.whole[IMAGE]
    size = f'{image.width}x{image.height}'
    notes = [f'source {source}, {size}; {listener.line()}']
    if listener.depth_errors:
        error, accuracy = np.median(listener.depth_errors), np.mean(listener.accuracies)
        notes.append(
            f'against the truth: depth off by {error:.1%} (median), '
            f'{accuracy:.1%} of the labels right'
        )
    return f'dpt_ros: {name}', notes
