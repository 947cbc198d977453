"""Messages and bytes: what rosbags writes for us is what rclpy's own serialization writes."""

from array import array

from dpt_ros.tools.cdr import decode_cdr, encode_cdr, type_name, TYPES
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header


def filled() -> list:
    header = Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 7, 123
    data = array('B', range(96))
    info = CameraInfo(header=header, height=4, width=8, distortion_model='plumb_bob', binning_x=2)
    info.d, info.k, info.p = [0.1, 0.2, 0.3, 0.4, 0.5], np.arange(9.0), np.arange(12.0)
    info.roi.x_offset, info.roi.do_rectify = 3, True
    fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate('xyz')]
    return [
        Image(header=header, height=4, width=8, encoding='rgb8', step=24, data=data),
        CompressedImage(header=header, format='jpeg', data=data),
        info,
        PointCloud2(header=header, height=1, width=6, fields=fields, point_step=16, data=data),
        Image(),
    ]


@pytest.mark.parametrize('message', filled(), ids=lambda m: type(m).__name__)
def test_the_bytes_are_those_of_a_ros_message(message):
    assert deserialize_message(bytes(encode_cdr(message)), type(message)) == message


@pytest.mark.parametrize(
    'message', [m for m in filled() if not isinstance(m, PointCloud2)], ids=lambda m: str(type(m))
)
def test_bytes_of_ros_become_the_message_again(message):
    assert decode_cdr(serialize_message(message), type(message)) == message


def test_bytes_that_were_cut_short_are_refused():
    with pytest.raises(ValueError, match='a message of sensor_msgs/msg/Image is damaged'):
        decode_cdr(serialize_message(filled()[0])[:60], Image)


def test_types_are_named_as_ros_names_them():
    assert type_name(PointCloud2) == 'sensor_msgs/msg/PointCloud2'


def test_label_info_is_laid_out_as_vision_msgs_has_it():
    # The published definitions: Header, VisionClass[] (uint16, string), float32.
    definition, _ = TYPES.generate_msgdef('vision_msgs/msg/LabelInfo', ros_version=2)
    assert definition.startswith(
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
    )
    assert 'uint16 class_id\nstring class_name' in definition
