"""CONSUMERS 1.9: vision_msgs/LabelInfo, of types that rosbags makes from their definition."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from dpt_ros.ros.outputs import encode_label_info
from dpt_ros.zoo.labels import load_labels
import pytest
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from std_msgs.msg import Header

CLASS = 'uint16 class_id\nstring class_name'
INFO = 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold'


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Know vision_msgs without ROS, also as the module that the node imports."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for text, name in ((CLASS, 'VisionClass'), (INFO, 'LabelInfo')):
        store.register(get_types_from_msg(text, f'vision_msgs/msg/{name}'))
    made = {n: store.types[f'vision_msgs/msg/{n}'] for n in ('VisionClass', 'LabelInfo')}
    monkeypatch.setitem(sys.modules, 'vision_msgs', ModuleType('vision_msgs'))
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', SimpleNamespace(**made))
    return store


@pytest.mark.parametrize('labels', ['worlds_10', 'ade20k_150'])
def test_label_info_survives_the_wire_and_leaves_255_to_what_is_unlabelled(
    store: Any, labels: str
):
    told = encode_label_info(Header(frame_id='camera'), load_labels(labels), 0.25)
    data = store.serialize_cdr(told, 'vision_msgs/msg/LabelInfo')
    read = store.deserialize_cdr(data, 'vision_msgs/msg/LabelInfo')
    assert (read.header.frame_id, read.threshold) == ('camera', 0.25)
    ids = [one.class_id for one in read.class_map]
    assert ids == list(range(len(load_labels(labels).names)))
    assert 255 not in ids  # reserved in mono8
    assert [one.class_name for one in read.class_map] == list(load_labels(labels).names)
