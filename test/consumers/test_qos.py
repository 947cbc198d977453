"""CONSUMERS 1.10, and the QoS with which every consumer subscribes to the node."""

from typing import NamedTuple

from dpt_ros.ros.node import LATCHED, output_qos
from dpt_ros.ros.parameters import Parameters
import pytest
from rclpy.qos import (
    qos_check_compatible,
    qos_profile_sensor_data,
    qos_profile_system_default,
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)

SENSOR_50 = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
LATCHED_5 = QoSProfile(
    depth=5,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)


class Listener(NamedTuple):
    """Who subscribes with which QoS, and the file that dpt_node has for it ('': defaults)."""

    consumer: str
    qos: QoSProfile


LISTENERS = {
    "Nav2's voxel layer": Listener('nav2', SENSOR_50),
    'semantic segmentation layer': Listener('nav2', SENSOR_50),
    'rtabmap with qos 1': Listener('rtabmap', RELIABLE),
    'rtabmap with qos 2': Listener('rtabmap', SENSOR_50),
    'octomap_server': Listener('octomap', qos_profile_sensor_data),
    'nvblox with SENSOR_DATA': Listener('nvblox', qos_profile_sensor_data),
    'nvblox with SYSTEM_DEFAULT, which is reliable': Listener('nvblox', RELIABLE),
    'depthimage_to_laserscan, SystemDefaultsQoS, which is reliable': Listener(
        'laserscan', RELIABLE
    ),
    'RViz, reliable by default': Listener('', RELIABLE),
}


def ours(consumer: str, chosen) -> QoSProfile:
    return output_qos(chosen(consumer) if consumer else Parameters())


def verdict(publisher: QoSProfile, subscriber: QoSProfile) -> QoSCompatibility:
    """Ask rclpy; liveliness, which nobody sets here, is automatic in every middleware."""
    pair = [
        QoSProfile(
            depth=qos.depth or 1,
            reliability=qos.reliability,
            durability=qos.durability,
            liveliness=QoSLivelinessPolicy.AUTOMATIC,
        )
        for qos in (publisher, subscriber)
    ]
    return qos_check_compatible(*pair)[0]


@pytest.mark.parametrize('listener', LISTENERS.values(), ids=LISTENERS.keys())
def test_the_consumer_hears_the_node(chosen, listener: Listener):
    assert verdict(ours(listener.consumer, chosen), listener.qos) == QoSCompatibility.OK


@pytest.mark.parametrize('consumer', ['nvblox', 'laserscan'])
def test_system_defaults_do_not_rule_the_node_out(chosen, consumer: str):
    heard = verdict(ours(consumer, chosen), qos_profile_system_default)
    assert heard != QoSCompatibility.ERROR


def test_a_best_effort_node_would_not_be_heard_by_the_laser_scan():
    best_effort = output_qos(Parameters(qos_output='sensor_data'))
    assert verdict(best_effort, RELIABLE) == QoSCompatibility.ERROR


def test_the_semantic_layer_hears_label_info_whenever_it_comes():
    assert verdict(LATCHED, LATCHED_5) == QoSCompatibility.OK
    assert verdict(output_qos(Parameters()), LATCHED_5) == QoSCompatibility.ERROR  # volatile


@pytest.mark.parametrize('consumer', ['nav2', 'rtabmap', 'octomap', 'nvblox', 'laserscan'])
def test_rep_2003_outputs_are_reliable_and_few_are_kept(chosen, consumer: str):
    qos = ours(consumer, chosen)
    assert qos.reliability == QoSReliabilityPolicy.RELIABLE
    assert qos.depth <= 2
