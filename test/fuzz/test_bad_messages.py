"""A node among bad messages: each is counted by kind, and a good one right after it is served."""

from array import array
from collections import Counter
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from graph import Graph, image_of, info_of, picture
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from test_images import jpeg, PICTURES, png

pytestmark = pytest.mark.graph

WIDTH, HEIGHT = 32, 24  # of PICTURES too
ROUNDS, MOST = 60, 5  # of up to so many bad messages, then a good one
PNG, JPEG = PICTURES[0], PICTURES[3]


def raw(**changes: Any) -> Image:
    """Give a good image, but for these fields."""
    image = image_of(picture(HEIGHT, WIDTH))
    for name, value in changes.items():
        setattr(image, name, value)
    return image


def packed(data: bytes) -> CompressedImage:
    """Give a compressed image of these bytes."""
    return CompressedImage(format='jpeg', data=array('B', data))


def calibrated(**changes: Any) -> CameraInfo:
    """Give a good camera_info, but for these fields."""
    info = info_of(WIDTH, HEIGHT)
    for name, value in changes.items():
        setattr(info, name, value)
    return info


GOOD = {Image: [raw()], CompressedImage: [packed(PNG), packed(JPEG)]}
BAD = {
    Image: [
        raw(encoding='rgb9'),
        raw(encoding='\x1b[2J'),
        raw(width=0),
        raw(height=0),
        raw(step=WIDTH),
        raw(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1),
        raw(height=HEIGHT + 1),
        raw(data=array('B')),
        raw(encoding='32FC1'),
    ],
    CompressedImage: [
        packed(b''),
        packed(bytes(1000)),
        packed(b'GIF89a' + PNG),
        packed(PNG[: len(PNG) // 2]),
        packed(JPEG[: len(JPEG) // 2]),
        packed(JPEG[:20]),
        packed(png(2**31 - 1, 2**31 - 1)),
        packed(jpeg(65535, 65535)),
    ],
    CameraInfo: [
        calibrated(width=WIDTH + 1),
        calibrated(height=0),
        calibrated(d=[0.1]),
        calibrated(distortion_model='fish', d=[0.1] * 4),
        calibrated(k=[float('nan')] * 9),
        calibrated(k=[-60.0, 0.0, 16.0, 0.0, 60.0, 12.0, 0.0, 0.0, 1.0]),
        calibrated(d=[float('inf')] * 5),
    ],
}


class Sender:
    """A camera that goes on when its message was dealt with, so that none is replaced."""

    def __init__(self, graph: Graph, kind: type):
        transport = 'compressed' if kind is CompressedImage else 'raw'
        self.node = graph.start_node(image_transport=transport, network__side=32)
        topic = 'image/compressed' if kind is CompressedImage else 'image'
        self._graph = graph
        self._images, self._infos = graph.camera(kind, topic)
        self.depths = graph.listen('dpt/depth/image', Image)
        self.told = graph.listen('/diagnostics', DiagnosticArray)
        self.sent = 0
        graph.until(
            lambda: self._images.get_subscription_count() and self._infos.get_subscription_count(),
            'the subscriptions',
        )
        graph.until(lambda: self.node.count_subscribers('/dpt/depth/image'), 'the listener')

    def send(self, image: Any, info: CameraInfo) -> int:
        """Send an image beside a camera_info, and return its stamp when the node is through."""
        self.sent += 1
        for message in (info, image):
            message.header.stamp.sec = self.sent
        worker = self.node._worker
        self._infos.publish(info)
        self._graph.until(lambda: '' in worker._infos and self._is_newest(worker._infos['']))
        self._images.publish(image)
        self._graph.until(lambda: self.dealt_with() == self.sent, f'an end of {image}')
        return self.sent

    def dealt_with(self) -> int:
        """Count the images of which something came, be it that they are lost."""
        counts = self.node._statistics._counts
        return counts['frames out'] + counts['faults: image']

    def values(self) -> dict[str, str]:
        """Return what /diagnostics told last."""
        return {v.key: v.value for v in self.told[-1].status[0].values} if self.told else {}

    def _is_newest(self, info: CameraInfo) -> bool:
        return info.header.stamp.sec == self.sent


@pytest.mark.parametrize('kind', [Image, CompressedImage])
def test_bad_messages_are_counted_by_kind_and_the_next_good_one_is_served(
    graph: Graph, kind: type
):
    random = np.random.default_rng(0)
    sender, faults = Sender(graph, kind), Counter[str]()

    def one_of(messages: list) -> Any:
        return messages[random.integers(len(messages))]

    for _ in range(ROUNDS):
        for _ in range(random.integers(1, MOST + 1)):
            if random.random() < 0.7:
                sender.send(one_of(BAD[kind]), calibrated())
                faults['image'] += 1
            else:
                sender.send(one_of(GOOD[kind]), one_of(BAD[CameraInfo]))
                faults['camera_info'] += 1
        good = sender.send(one_of(GOOD[kind]), calibrated())
        graph.until(lambda s=good: sender.depths and sender.depths[-1].header.stamp.sec == s)
    counts = {'frames in': sender.sent, 'frames out': ROUNDS + faults['camera_info']}
    wanted = {name: str(count) for name, count in counts.items()}
    # A report may come while the last frame is on its way.
    graph.until(lambda: sender.values().items() >= wanted.items(), f'a report of {wanted}')
    told = sender.values()
    assert {n: int(v) for n, v in told.items() if n.startswith('faults:')} == {
        f'faults: {name}': count for name, count in faults.items()
    }
    assert int(told['frames dropped']) == 0
    assert sum(faults.values()) > 150
