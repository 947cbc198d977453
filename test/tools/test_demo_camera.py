"""The camera of the demo, heard on a real graph."""

import os
import signal
import subprocess
import sys

from dpt_ros.tools.demo_camera import DemoCamera, FRAME, TOPICS
from graph import Graph
import numpy as np
import pytest
import rclpy

pytestmark = pytest.mark.graph


@pytest.fixture(scope='module')
def heard(new_domain):
    """Start the executable and return the messages of four whole frames, by topic."""
    domain = new_domain()
    graph = Graph(domain)
    command = [sys.executable, '-m', 'dpt_ros.tools.demo_camera', '--ros-args', '-p', 'rate:=15']
    command += ['-r', '__ns:=/camera']
    process = subprocess.Popen(command, env=os.environ | {'ROS_DOMAIN_ID': str(domain)})
    try:
        inboxes = {name: graph.listen(f'/camera/{name}', kind) for name, kind in TOPICS.items()}

        def whole():
            by_stamp = [{stamp(m): m for m in messages} for messages in inboxes.values()]
            common = sorted(set.intersection(*map(set, by_stamp)))
            return len(common) >= 4 and [[frame[s] for s in common] for frame in by_stamp]

        yield dict(zip(inboxes, graph.until(whole, 'four whole frames'), strict=True))
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(10)
        graph.close()
    assert code == 0


def stamp(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_all_of_an_image_is_in_the_optical_frame_and_of_one_size(heard):
    messages = [m for of_topic in heard.values() for m in of_topic]
    assert {m.header.frame_id for m in messages} == {FRAME}
    assert {(m.width, m.height) for m in messages} == {(320, 240)}


def test_the_camera_is_calibrated_and_the_truth_has_the_same(heard):
    for info, its in zip(heard['camera_info'], heard['truth/camera_info'], strict=True):
        assert info.k[0] > 0
        assert info == its


def test_the_truth_is_metres_and_classes(heard):
    for depth, labels in zip(heard['truth/depth'], heard['truth/labels'], strict=True):
        assert (depth.encoding, labels.encoding) == ('32FC1', 'mono8')
        metres = np.frombuffer(depth.data, np.float32)
        classes = np.frombuffer(labels.data, np.uint8)
        assert metres.min() > 0.2
        assert np.median(metres) < 10
        assert classes.max() < 10


def test_images_follow_each_other_in_time(heard):
    stamps = [stamp(m) for m in heard['image_raw']]
    assert np.diff(stamps).min() >= 0.02e9


@pytest.mark.parametrize(
    ('parameter', 'answer'),
    [
        ('source:=nowhere', "there is no source 'nowhere'"),
        ('rate:=0', "rate is '0': give images a second"),
        ('rate:=fast', "rate is 'fast': give images a second"),
        ('intrinsics:=1,2', "'1,2' is not four numbers FX,FY,CX,CY"),
    ],
)
def test_parameters_that_make_no_camera_are_refused(parameter: str, answer: str, new_domain):
    rclpy.init(args=['--ros-args', '-p', parameter], domain_id=new_domain())
    try:
        with pytest.raises(ValueError, match=answer):
            DemoCamera()
    finally:
        rclpy.shutdown()
