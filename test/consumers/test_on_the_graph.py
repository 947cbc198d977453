"""The node as each consumer's file starts it, heard with the consumer's QoS on a real graph."""

import math
from pathlib import Path

from graph import image_of, info_of, picture, RELIABLE
import pytest
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

pytestmark = pytest.mark.graph

CONFIG = Path(__file__).parents[2] / 'config'
SENSOR_50 = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
SIZE = (64, 48)
HEARD = {  # what a consumer pairs by stamp, and its QoS
    'nav2': (
        {'segmentation/mask': Image, 'segmentation/confidence': Image, 'points': PointCloud2},
        SENSOR_50,
    ),
    'rtabmap': (
        {'color/image': Image, 'color/camera_info': CameraInfo, 'depth/image': Image},
        RELIABLE,
    ),
    'octomap': ({'points': PointCloud2}, SENSOR_50),
    'nvblox': (
        {
            'depth/image': Image,
            'depth/camera_info': CameraInfo,
            'color/image': Image,
            'color/camera_info': CameraInfo,
        },
        RELIABLE,
    ),
    'laserscan': ({'depth/image': Image, 'depth/camera_info': CameraInfo}, RELIABLE),
}


@pytest.mark.parametrize('consumer', HEARD)
def test_the_consumer_hears_all_that_it_pairs_of_one_image(graph, settings, consumer):
    file = CONFIG / consumer / 'dpt.yaml'
    node = graph.start_node(arguments=['--params-file', str(file)], depth__edge_angle=0.0)
    for name, value in settings(f'{consumer}/dpt.yaml').items():
        taken = node.get_parameter(name).value
        assert taken == value or (math.isnan(taken) and math.isnan(value))
    kinds, qos = HEARD[consumer]
    inboxes = [graph.listen(f'dpt/{topic}', kind, qos) for topic, kind in kinds.items()]

    def paired():
        return set.intersection(*({m.header.stamp.sec for m in inbox} for inbox in inboxes))

    graph.shoot(graph.camera(), image_of(picture()), info_of(*SIZE), paired)
    stamp = max(paired())
    messages = [next(m for m in inbox if m.header.stamp.sec == stamp) for inbox in inboxes]
    times = node.get_parameter('output.decimation').value
    if consumer != 'octomap':  # its cloud is one row
        assert {(m.width * times, m.height * times) for m in messages} == {SIZE}
    assert {m.header.stamp.nanosec for m in messages} == {123456789}
