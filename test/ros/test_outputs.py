"""OUTPUTS: the topics of the contract, and what each makes of a result."""

from dataclasses import dataclass, field, replace
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.pipeline import Frame, Result
from dpt_ros.perception.products import PRODUCTS
from dpt_ros.ros.messages import decode_image, decode_info
from dpt_ros.ros.outputs import encode_label_info, LABEL_INFO, Origin, Output, OUTPUTS, topic_of
from dpt_ros.ros.parameters import Parameters
from dpt_ros.zoo.labels import load_labels
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

# The table of DESIGN section 4.
CONTRACT = {
    '~/depth/image': Image,
    '~/depth/camera_info': CameraInfo,
    '~/depth/color': Image,
    '~/inverse_depth/image': Image,
    '~/segmentation/mask': Image,
    '~/segmentation/confidence': Image,
    '~/segmentation/overlay': Image,
    '~/segmentation/camera_info': CameraInfo,
    '~/points': PointCloud2,
}
WIDTH, HEIGHT = 8, 6  # of the maps, half of the image
HEADER = Header(frame_id='camera_optical_frame')
K = [20.0, 0.0, 7.5, 0.0, 20.0, 5.5, 0.0, 0.0, 1.0]
INFO = CameraInfo(width=16, height=12, k=K)
BY_TOPIC = {output.topic: output for output in OUTPUTS}
random = np.random.default_rng(0)
PARAMETERS = Parameters()
MADE = {
    'color': random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
    'depth': random.random((HEIGHT, WIDTH), np.float32),
    'depth_color': random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
    'inverse_depth': random.random((HEIGHT, WIDTH), np.float32),
    'labels': random.integers(0, 10, (HEIGHT, WIDTH), np.uint8),
    'confidence': random.integers(0, 256, (HEIGHT, WIDTH), np.uint8),
    'overlay': random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
    'points': random.random((HEIGHT, WIDTH, 8), np.float32),
}


def result(info: CameraInfo | None = INFO, header: object = None, **products: object) -> Result:
    pixels = np.zeros((12, 16, 3), np.uint8)
    origin = Origin(HEADER, info and decode_info(info))
    frame = Frame('', header or origin, pixels, None)
    camera = Camera(WIDTH, HEIGHT, 10.0, 10.0, 3.5, 2.5)
    return Result(frame, WIDTH, HEIGHT, camera, MADE | products)


def build(topic: str, given: Result | None = None, **changes: object) -> object:
    return BY_TOPIC[topic].build(given or result(), replace(PARAMETERS, **changes), None)


def test_every_topic_of_the_contract_is_there():
    assert CONTRACT.items() <= {output.topic: output.message for output in OUTPUTS}.items()
    assert LABEL_INFO == '~/segmentation/label_info'


def test_no_topic_stands_twice():
    assert len(BY_TOPIC) == len(OUTPUTS)


@pytest.mark.parametrize('output', OUTPUTS, ids=BY_TOPIC)
def test_a_topic_reads_only_what_it_needs(output: Output):
    assert output.needs
    assert output.reads <= output.needs <= PRODUCTS.keys()


@pytest.mark.parametrize('product', PRODUCTS)
def test_every_product_is_published(product: str):
    assert any(product in output.reads for output in OUTPUTS)


@pytest.mark.parametrize('output', OUTPUTS, ids=BY_TOPIC)
def test_a_message_has_the_type_and_the_header_of_its_image(output: Output):
    message = output.build(result(), PARAMETERS, None)
    assert type(message) is output.message
    assert message.header is HEADER
    assert (message.width, message.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ('topic', 'product', 'encoding'),
    [
        ('~/color/image', 'color', 'rgb8'),
        ('~/depth/image', 'depth', '32FC1'),
        ('~/depth/color', 'depth_color', 'rgb8'),
        ('~/inverse_depth/image', 'inverse_depth', '32FC1'),
        ('~/segmentation/mask', 'labels', 'mono8'),
        ('~/segmentation/confidence', 'confidence', 'mono8'),
        ('~/segmentation/overlay', 'overlay', 'rgb8'),
    ],
)
def test_an_image_topic_carries_its_product(topic: str, product: str, encoding: str):
    message = build(topic)
    assert message.encoding == encoding
    assert bytes(message.data) == MADE[product].tobytes()


def test_depth_in_millimetres_says_so():
    millimetres = np.full((HEIGHT, WIDTH), 1234, np.uint16)
    message = build('~/depth/image', result(depth=millimetres), depth_encoding='16UC1')
    assert (message.encoding, message.step) == ('16UC1', 2 * WIDTH)
    assert (np.frombuffer(message.data, '<u2') == 1234).all()


def test_more_than_255_classes_take_16_bits():
    labels = np.full((HEIGHT, WIDTH), 65535, np.uint16)
    message = build('~/segmentation/mask', result(labels=labels))
    assert (message.encoding, message.step) == ('16UC1', 2 * WIDTH)


def test_colors_are_red_first():
    red = np.full((HEIGHT, WIDTH, 3), (250, 10, 20), np.uint8)
    assert (decode_image(build('~/segmentation/overlay', result(overlay=red))) == red).all()


@pytest.mark.parametrize('topic', [t for t, kind in CONTRACT.items() if kind is CameraInfo])
def test_the_info_is_of_the_maps(topic: str):
    message = build(topic)
    # Half the size, edges kept: (7.5 + 0.5) / 2 - 0.5.
    np.testing.assert_allclose(message.k, [10, 0, 3.5, 0, 10, 2.5, 0, 0, 1])


@pytest.mark.parametrize('topic', [o.topic for o in OUTPUTS if o.message is CameraInfo])
def test_without_an_info_there_is_none_to_publish(topic: str):
    assert build(topic, result(info=None)) is None


@pytest.mark.parametrize('topic', [o.topic for o in OUTPUTS if o.message is CameraInfo])
def test_an_info_costs_no_computing(topic: str):
    assert not BY_TOPIC[topic].reads


def test_without_calibration_there_is_no_cloud():
    given = result()
    del given.products['points']
    assert build('~/points', given) is None


@pytest.mark.parametrize(
    ('changes', 'labelled'), [({'points_labels': True}, True), ({'points_labels': False}, False)]
)
def test_a_cloud_has_labels_where_there_are_any(changes: dict, labelled: bool):
    names = [field.name for field in build('~/points', **changes).fields]
    assert names == ['x', 'y', 'z', 'rgb', *(['label', 'confidence'] if labelled else [])]


def test_a_compact_cloud_is_one_row():
    message = build('~/points', result(points=MADE['points'].reshape(-1, 8)[:9]))
    assert (message.height, message.width) == (1, 9)


def test_a_frame_without_its_origin_is_our_own_mistake():
    with pytest.raises(TypeError, match=r'carries its Origin, not 7'):
        build('~/depth/image', result(header=7))


@pytest.mark.skipif(importlib.util.find_spec('vision_msgs') is not None, reason='it is there')
def test_without_vision_msgs_there_is_no_label_info():
    with pytest.raises(ImportError, match='vision_msgs'):
        encode_label_info(HEADER, load_labels('worlds_10'), 0.5)


@dataclass
class VisionClass:
    """What vision_msgs/VisionClass has."""

    class_id: int = 0
    class_name: str = ''


@dataclass
class LabelInfo:
    """What vision_msgs/LabelInfo has."""

    header: Header | None = None
    class_map: list[VisionClass] = field(default_factory=list)
    threshold: float = 0.0


def test_label_info_names_the_ids_of_the_mask(monkeypatch: pytest.MonkeyPatch):
    messages = SimpleNamespace(LabelInfo=LabelInfo, VisionClass=VisionClass)
    monkeypatch.setitem(sys.modules, 'vision_msgs', ModuleType('vision_msgs'))
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', messages)
    labels = load_labels('ade20k_150')
    message = encode_label_info(HEADER, labels, 0.25)
    assert (message.header, message.threshold) == (HEADER, 0.25)
    named = {one.class_id: one.class_name for one in message.class_map}
    assert named == dict(enumerate(labels.names))
    assert {named[0], named[2], named[3]} == {'wall', 'sky', 'floor'}  # ADE20K's own numbers


@pytest.mark.parametrize(
    ('camera', 'topic', 'wanted'),
    [
        ('', '~/depth/image', '~/depth/image'),
        ('', 'image', 'image'),
        ('front', '~/depth/image', '~/front/depth/image'),
        ('front', 'image/compressed', 'front/image/compressed'),
    ],
)
def test_the_name_of_a_camera_stands_before_its_topics(camera: str, topic: str, wanted: str):
    assert topic_of(camera, topic) == wanted
