"""
The topics that the node publishes: one row each.

A new topic is one row of `OUTPUTS`. `needs` are the products (`perception.products.PRODUCTS`)
without which the topic is not advertised; of these, `reads` are computed for it when somebody
subscribes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dpt_ros.perception.pipeline import Result
from dpt_ros.ros.messages import Calibration, encode_camera_info, encode_image, encode_points
from dpt_ros.ros.parameters import Parameters
from dpt_ros.zoo.labels import Labels
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header


@dataclass
class Origin:
    """What came with the image of a frame; its maps carry this very header."""

    header: Header
    calibration: Calibration | None  # None: no camera_info that fits the image
    color: Image | None = None  # the image itself, if it goes out as it came; None: it does not
    of_maps: CameraInfo | None = None  # the same camera as its maps see it, once anyone asked


@dataclass(frozen=True)
class Output:
    """One topic."""

    topic: str
    message: type
    needs: frozenset[str]
    # Of a result, the parameters, and a message to fill again or None; None where a frame has
    # nothing to say.
    build: Callable[[Result, Parameters, Any], Any]
    reads: frozenset[str]


def _image(topic: str, product: str, encoding: Callable[[Result, Parameters], str]) -> Output:
    """Describe an image topic that carries one product."""

    def build(result: Result, parameters: Parameters, last: Image | None) -> Image | None:
        pixels, header = result.products.get(product), _origin(result).header
        if pixels is None:  # no metres without a scale
            return None
        return encode_image(header, pixels, encoding(result, parameters), last)

    return Output(topic, Image, frozenset({product}), build, frozenset({product}))


def _color(topic: str) -> Output:
    """Describe the topic of the image at the size of the maps: the message that came, if it is."""
    made = _image(topic, 'color', lambda *_: 'rgb8')

    def build(result: Result, parameters: Parameters, last: Image | None) -> Image | None:
        came = _origin(result).color
        return made.build(result, parameters, last) if came is None else came

    return replace(made, build=build)


def _info(topic: str, product: str) -> Output:
    """Describe the camera_info beside the image of a product; it computes nothing."""

    def build(result: Result, *_: Any) -> CameraInfo | None:
        origin = _origin(result)
        if origin.calibration is None or product not in result.available:
            return None
        if origin.of_maps is None:  # one message goes out on all of its topics
            height, width = result.frame.pixels.shape[:2]
            size = (result.width, result.height)
            origin.of_maps = encode_camera_info(
                origin.header, origin.calibration, (width, height), size
            )
        return origin.of_maps

    return Output(topic, CameraInfo, frozenset({product}), build, frozenset())


def _points(
    result: Result, parameters: Parameters, last: PointCloud2 | None
) -> PointCloud2 | None:
    """Build the cloud; a frame without calibration has none."""
    points = result.products.get('points')
    if points is None:
        return None
    return encode_points(_origin(result).header, points, parameters.points_labels, last)


def _origin(result: Result) -> Origin:
    if not isinstance(result.frame.header, Origin):
        raise TypeError(f'a frame of the node carries its Origin, not {result.frame.header!r}')
    return result.frame.header


def _mask_encoding(result: Result, parameters: Parameters) -> str:  # noqa: ARG001
    return 'mono8' if result.products['labels'].itemsize == 1 else '16UC1'


OUTPUTS: tuple[Output, ...] = (
    _color('~/color/image'),
    _info('~/color/camera_info', 'color'),
    _image('~/depth/image', 'depth', lambda _, parameters: parameters.depth_encoding),
    _info('~/depth/camera_info', 'depth'),
    _image('~/depth/color', 'depth_color', lambda *_: 'rgb8'),
    _image('~/inverse_depth/image', 'inverse_depth', lambda *_: '32FC1'),
    _info('~/inverse_depth/camera_info', 'inverse_depth'),
    _image('~/segmentation/mask', 'labels', _mask_encoding),
    _image('~/segmentation/confidence', 'confidence', lambda *_: 'mono8'),
    _image('~/segmentation/overlay', 'overlay', lambda *_: 'rgb8'),
    _info('~/segmentation/camera_info', 'labels'),
    Output('~/points', PointCloud2, frozenset({'points'}), _points, frozenset({'points'})),
)


def topic_of(camera: str, topic: str) -> str:
    """
    Put the name of a camera before a topic, relative or private.

    >>> topic_of('front', '~/depth/image'), topic_of('front', 'image'), topic_of('', 'image')
    ('~/front/depth/image', 'front/image', 'image')
    """
    if not camera:
        return topic
    return f'~/{camera}/{topic[2:]}' if topic.startswith('~/') else f'{camera}/{topic}'


LABEL_INFO = '~/segmentation/label_info'  # latched, so it stands apart from the rows above


def encode_label_info(header: Header, labels: Labels, threshold: float) -> Any:
    """
    Name the classes (vision_msgs/LabelInfo).

    :raises ImportError: where vision_msgs is not installed.
    """
    from vision_msgs.msg import LabelInfo, VisionClass

    classes = [
        VisionClass(class_id=index, class_name=name) for index, name in enumerate(labels.names)
    ]
    return LabelInfo(header=header, class_map=classes, threshold=float(threshold))
