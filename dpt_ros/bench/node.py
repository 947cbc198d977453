"""The node on a real graph: how old is what it publishes, and how much of what came is lost."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
import os
import signal
import struct
import subprocess
import sys
from time import monotonic

from dpt_ros.bench.frames import camera_info, picture
from dpt_ros.ros.messages import encode_image
from dpt_ros.ros.outputs import OUTPUTS
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

STARTS_WITHIN = 60.0  # seconds until the first answer
GIVES_UP = 1.0  # seconds after which an answer is not waited for
SETTLES = 0.5  # seconds at the beginning of each run that do not count
_STAMP = struct.Struct('<iI')  # seconds and nanoseconds, after the 4 bytes that begin a message


@dataclass(frozen=True)
class Latency:
    """One run: images of one size at one rate, some outputs subscribed."""

    size: str
    rate: float  # images a second; 0: the next one as soon as an answer came
    outputs: str  # one topic, or 'all'
    sent: int
    answered: int
    per_second: float  # answers
    p50_ms: float  # from the stamp of an image to the last output made of it
    p95_ms: float
    p99_ms: float


class Probe(Node):
    """A camera and a listener in one, so that one clock stamps both."""

    def __init__(self) -> None:
        """Open the camera."""
        super().__init__('bench')
        self._image = self.create_publisher(Image, 'image', QoSProfile(depth=1))
        self._info = self.create_publisher(CameraInfo, 'camera_info', QoSProfile(depth=1))
        self._pending: dict[int, set[str]] = {}
        self._subscriptions_of_run: list = []
        self._topics: set[str] = set()
        self.sent = 0
        self.ages: list[float] = []  # seconds, of each frame whose outputs all came

    def listen(self, topics: Sequence[str]) -> None:
        """Subscribe to these of the node's topics and to no others."""
        for subscription in self._subscriptions_of_run:
            self.destroy_subscription(subscription)
        kinds = {output.topic: output.message for output in OUTPUTS}
        self._topics = set(topics)
        self._subscriptions_of_run = [
            self.create_subscription(
                kinds[topic], topic.replace('~', 'dpt'), partial(self._hear, topic), 5, raw=True
            )
            for topic in topics
        ]

    def use(self, width: int, height: int) -> None:
        """Send images of this size from now on."""
        self._message = encode_image(Header(frame_id='camera'), picture(width, height), 'rgb8')
        self._calibration = camera_info(width, height)

    def send(self) -> None:
        """Send an image, stamped now."""
        now = self.get_clock().now()
        self._message.header.stamp = self._calibration.header.stamp = now.to_msg()
        self._pending[now.nanoseconds] = set()
        self._info.publish(self._calibration)
        self._image.publish(self._message)
        self.sent += 1

    def begin(self) -> None:
        """Count from here on."""
        self.sent, self.ages = 0, []
        self._pending.clear()

    @property
    def pending(self) -> int:
        """How many of the images sent have no whole answer yet."""
        return len(self._pending)

    def _hear(self, topic: str, data: bytes) -> None:
        seconds, nanoseconds = _STAMP.unpack_from(data, 4)
        stamp = seconds * 10**9 + nanoseconds
        heard = self._pending.get(stamp)
        if heard is None:
            return
        heard.add(topic)
        if heard == self._topics:
            self.ages.append((self.get_clock().now().nanoseconds - stamp) * 1e-9)
            for old in [s for s in self._pending if s <= stamp]:
                del self._pending[old]


def bench_node(
    sizes: Sequence[tuple[int, int]],
    rates: Sequence[float],
    seconds: float,
    show: Callable[[], object],
) -> list[Latency]:
    """
    Run the node with its defaults in a process of its own, and measure.

    :param sizes: (width, height); all outputs at each rate, and each output alone at the first
        size and rate.
    :param rates: images a second; 0: the next as soon as an answer came.
    :param seconds: of each run.
    """
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    every = [o.topic for o in OUTPUTS if 'inverse' not in o.topic]
    runs = [(size, rate, every) for size in sizes for rate in rates]
    runs += [(sizes[0], rates[0], [topic]) for topic in every if not topic.endswith('info')]
    rclpy.init()
    try:
        with _node():
            probe = Probe()
            executor = SingleThreadedExecutor()
            executor.add_node(probe)
            found = []
            for size, rate, topics in runs:
                found.append(_run(probe, executor, size, rate, topics, seconds))
                show()
            probe.destroy_node()
    finally:
        rclpy.try_shutdown()
    return found


def _run(
    probe: Probe,
    executor: SingleThreadedExecutor,
    size: tuple[int, int],
    rate: float,
    topics: Sequence[str],
    seconds: float,
) -> Latency:
    probe.listen(topics)
    probe.use(*size)
    probe.begin()
    _drive(probe, executor, 0, STARTS_WITHIN, until_answered=True)
    _drive(probe, executor, rate, SETTLES)
    probe.begin()
    _drive(probe, executor, rate, seconds)
    sent, end = probe.sent, monotonic() + 1
    while probe.pending and monotonic() < end:  # what is on its way still counts
        executor.spin_once(timeout_sec=0.05)
    ages = np.array(probe.ages) * 1e3
    p50, p95, p99 = np.percentile(ages, (50, 95, 99)) if len(ages) else (np.nan,) * 3
    name = topics[0] if len(topics) == 1 else 'all'
    return Latency(
        f'{size[0]}x{size[1]}', rate, name, sent, len(ages), len(ages) / seconds, p50, p95, p99
    )


def _drive(
    probe: Probe,
    executor: SingleThreadedExecutor,
    rate: float,
    seconds: float,
    *,
    until_answered: bool = False,
) -> None:
    """Send images at a rate, or answer by answer, and serve what comes back."""
    began = monotonic()
    due, answers = began, -1
    while (now := monotonic()) < began + seconds:
        if until_answered and probe.ages:
            return
        if now >= due or (not rate and len(probe.ages) != answers):
            answers = len(probe.ages)
            due = max(due + 1 / rate, now) if rate else now + GIVES_UP
            probe.send()
        executor.spin_once(timeout_sec=max(0.0, min(due - monotonic(), 0.05)))
    if until_answered:
        raise ValueError(f'the node gave no answer within {seconds:.0f} s; its lines say why')


@contextmanager
def _node() -> Iterator[None]:
    """Start the node in a process of its own, and end it by its id."""
    ros = ['--ros-args', '--log-level', 'error', '-p', 'qos.input:=reliable']
    process = subprocess.Popen([sys.executable, '-m', 'dpt_ros.ros.main', *ros])
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
