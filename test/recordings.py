"""Bags for tests, written and read by rosbags alone, and what lies in them."""

from pathlib import Path

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types
MS = 1_000_000


def header_at(stamp, frame='camera'):
    """Return a header; nanoseconds."""
    time = TYPES['builtin_interfaces/msg/Time'](stamp // 10**9, stamp % 10**9)
    return TYPES['std_msgs/msg/Header'](time, frame)


def image(pixels, encoding, stamp):
    """Wrap pixels, raw or as 'png'."""
    header = header_at(stamp)
    if encoding == 'png':
        data = cv2.imencode('.png', pixels[..., ::-1])[1].ravel()
        return TYPES['sensor_msgs/msg/CompressedImage'](header, 'rgb8; png compressed', data)
    data = np.frombuffer(pixels.tobytes(), np.uint8)
    rows, columns = pixels.shape[:2]
    step = pixels.strides[0]
    return TYPES['sensor_msgs/msg/Image'](header, rows, columns, encoding, 0, step, data)


def camera_info(width, height, stamp, focal=60.0):
    """Describe a calibrated camera without distortion."""
    k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1.0])
    p = np.insert(k, (3, 6, 9), 0.0)
    roi = TYPES['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    none, r = np.zeros(5), np.eye(3).ravel()
    kind = TYPES['sensor_msgs/msg/CameraInfo']
    return kind(header_at(stamp), height, width, 'plumb_bob', none, k, r, p, 0, 0, roi)


def imu(stamp):
    """Describe an IMU at rest and level, without an orientation."""
    vector, nothing = TYPES['geometry_msgs/msg/Vector3'], np.zeros(9)
    none = np.array([-1.0, *nothing[1:]])
    orientation = TYPES['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0)
    still, up = vector(0.0, 0.0, 0.0), vector(0.0, 0.0, 9.81)
    kind = TYPES['sensor_msgs/msg/Imu']
    return kind(header_at(stamp, 'imu'), orientation, none, still, nothing, up, nothing)


def text(words):
    """Wrap words."""
    return TYPES['std_msgs/msg/String'](words)


def write_bag(bag, *messages, storage='mcap', qos=(), version=9, compression=None):
    """Write messages, each (topic, nanoseconds, message)."""
    writer = Writer(bag, version=version, storage_plugin=StoragePlugin[storage.upper()])
    if compression is not None:
        writer.set_compression(*compression)
    with writer:
        topics: dict = {}
        for topic, time, message in messages:
            kind = message.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(
                    topic, kind, typestore=STORE, offered_qos_profiles=list(qos)
                )
            writer.write(topics[topic], time, STORE.serialize_cdr(message, kind))
    return Path(bag)


def read_bag(bag):
    """Return the messages of a bag in their order, each (topic, nanoseconds, bytes)."""
    with AnyReader([Path(bag)], default_typestore=STORE) as reader:
        return [(c.topic, time, bytes(data)) for c, time, data in reader.messages()]


def read_topic(bag, topic):
    """Return the messages of a topic, read by the definitions in the bag itself."""
    with AnyReader([Path(bag)], default_typestore=STORE) as reader:
        chosen = [c for c in reader.connections if c.topic == topic]
        read = reader.messages(chosen) if chosen else ()
        return [reader.deserialize(data, c.msgtype) for c, _, data in read]


def topics_in(bag):
    """Return what a bag tells of its topics: (type, offered QoS, count, definition) by name."""
    with AnyReader([Path(bag)], default_typestore=STORE) as reader:
        return {
            c.topic: (c.msgtype, c.ext.offered_qos_profiles, c.msgcount, c.msgdef.data)
            for c in reader.connections
        }
