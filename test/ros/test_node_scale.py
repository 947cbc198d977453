"""Metres of a relative network on a real graph: modes switched live, lost and found again."""

from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray
from dpt_ros.ros import processor
from dpt_ros.training.worlds import HELD_OUT, render
from dpt_ros.zoo.checkpoints import RelativeDepth
from dpt_ros.zoo.store import load
from graph import image_of, info_of
import numpy as np
import pytest
from sensor_msgs.msg import Image

pytestmark = pytest.mark.graph

PICTURE = render(HELD_OUT[0], (48, 64)).rgb  # near and far, as a fit needs
FIXED = {'scale__factor': 1.5, 'scale__offset': 0.02}


def load_relative(name, folder):
    """Load a network whose numbers are taken for inverse depth."""
    trained = load(name, folder)
    return replace(trained, checkpoint=replace(trained.checkpoint, depth=RelativeDepth()))


@pytest.fixture(autouse=True)
def relative(monkeypatch):
    monkeypatch.setattr(processor, 'load', load_relative)


class Robot:
    """A camera, a depth sensor beside it, and what the node makes of both."""

    def __init__(self, graph, **parameters):
        self.graph, self.clock = graph, 100.0
        self.depths, self.told = graph.listen('dpt/depth/image', Image), []
        graph.start_node(depth__edge_angle=0.0, **FIXED | parameters)
        self.images, self.infos = graph.camera()
        self.sensor = graph.client.create_publisher(Image, 'reference_depth', 5)
        self.told = graph.listen('/diagnostics', DiagnosticArray)
        graph.until(lambda: self.images.get_subscription_count(), 'the node listens')

    def see(self, done, measured=None):
        """Take pictures, a tenth of a second apart by their stamps, until `done` holds."""
        pixels, self.depths[:] = PICTURE, []

        def shoot():
            self.clock += 0.1
            messages = [(self.infos, info_of(64, 48)), (self.images, image_of(pixels))]
            if measured is not None:
                messages.insert(0, (self.sensor, image_of(measured, '32FC1')))
            for publisher, message in messages:
                message.header.stamp.sec = int(self.clock)
                message.header.stamp.nanosec = round(self.clock % 1 * 1e9)
                publisher.publish(message)
            return done()

        return self.graph.until(shoot, 'what the camera waits for')

    def sees_nothing(self):
        """Take ten more pictures, and tell whether they gave no metres."""
        until = self.clock + 1.0
        self.see(lambda: self.clock > until)
        return not self.depths

    def depth(self):
        return np.frombuffer(self.depths[-1].data, np.float32).reshape(48, 64)

    def says(self, words):
        """Return the last diagnostic message, if it has these words."""
        said = [status.message for array in self.told for status in array.status]
        return said[-1] if said and words in said[-1] else ''


def test_metres_by_a_reference_stop_with_it_and_come_back_with_it(graph, capfd):
    robot = Robot(graph, scale__mode='fixed', scale__hold_seconds=1.0)
    robot.see(lambda: robot.depths)
    truth = robot.depth().copy()
    sparse = np.full(truth.shape, np.nan, np.float32)
    sparse[::3, ::3] = truth[::3, ::3]

    assert graph.set_parameters(scale__mode='reference')[0].successful
    graph.until(lambda: robot.sensor.get_subscription_count(), 'the sensor is heard')
    robot.see(lambda: robot.says('no metres: no reference_depth has come'))
    assert robot.sees_nothing()
    robot.see(lambda: robot.depths, sparse)
    np.testing.assert_allclose(robot.depth(), truth, rtol=1e-3)

    robot.see(lambda: robot.says('no metres: no reference_depth is within 0.05 s'))
    assert robot.depths  # it was held for a second
    assert robot.sees_nothing()
    robot.see(lambda: robot.depths, sparse)
    np.testing.assert_allclose(robot.depth(), truth, rtol=1e-3)
    said = capfd.readouterr().err
    for words in ('metres begin', 'metres stop: no scale for', 'metres are back after'):
        assert words in said
    keys = {value.key for value in robot.told[-1].status[0].values}
    assert {'scale factor', 'scale inliers', 'scale residual', 'scale age [s]'} <= keys


def test_a_mode_is_switched_live_and_one_that_cannot_be_is_refused_with_the_others(graph):
    robot = Robot(graph, scale__mode='none')
    inverse = graph.listen('dpt/inverse_depth/image', Image)
    robot.see(lambda: inverse)
    assert not robot.depths
    assert graph.set_parameters(scale__mode='fixed')[0].successful
    robot.see(lambda: robot.depths)
    raw = np.frombuffer(inverse[-1].data, np.float32).reshape(48, 64)
    np.testing.assert_allclose(robot.depth(), 1 / (1.5 * raw + 0.02), rtol=1e-5)
    (refused,) = graph.set_parameters(scale__mode='model')
    assert not refused.successful
    assert "'reference'" in refused.reason and "'ground'" in refused.reason


def test_a_sensor_is_heard_only_in_the_mode_that_wants_it(graph):
    robot = Robot(graph, scale__mode='reference')
    graph.until(lambda: robot.sensor.get_subscription_count(), 'the sensor is heard')
    assert graph.set_parameters(scale__mode='fixed')[0].successful
    graph.until(lambda: not robot.sensor.get_subscription_count(), 'the sensor is left alone')
    assert graph.set_parameters(scale__mode='ground')[0].successful
    assert graph.set_parameters(scale__gravity='imu')[0].successful
    imu = graph.client.get_subscriptions_info_by_topic
    graph.until(lambda: imu('/imu'), 'the imu is heard')
