"""
Many cameras through one node, and a camera faster than the network, on a real graph.

The network waits for the test, so that what comes meanwhile is known to the image: time here is
counted in images of the fast camera, and no clock is asked.
"""

from threading import Event, Semaphore

from diagnostic_msgs.msg import DiagnosticArray
from dpt_ros.model.dpt import DPT
from graph import FRAME, image_of, info_of, PATIENCE, picture, RELIABLE
import numpy as np
import pytest
from rclpy.duration import Duration
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

pytestmark = pytest.mark.graph

SIZE = (64, 48)


class Network:
    """The network, each pass of which begins and waits."""

    def __init__(self, monkeypatch):
        self.batches = []  # images in each pass that has begun
        self._may = Semaphore(0)
        forward = DPT.forward

        def waiting(network, image, wanted=None):
            self.batches.append(len(image))
            if not self._may.acquire(timeout=PATIENCE):
                raise TimeoutError('the test has forgotten the network')
            return forward(network, image, wanted)

        monkeypatch.setattr(DPT, 'forward', waiting)

    def finish(self, passes=1):
        """Let so many passes come to their end."""
        self._may.release(passes)


class Camera:
    """A camera whose every image is known to have come; its stamps count them."""

    def __init__(self, graph, node, name='', size=SIZE, topic='image'):
        prefix = name and f'{name}/'
        self._graph, self._node, self._name = graph, node, name
        self._images = graph.client.create_publisher(Image, prefix + topic, RELIABLE)
        self._infos = graph.client.create_publisher(CameraInfo, f'{prefix}camera_info', RELIABLE)
        self._image, self._info = image_of(picture(*size[::-1])), info_of(*size)
        self.sent = 0
        for publisher in (self._images, self._infos):
            graph.until(lambda p=publisher: p.get_subscription_count(), 'the subscription')

    def send(self, count=1):
        """Send so many images, each when the last one has come."""
        for _ in range(count):
            self.sent += 1
            for message in (self._info, self._image):
                message.header.stamp.sec, message.header.frame_id = self.sent, self._name or FRAME
            self._infos.publish(self._info)
            self._graph.until(self._info_came, 'its camera_info')
            self._images.publish(self._image)
            self._graph.until(lambda: self.counts['frames in'] == self.sent, 'its image')

    @property
    def counts(self):
        return self._node._worker.counts[self._name]

    def _info_came(self):
        info = self._node._worker._infos.get(self._name)
        return info is not None and info.header.stamp.sec == self.sent


def start(graph, *names, **parameters):
    given = {'cameras': list(names)} if names else {}
    return graph.start_node(qos__input='reliable', **given, **parameters)


def listen(graph, topic, kind=Image):
    """Subscribe, and wait until the node knows."""
    heard = graph.listen(topic, kind)
    known = lambda: graph.client.count_publishers(topic)  # noqa: E731
    graph.until(known, f'the publisher of {topic}')
    return heard


def heard_by(graph, node, *topics):
    """Wait until the node has a subscriber on each of these topics."""
    for topic in topics:
        graph.until(lambda t=topic: node.count_subscribers(f'dpt/{t}'), f'a subscriber of {topic}')


def stamps(inbox):
    return [message.header.stamp.sec for message in inbox]


def test_each_camera_has_its_own_topics_header_and_size(graph):
    node = start(graph, 'front', 'rear')
    depths = {n: listen(graph, f'dpt/{n}/depth/image') for n in ('front', 'rear')}
    clouds = listen(graph, 'dpt/rear/points', PointCloud2)
    heard_by(graph, node, 'front/depth/image', 'rear/depth/image', 'rear/points')
    cameras = Camera(graph, node, 'front'), Camera(graph, node, 'rear', (32, 24))
    for camera in cameras:
        camera.send()
    graph.until(lambda: depths['front'] and depths['rear'] and clouds)
    found = {name: (d[0].header.frame_id, d[0].width, d[0].height) for name, d in depths.items()}
    assert found == {'front': ('front', 64, 48), 'rear': ('rear', 32, 24)}
    assert (clouds[0].header.frame_id, clouds[0].width) == ('rear', 32)
    names = {name for name, _ in graph.client.get_topic_names_and_types()}
    assert '/dpt/depth/image' not in names


def test_the_newest_of_every_camera_goes_through_the_network_in_one_pass(graph, monkeypatch):
    node = start(graph, 'front', 'rear', 'left')
    names = ('front', 'rear', 'left')
    depths = {name: listen(graph, f'dpt/{name}/depth/image') for name in names}
    heard_by(graph, node, *(f'{name}/depth/image' for name in names))
    front, rear, left = (
        Camera(graph, node, n, s) for n, s in zip(names, (SIZE, SIZE, (32, 24)), strict=True)
    )
    network = Network(monkeypatch)
    front.send()
    graph.until(lambda: network.batches == [1])
    for camera in (front, rear, left):
        camera.send(2)
    network.finish(3)  # front alone, front and rear together, left
    graph.until(lambda: len(depths['front']) == 2 and depths['rear'] and depths['left'])
    assert network.batches == [1, 2, 1]
    assert [stamps(depths[name]) for name in names] == [[1, 3], [2], [2]]


def test_a_slow_camera_is_not_starved_by_fast_ones(graph, monkeypatch):
    node = start(graph, 'fast', 'slow')
    fast_depths, slow_depths = (listen(graph, f'dpt/{n}/depth/image') for n in ('fast', 'slow'))
    heard_by(graph, node, 'fast/depth/image', 'slow/depth/image')
    fast, slow = Camera(graph, node, 'fast'), Camera(graph, node, 'slow')
    network = Network(monkeypatch)
    fast.send()
    for turn in range(1, 4):
        graph.until(lambda: len(network.batches) == turn)  # noqa: B023
        fast.send(3)
        slow.send()
        fast.send(3)
        network.finish()
    network.finish()
    graph.until(lambda: len(slow_depths) == 3 and len(fast_depths) == 4)
    assert network.batches == [1, 2, 2, 2]  # each image of the slow one in the very next pass
    assert stamps(slow_depths) == [1, 2, 3]
    assert stamps(fast_depths) == [1, 7, 13, 19]
    assert slow.counts == {'frames in': 3, 'frames dropped': 0, 'frames missed': 0}
    assert fast.counts == {'frames in': 19, 'frames dropped': 15, 'frames missed': 0}


def test_no_published_frame_is_older_than_one_pass_and_one_image(graph, monkeypatch):
    # A pass takes as long as `during` images of the camera; what comes out was the newest when
    # the pass began, so at its end it is that old, and the image after it is under way.
    node, during = start(graph), 6
    depths = listen(graph, 'dpt/depth/image')
    heard_by(graph, node, 'depth/image')
    camera, network, ages = Camera(graph, node), Network(monkeypatch), []
    camera.send()
    for turn in range(1, 6):
        graph.until(lambda: len(network.batches) == turn)  # noqa: B023
        camera.send(during)
        network.finish()
        graph.until(lambda: len(depths) == turn)  # noqa: B023
        ages.append(camera.sent - stamps(depths)[-1])
    assert ages == [during] * 5
    graph.until(lambda: len(network.batches) == 6)
    in_flight, out = 1, len(depths)
    counts = camera.counts
    assert counts['frames in'] == out + counts['frames dropped'] + in_flight == 1 + 5 * during
    network.finish()
    graph.until(lambda: len(depths) == 6)
    assert network.batches == [1] * 6  # nothing was queued
    assert camera.counts['frames dropped'] == camera.sent - 6


def test_what_was_replaced_before_the_node_could_take_it_is_counted_too(graph):
    node = start(graph)
    camera, busy, go_on = Camera(graph, node), Event(), Event()
    camera.send()

    def keep_busy():
        busy.set()
        go_on.wait(PATIENCE)

    node.executor.create_task(keep_busy)
    assert busy.wait(PATIENCE)
    try:
        for _ in range(4):
            camera._images.publish(camera._image)
        assert camera._images.wait_for_all_acked(Duration(seconds=PATIENCE))
    finally:
        go_on.set()
    graph.until(lambda: camera.counts['frames in'] == 2, 'the newest of them')
    assert camera.counts['frames missed'] == 3


def test_diagnostics_tell_of_each_camera(graph):
    node = start(graph, 'front', 'rear')
    told = graph.listen('/diagnostics', DiagnosticArray)
    depths = listen(graph, 'dpt/front/depth/image')
    heard_by(graph, node, 'front/depth/image')
    Camera(graph, node, 'front').send(2)
    graph.until(lambda: depths)

    def values():
        return {p.key: p.value for p in told[-1].status[0].values} if told else {}

    graph.until(lambda: values().get('front: frames in') == '2')
    out, dropped = (int(values()[f'front: frames {what}']) for what in ('out', 'dropped'))
    assert out + dropped == 2 == int(values()['frames in'])
    assert values()['rear: frames in'] == '0'
    status = graph.until(
        lambda: told[-1].status[0] if 'on /rear/image' in told[-1].status[0].message else None
    )
    assert 'no image for' in status.message
    assert status.level == status.WARN


def test_each_camera_obeys_the_matrix_that_its_own_topic_asks_for(graph, capfd):
    node = start(graph, 'front', 'rear', arguments=['-r', 'front/image:=front/image_rect'])
    said = capfd.readouterr().err
    assert '/front/image_rect and /front/camera_info (rectified: P)' in said
    assert '/rear/image and /rear/camera_info (not rectified: K and D)' in said
    clouds = {n: listen(graph, f'dpt/{n}/points', PointCloud2) for n in ('front', 'rear')}
    heard_by(graph, node, 'front/points', 'rear/points')
    cameras = Camera(graph, node, 'front', topic='image_rect'), Camera(graph, node, 'rear')
    for camera in cameras:
        camera._info.p[0] = 30.0  # half of K[0]
        camera.send()
    graph.until(lambda: clouds['front'] and clouds['rear'])
    slopes = {}
    for name, (cloud, *_) in clouds.items():
        x, _, z = np.frombuffer(cloud.data, np.float32).reshape(48, 64, 8)[..., :3].T
        slopes[name] = np.nanmedian(x[0] / z[0])  # of the left edge
    np.testing.assert_allclose([slopes['front'], slopes['rear']], [-31.5 / 30, -31.5 / 60], 1e-5)


def test_an_empty_list_in_a_file_is_one_camera_without_a_prefix(graph, tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('/**:\n  ros__parameters:\n    cameras: []\n')
    node = graph.start_node(arguments=['--params-file', str(file)])
    assert node._chosen.cameras == ('',)
    graph.until(lambda: graph.client.count_publishers('dpt/depth/image'))
