"""What breaks while the node runs costs a frame, is told, and is over when its cause is gone."""

import hashlib
import os
import shutil
from threading import Event
from types import SimpleNamespace

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from dpt_ros.model.dpt import DPT
from dpt_ros.ros.silence import why_silent
from dpt_ros.zoo.store import EMBEDDED
from graph import BEST_EFFORT, image_of, info_of, picture, RELIABLE
from lifecycle_msgs.msg import State, Transition
import numpy as np
import pytest
import rclpy
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
import torch

pytestmark = pytest.mark.graph

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
SIZE = (64, 48)


class Patient:
    """A node at work on a graph, the client that shows it images, and its diagnostics."""

    def __init__(self, graph, **parameters):
        self.graph, self.node = graph, graph.start_node(**parameters)
        self.depths = graph.listen('dpt/depth/image', Image)
        self.told = graph.listen('/diagnostics', DiagnosticArray)
        self.camera, self.image = graph.camera(), image_of(picture())

    def shoot(self, done):
        return self.graph.shoot(self.camera, self.image, info_of(*SIZE), done)

    def works(self):
        """Show images until a new map of depth comes."""
        self.depths.clear()
        self.shoot(lambda: self.depths)

    def states(self):
        """Return what was told so far: (level, message)."""
        return [(a.status[0].level, a.status[0].message) for a in self.told]

    def value(self, key):
        newest = self.told[-1].status[0].values if self.told else []
        return {v.key: v.value for v in newest}.get(key, '')


def spoil(monkeypatch, error=None, change=None):
    """Make the network raise, or change what it gives; return how to mend it."""
    forward, broken = DPT.forward, Event()
    broken.set()

    def spoiled(network, image, wanted=None):
        if broken.is_set() and error is not None:
            raise error
        raw = forward(network, image, wanted)
        return change(raw) if broken.is_set() else raw

    monkeypatch.setattr(DPT, 'forward', spoiled)
    return broken.clear


FAILURES = {
    'memory': (torch.OutOfMemoryError('CUDA out of memory'), None),
    'internal': (KeyError('a fault of ours'), None),
    'network': (None, lambda raw: {task: values * torch.nan for task, values in raw.items()}),
    'image': (ValueError('an image that cannot be'), None),
}


@pytest.mark.parametrize('kind', FAILURES)
def test_a_frame_that_fails_is_told_and_the_next_one_flows(graph, monkeypatch, kind):
    patient = Patient(graph)
    patient.works()
    mend = spoil(monkeypatch, *FAILURES[kind])
    level = DiagnosticStatus.WARN if kind == 'image' else DiagnosticStatus.ERROR
    patient.shoot(lambda: [m for n, m in patient.states() if n == level and kind in m])
    assert int(patient.value(f'faults: {kind}')) >= 1
    mend()
    patient.works()
    patient.shoot(lambda: patient.states()[-1][0] == DiagnosticStatus.OK)


def test_infinite_depth_is_unknown_and_not_far(graph, monkeypatch):
    def overflow(raw):
        raw['depth'][..., :4] = torch.inf  # as half precision gives
        return raw

    patient = Patient(graph)
    spoil(monkeypatch, change=overflow)
    patient.works()
    depth = np.frombuffer(patient.depths[-1].data, np.float32).reshape(SIZE[::-1])
    assert np.isnan(depth[:, 0]).all()
    assert np.isfinite(depth[:, -8:]).any()


def test_a_warning_and_then_an_error_leave_the_worker_alive(graph, monkeypatch, capfd):
    # rclpy refuses to log an error from a line that has logged a warning.
    patient = Patient(graph)
    patient.works()
    for kind in ('image', 'internal'):
        mend = spoil(monkeypatch, *FAILURES[kind])
        patient.shoot(lambda kind=kind: any(kind in m for _, m in patient.states()))
        mend()
        patient.works()
    said = capfd.readouterr().err
    assert '[WARN]' in said and 'a frame is lost: an image that cannot be' in said
    assert said.count('Traceback') == 1


def test_the_traceback_of_a_fault_is_told_once(graph, monkeypatch, capfd):
    monkeypatch.setattr('dpt_ros.ros.worker.THROTTLE', 0.0)
    patient = Patient(graph)
    patient.works()
    spoil(monkeypatch, *FAILURES['internal'])
    patient.shoot(lambda: int(patient.value('faults: internal') or 0) >= 3)
    said = capfd.readouterr().err
    assert said.count('Traceback') == 1
    assert said.count('a fault of ours') >= 3


@pytest.fixture
def device(monkeypatch):
    """Let the device hang until `mend` is called, at the latest when the test ends."""
    forward, hangs, go = DPT.forward, Event(), Event()

    def waits(network, image, wanted=None):
        hangs.set()
        go.wait()
        return forward(network, image, wanted)

    def hang():
        monkeypatch.setattr(DPT, 'forward', waits)

    yield SimpleNamespace(hang=hang, hangs=hangs.is_set, mend=go.set)
    go.set()


def test_a_worker_that_hangs_is_an_error_that_names_the_place(graph, device, capfd):
    patient = Patient(graph, limits__frame_seconds=0.1)
    patient.works()
    device.hang()
    patient.shoot(lambda: any(m.startswith('stalled') for _, m in patient.states()))
    level, message = next(s for s in patient.states() if s[1].startswith('stalled'))
    assert level == DiagnosticStatus.ERROR
    assert 'runtime.py' in message
    assert 'limits.frame_seconds' in capfd.readouterr().err
    device.mend()
    patient.works()
    patient.shoot(lambda: patient.states()[-1][0] == DiagnosticStatus.OK)


def test_how_long_a_frame_may_take_is_changed_while_one_hangs(graph, device):
    patient = Patient(graph)
    patient.works()
    device.hang()
    patient.shoot(device.hangs)
    for seconds, stalls in ((0.1, True), (600.0, False)):
        assert graph.set_parameters(limits__frame_seconds=seconds)[0].successful
        patient.told.clear()
        graph.until(
            lambda s=stalls: any(m.startswith('stalled') == s for _, m in patient.states()),
            f'the verdict by {seconds} s',
        )


def test_a_worker_that_hangs_does_not_keep_the_node_from_being_deactivated(graph, device, capfd):
    patient = Patient(graph, limits__frame_seconds=0.1)
    patient.works()
    device.hang()
    patient.shoot(device.hangs)
    worker = patient.node._worker
    assert not graph.change(DEACTIVATE)
    assert graph.state() == State.PRIMARY_STATE_UNCONFIGURED
    said = capfd.readouterr().err
    assert 'the networks are given up with it' in said and 'runtime.py' in said
    assert 'Traceback' not in said
    assert not graph.change(CONFIGURE)
    assert 'still: end the process and start the node anew' in capfd.readouterr().err
    patient.depths.clear()  # what it was at must not come out any more
    device.mend()
    graph.until(lambda: not worker.is_alive, 'the end of what hung')
    assert graph.change(CONFIGURE) and graph.change(ACTIVATE)
    assert not patient.depths
    patient.works()


def test_a_worker_that_hangs_does_not_keep_the_node_from_being_shut_down(graph, device, capfd):
    patient = Patient(graph, limits__frame_seconds=0.1)
    patient.works()
    device.hang()
    patient.shoot(device.hangs)
    assert graph.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert graph.state() == State.PRIMARY_STATE_FINALIZED
    assert 'the networks are given up with it' in capfd.readouterr().err


def test_a_subscriber_that_never_reads_holds_nobody_up(graph):
    patient = Patient(graph)
    sleeper = rclpy.create_node('sleeper', context=graph.client.context)
    sleeper.create_subscription(Image, 'dpt/depth/image', print, RELIABLE)
    try:
        for _ in range(12):
            patient.works()
    finally:
        sleeper.destroy_node()


@pytest.mark.parametrize('damage', ['deleted', 'replaced'])
def test_weights_that_go_away_are_missed_at_the_next_configure_only(
    graph, tmp_path, capfd, damage
):
    file = shutil.copy(EMBEDDED / 'dpt_tiny.safetensors', tmp_path / 'mine.safetensors')
    patient = Patient(graph, weights_dir=str(file))
    patient.works()
    if damage == 'replaced':
        (tmp_path / 'other').write_bytes(b'no weights')
        os.replace(tmp_path / 'other', file)
    else:
        os.unlink(file)
    patient.works()
    assert graph.change(DEACTIVATE) and graph.change(CLEANUP)
    assert not graph.change(CONFIGURE)
    assert 'cannot configure' in capfd.readouterr().err
    shutil.copy(EMBEDDED / 'dpt_tiny.safetensors', file)
    assert graph.change(CONFIGURE) and graph.change(ACTIVATE)
    patient.works()


def test_stamps_that_jump_back_are_kept_as_they_are(graph):
    # As a bag that loops, or a simulation that starts anew.
    patient = Patient(graph)
    patient.works()
    for seconds in (500, 3, 500, 0):
        stamp = Time(sec=seconds, nanosec=7)
        patient.image.header.stamp = stamp
        patient.depths.clear()

        def again(stamp=stamp):
            patient.camera[0].publish(patient.image)
            return [d for d in patient.depths if d.header.stamp == stamp]

        graph.until(again, f'depth of {seconds} s')


def test_with_the_time_of_a_simulation_diagnostics_come_though_it_stands_still(graph):
    patient = Patient(graph, use_sim_time=True)
    clock = graph.client.create_publisher(Clock, '/clock', 1)
    patient.works()
    for seconds in (50, 10):  # forward, and back
        patient.told.clear()
        clock.publish(Clock(clock=Time(sec=seconds)))
        graph.until(lambda: len(patient.told) >= 2, 'two diagnostics')
        patient.works()


def test_size_and_frame_may_change_from_image_to_image(graph):
    patient = Patient(graph)
    for size, frame in (((64, 48), 'left'), ((96, 64), 'right'), ((32, 32), 'left')):
        image = image_of(picture(size[1], size[0]))
        image.header.frame_id = frame
        patient.depths.clear()

        def shown(image=image):
            patient.camera[0].publish(image)
            return [
                d for d in patient.depths if (d.width, d.height) == (image.width, image.height)
            ]

        (depth, *_) = graph.until(shown, f'depth of {size}')
        assert depth.header.frame_id == frame


SILENCES = {
    'nobody': ({}, 'nobody publishes /image, nor any other sensor_msgs/msg/Image'),
    'elsewhere': ({'topic': '/front/image_raw'}, 'remap, as with -r /image:=/front/image_raw'),
    'best effort': ({'topic': 'image', 'qos': BEST_EFFORT}, 'set qos.input: sensor_data'),
    'asleep': ({'topic': 'image'}, 'client is there to publish /image and sends nothing'),
}


@pytest.mark.parametrize('case', SILENCES)
def test_silence_is_told_with_what_the_graph_knows(graph, monkeypatch, capfd, case):
    monkeypatch.setattr('dpt_ros.ros.node.SILENCE', 2)
    publisher, words = SILENCES[case]
    if publisher:
        qos = publisher.get('qos', QoSProfile(depth=1))
        camera = graph.client.create_publisher(Image, publisher['topic'], qos)
    node = graph.start_node(qos__input='reliable')
    if publisher:
        topic = camera.topic_name
        graph.until(lambda: node.get_publishers_info_by_topic(topic), 'the publisher')
    said = []

    def told():
        said.append(capfd.readouterr().err)
        return 'no image for' in ''.join(said)

    graph.until(told, 'the warning')
    assert words in ''.join(said)


def test_a_topic_of_another_type_is_told():
    # One process cannot have both on one topic, so a stand-in tells of the other one.
    publisher = SimpleNamespace(topic_type='sensor_msgs/msg/CompressedImage', node_name='camera')
    node = SimpleNamespace(get_publishers_info_by_topic=lambda _: [publisher])
    said = why_silent(node, '/image', Image, QoSProfile(depth=1))
    assert 'sensor_msgs/msg/CompressedImage and sensor_msgs/msg/Image is wanted' in said


def test_a_camera_that_comes_back_is_heard_and_the_warning_ends(graph):
    patient = Patient(graph)
    patient.works()
    graph.until(lambda: any('no image for 2 s' in m for _, m in patient.states()), 'the silence')
    assert patient.states()[-1][0] == DiagnosticStatus.WARN
    patient.works()
    patient.shoot(lambda: patient.states()[-1][0] == DiagnosticStatus.OK)


def test_diagnostics_tell_the_networks_and_their_weights(graph):
    patient = Patient(graph)
    graph.until(lambda: patient.told, 'diagnostics')
    name, digits = patient.value('depth network').split(', sha256 ')
    whole = hashlib.sha256((EMBEDDED / 'dpt_tiny.safetensors').read_bytes()).hexdigest()
    assert name == 'dpt_tiny' and len(digits) == 16 and whole.startswith(digits)
    assert patient.value('runtime') == 'eager'
