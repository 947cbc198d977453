"""The node on a real graph: how old is what it publishes, and how much of what came is lost."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from functools import partial
from math import ceil
import os
import signal
import struct
import subprocess
import sys
from time import monotonic
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
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
GRAPHS = ((1, 1), (2, 1), (2, 2), (4, 1), (4, 4))  # cameras, and nodes for them
SETTLES = 0.5  # seconds at the beginning of each run that do not count
STAGE = ' [ms] p50, p95, max'  # behind the name of a stage in the node's diagnostics
Stages = dict[str, tuple[float, ...]]
_STAMP = struct.Struct('<iI')  # seconds and nanoseconds, after the 4 bytes that begin a message


@dataclass(frozen=True)
class Latency:
    """One run: images of one size at one rate, some outputs subscribed."""

    size: str
    rate: float  # images a second of each camera; 0: the next one as soon as an answer came
    outputs: str  # one topic, or 'all'
    cameras: int
    nodes: int  # 1: all cameras through one; else a node for each
    sent: int
    answered: int
    per_second: float  # answers
    p50_ms: float  # from the stamp of an image to the last output made of it
    p95_ms: float
    p99_ms: float

    @property
    def name(self) -> str:
        """What is run, in a few words."""
        many = f', {self.cameras} cameras, nodes: {self.nodes}' if self.cameras > 1 else ''
        return f'{self.size} {self.outputs}{many}'


class Probe:
    """A camera and a listener in one, so that one clock stamps both."""

    def __init__(self, node: Node, camera: str, outputs: str):
        """
        Open the camera.

        :param camera: what its topics begin with, such as 'front/'; `outputs`: those of its
            outputs, such as 'dpt/front/'.
        """
        self._node, self._outputs = node, outputs
        self._image = node.create_publisher(Image, f'{camera}image', QoSProfile(depth=1))
        self._info = node.create_publisher(CameraInfo, f'{camera}camera_info', QoSProfile(depth=1))
        self._pending: dict[int, set[str]] = {}
        self._subscriptions: list = []
        self._topics: set[str] = set()
        self._due = 0.0  # when the next image goes out, as `monotonic` has it
        self._answers = -1  # when the last one went out
        self.sent = 0
        self.ages: list[float] = []  # seconds, of each frame whose outputs all came

    def listen(self, topics: Sequence[str]) -> None:
        """Subscribe to these of the node's topics and to no others."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        kinds = {output.topic: output.message for output in OUTPUTS}
        self._topics = set(topics)
        self._subscriptions = [
            self._node.create_subscription(
                kinds[topic],
                topic.replace('~/', self._outputs),
                partial(self._hear, topic),
                5,
                raw=True,
            )
            for topic in topics
        ]

    def use(self, width: int, height: int) -> None:
        """Send images of this size from now on."""
        self._message = encode_image(Header(frame_id='camera'), picture(width, height), 'rgb8')
        self._calibration = camera_info(width, height)

    def begin(self, due: float) -> None:
        """Count from here on, and send the first image at `due`."""
        self.sent, self.ages = 0, []
        self._due, self._answers = due, -1
        self._pending.clear()

    def drive(self, rate: float) -> float:
        """Send an image if its time has come; return when the next one is due."""
        now = monotonic()
        if now >= self._due or (not rate and len(self.ages) != self._answers):
            self._answers = len(self.ages)
            if rate:  # a camera that is late leaves images out, and sends no two at once
                self._due += max(1.0, ceil((now - self._due) * rate)) / rate
            else:
                self._due = now + GIVES_UP
            self._send()
        return self._due

    @property
    def pending(self) -> int:
        """How many of the images sent have no whole answer yet."""
        return len(self._pending)

    def _send(self) -> None:
        """Send an image, stamped now."""
        now = self._node.get_clock().now()
        self._message.header.stamp = self._calibration.header.stamp = now.to_msg()
        self._pending[now.nanoseconds] = set()
        self._info.publish(self._calibration)
        self._image.publish(self._message)
        self.sent += 1

    def _hear(self, topic: str, data: bytes) -> None:
        seconds, nanoseconds = _STAMP.unpack_from(data, 4)
        stamp = seconds * 10**9 + nanoseconds
        heard = self._pending.get(stamp)
        if heard is None:
            return
        heard.add(topic)
        if heard == self._topics:
            self.ages.append((self._node.get_clock().now().nanoseconds - stamp) * 1e-9)
            for old in [s for s in self._pending if s <= stamp]:
                del self._pending[old]


class Graph(NamedTuple):
    """What is beside the nodes that are measured."""

    executor: SingleThreadedExecutor
    node: Node
    probes: Sequence[Probe]


def bench_node(
    sizes: Sequence[tuple[int, int]],
    rates: Sequence[float],
    seconds: float,
    show: Callable[[], object],
    graphs: Sequence[tuple[int, int]] = GRAPHS,
) -> tuple[list[Latency], dict[str, Stages]]:
    """
    Run the node with its defaults in a process of its own, and measure.

    :param sizes: (width, height); all outputs at each rate, and each output alone at the first
        size and rate.
    :param rates: images a second; 0: the next as soon as an answer came.
    :param seconds: of each run.
    :param graphs: cameras, and nodes for them; with several cameras all outputs at the first size
        and at the first and last rate.
    :return: the runs; and by WIDTHxHEIGHT what one node with one camera told of its stages,
        `publish` among them: median, p95 and largest in milliseconds, of its last 300 frames.
    """
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    every = [o.topic for o in OUTPUTS if 'inverse' not in o.topic]
    found, stages = [], {}

    def run(graph: Graph, nodes: int, size: tuple[int, int], rate: float, of: list[str]) -> None:
        found.append(_run(graph, nodes, size, rate, of, seconds))
        show()

    for cameras, nodes in graphs:
        if cameras > 1:
            with _graph(cameras, nodes) as graph:
                for rate in dict.fromkeys((rates[0], rates[-1])):
                    run(graph, nodes, sizes[0], rate, every)
            continue
        for size in sizes:  # each in a node of its own, whose percentiles are of that size
            with _graph(cameras, nodes) as graph:
                for rate in rates:
                    run(graph, nodes, size, rate, every)
                stages[f'{size[0]}x{size[1]}'] = _stages(graph)
                alone = [topic for topic in every if not topic.endswith('info')]
                for topic in alone if size == sizes[0] else ():
                    run(graph, nodes, size, rates[0], [topic])
    return found, stages


def _stages(graph: Graph) -> Stages:
    """Return the times that the node next tells of in its diagnostics."""
    told: list[DiagnosticArray] = []
    node = graph.node
    subscription = node.create_subscription(DiagnosticArray, '/diagnostics', told.append, 5)
    end = monotonic() + STARTS_WITHIN
    while not told:
        if monotonic() > end:
            raise ValueError('the node tells nothing on /diagnostics')
        graph.executor.spin_once(timeout_sec=0.1)
    node.destroy_subscription(subscription)
    values = {value.key: value.value for value in told[-1].status[0].values}
    return {
        key.removesuffix(STAGE): tuple(map(float, value.split(', ')))
        for key, value in values.items()
        if key.endswith(STAGE)
    }


def _run(
    graph: Graph,
    nodes: int,
    size: tuple[int, int],
    rate: float,
    topics: Sequence[str],
    seconds: float,
) -> Latency:
    executor, probes = graph.executor, graph.probes
    for probe in probes:
        probe.listen(topics)
        probe.use(*size)
    _drive(executor, probes, 0, STARTS_WITHIN, until_answered=True)
    _drive(executor, probes, rate, SETTLES)
    _drive(executor, probes, rate, seconds)
    end = monotonic() + 1
    while any(probe.pending for probe in probes) and monotonic() < end:
        executor.spin_once(timeout_sec=0.05)  # what is on its way still counts
    ages = np.concatenate([probe.ages for probe in probes]) * 1e3
    p50, p95, p99 = np.percentile(ages, (50, 95, 99)) if len(ages) else (np.nan,) * 3
    return Latency(
        f'{size[0]}x{size[1]}',
        rate,
        topics[0] if len(topics) == 1 else 'all',
        len(probes),
        nodes,
        sum(probe.sent for probe in probes),
        len(ages),
        len(ages) / seconds,
        p50,
        p95,
        p99,
    )


def _drive(
    executor: SingleThreadedExecutor,
    probes: Sequence[Probe],
    rate: float,
    seconds: float,
    *,
    until_answered: bool = False,
) -> None:
    """Count from now on, send images of every camera, and serve what comes back."""
    began = monotonic()
    for index, probe in enumerate(probes):  # one after the other, as cameras are
        probe.begin(began + (index / len(probes) / rate if rate else 0))
    while monotonic() < began + seconds:
        if until_answered and all(probe.ages for probe in probes):
            return
        due = min(probe.drive(rate) for probe in probes)
        executor.spin_once(timeout_sec=max(0.0, min(due - monotonic(), 0.05)))
    if until_answered:
        raise ValueError(f'no answer of every camera within {seconds:.0f} s; the node says why')


@contextmanager
def _graph(cameras: int, nodes: int) -> Iterator[Graph]:
    """Start one node for all cameras or one for each, in processes, and the cameras."""
    names = [f'camera{index}' for index in range(cameras)]
    if cameras == 1:
        places, arguments = [('', 'dpt/')], [list[str]()]
    elif nodes == 1:
        places = [(f'{name}/', f'dpt/{name}/') for name in names]
        arguments = [['-p', f'cameras:=[{", ".join(names)}]']]
    else:
        places = [(f'{name}/', f'{name}/dpt/') for name in names]
        arguments = [['-r', f'__ns:=/{name}'] for name in names]
    rclpy.init()
    try:
        with ExitStack() as ends:
            for one in arguments:
                ends.enter_context(_node(one))
            node, executor = Node('bench'), SingleThreadedExecutor()
            executor.add_node(node)
            yield Graph(executor, node, [Probe(node, *place) for place in places])
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


@contextmanager
def _node(arguments: Sequence[str]) -> Iterator[None]:
    """Start the node in a process of its own, and end it by its id."""
    ros = ['--ros-args', '--log-level', 'error', '-p', 'qos.input:=reliable', *arguments]
    process = subprocess.Popen([sys.executable, '-m', 'dpt_ros.ros.main', *ros])
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
