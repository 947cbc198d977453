"""`dpt bag` against the node itself: the same images give the same messages, byte by byte."""

from array import array
from copy import deepcopy
from functools import partial
from itertools import count
from pathlib import Path

import cv2
from dpt_ros.ros.outputs import OUTPUTS
from dpt_ros.ros.parameters import FIELDS, Parameters
from dpt_ros.tools.label import label, Order
from graph import Graph, image_of, info_of, picture, RELIABLE
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from recordings import read_bag, STORE
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import CompressedImage

pytestmark = pytest.mark.graph
WIDTH, HEIGHT, COUNT = 64, 48, 3
CHOSEN = Parameters(cpu_threads=1, network_side=64, points_labels=True, depth_max=4.0)
FIRST = 100  # seconds of the first stamp
MADE = [o for o in OUTPUTS if not o.topic.startswith(('~/inverse_depth', '~/color'))]


def shots(compressed: bool) -> list[tuple]:
    """Return images with their camera_info, a stamp each."""
    made = []
    for number in range(COUNT):
        pixels, info = picture(HEIGHT, WIDTH, seed=number), info_of(WIDTH, HEIGHT)
        image = image_of(pixels)
        if compressed:
            data = array('B', cv2.imencode('.png', pixels[..., ::-1])[1].tobytes())
            image = CompressedImage(format='png', data=data)
        for message in (image, info):
            message.header.frame_id = 'eye'
            message.header.stamp.sec = FIRST + number
            message.header.stamp.nanosec = 123456789
        made.append((image, info))
    return made


def publish(graph: Graph, taken: list[tuple], compressed: bool) -> dict[str, list[bytes]]:
    """Show the images to the node one by one, and return the bytes that it sends of them."""
    values = {n.replace('.', '__'): getattr(CHOSEN, f.name) for n, f in FIELDS.items()}
    graph.start_node(**values | {'image_transport': 'compressed' if compressed else 'raw'})
    every: dict[str, list[bytes]] = {}
    for output in MADE:
        topic = output.topic.replace('~', '/dpt')
        every[topic] = []
        take = partial(graph.client.create_subscription, output.message, topic)
        take(every[topic].append, RELIABLE, raw=True)

    def heard() -> dict[str, list[bytes]]:
        return {
            topic: [d for d in data if int.from_bytes(d[4:8], 'little') >= FIRST]
            for topic, data in every.items()
        }

    camera = graph.camera(type(taken[0][0]), 'image/compressed' if compressed else 'image')
    # First images with other stamps, until the node has taken camera_info and all is connected.
    image, info = deepcopy(taken[0])
    image.header.stamp.sec = info.header.stamp.sec = FIRST - 1
    again = count()

    def show() -> bool:
        if next(again) % 10 == 0:
            camera[1].publish(info)
            camera[0].publish(image)
        return all(every.values())

    graph.until(show, 'an image with all its results')
    for number, (image, info) in enumerate(taken, 1):
        camera[1].publish(info)
        camera[0].publish(image)
        graph.until(
            lambda number=number: all(len(m) == number for m in heard().values()),
            f'the results of image {number}',
        )
    return heard()


def record(bag: Path, taken: list[tuple], compressed: bool) -> Path:
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        name = 'CompressedImage' if compressed else 'Image'
        add = partial(writer.add_connection, typestore=STORE)
        images = add('/image', f'sensor_msgs/msg/{name}')
        infos = add('/camera_info', 'sensor_msgs/msg/CameraInfo')
        for number, (image, info) in enumerate(taken):
            writer.write(infos, 10 * number, serialize_message(info))
            writer.write(images, 10 * number + 1, serialize_message(image))
    return bag


def padded(data: bytes, kind: type) -> bytes:
    """Set the bytes between the fields, which Fast CDR leaves as they were, to zero."""
    name = f'sensor_msgs/msg/{kind.__name__}'
    return bytes(STORE.serialize_cdr(STORE.deserialize_cdr(data, name), name))


@pytest.mark.parametrize('compressed', [False, True], ids=['raw', 'compressed'])
def test_the_bag_holds_what_the_node_publishes(graph: Graph, tmp_path: Path, compressed: bool):
    taken = shots(compressed)
    heard = publish(graph, taken, compressed)
    bag = record(tmp_path / 'in', taken, compressed)
    label(Order(bag, tmp_path / 'out', '', '', CHOSEN))
    written = read_bag(tmp_path / 'out')
    for output in MADE:
        topic, kind = output.topic.replace('~', '/dpt'), output.message
        mine = [data for name, _, data in written if name == topic]
        assert len(mine) == COUNT
        for one, other in zip(mine, heard[topic], strict=True):
            assert deserialize_message(one, kind) == deserialize_message(bytes(other), kind)
            assert one == padded(bytes(other), kind)
