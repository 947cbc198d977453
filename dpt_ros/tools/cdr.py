"""
Messages of ROS to their bytes and back, without rclpy and its middleware.

rosbags knows the layout (CDR) but has classes of its own, whose arrays are NumPy's; what they hold
is moved to and from the classes of ROS, the large arrays of messages to be written as views.
"""

from array import array
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
from rosbags.serde import SerdeError
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

Message = TypeVar('Message')

TYPES = get_typestore(Stores.ROS2_HUMBLE)
# Not among those types, nor everywhere installed.
TYPES.register(
    get_types_from_msg('uint16 class_id\nstring class_name', 'vision_msgs/msg/VisionClass')
    | get_types_from_msg(
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold',
        'vision_msgs/msg/LabelInfo',
    )
)


def type_name(kind: type) -> str:
    """Name a class of messages as ROS does: sensor_msgs/msg/Image."""
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'


def decode_cdr(data: bytes, kind: type[Message]) -> Message:
    """
    Read a message.

    :param kind: a class without sequences of messages, such as Image, CompressedImage, CameraInfo.
    :raises ValueError: for bytes that are not such a message.
    """
    try:
        plain = TYPES.deserialize_cdr(memoryview(data), type_name(kind))
    except SerdeError as error:
        raise ValueError(f'a message of {type_name(kind)} is damaged: {error}') from None
    return _filled(kind(), plain)


def encode_cdr(message: Any) -> memoryview:
    """Write a message of any type that `TYPES` knows."""
    return TYPES.serialize_cdr(_plain(message), type_name(type(message)))


def _filled(message: Any, plain: Any) -> Any:
    """Fill a message of ROS with what one of rosbags holds."""
    for name in message.get_fields_and_field_types():
        value, current = getattr(plain, name), getattr(message, name)
        if hasattr(current, 'get_fields_and_field_types'):
            _filled(current, value)
        elif isinstance(current, array):
            if value.size:
                current.frombytes(np.ascontiguousarray(value).data.cast('B'))
        else:
            setattr(message, name, value)
    return message


def _plain(value: Any) -> Any:
    """Return what rosbags takes in place of a message of ROS or of one of its fields."""
    if hasattr(value, 'get_fields_and_field_types'):
        names = value.get_fields_and_field_types()
        return SimpleNamespace(**{name: _plain(getattr(value, name)) for name in names})
    if isinstance(value, array):
        return np.asarray(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value
