"""Why no image comes, as far as the graph itself can tell."""

from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile


def why_silent(node: Node, topic: str, kind: type[Any], qos: QoSProfile) -> str:
    """
    Say what keeps a topic silent, and the cure.

    :param topic: whole name.
    :param kind: of the messages.
    :param qos: that the node subscribes with.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return _elsewhere(node, topic, kind)
    name = f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'
    others = sorted({p.topic_type for p in publishers} - {name})
    if others:
        return f'{topic} is published as {", ".join(others)} and {name} is wanted: remap the topic'
    compatible = [qos_check_compatible(p.qos_profile, qos) for p in publishers]
    for publisher, (fits, reason) in zip(publishers, compatible, strict=True):
        if fits == QoSCompatibility.ERROR:
            return (
                f'{publisher.node_name} publishes {topic} with a QoS that does not reach this '
                f'node ({reason.strip()}): set qos.input: sensor_data'
            )
    names = ', '.join(sorted({p.node_name for p in publishers}))
    return f'{names} is there to publish {topic} and sends nothing: is the camera streaming?'


def _elsewhere(node: Node, topic: str, kind: type[Any]) -> str:
    """Name the topics that a remapping could mean."""
    name = f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'
    own = node.get_fully_qualified_name()
    found = [
        other
        for other, kinds in node.get_topic_names_and_types()
        if name in kinds and not other.startswith(f'{own}/') and node.count_publishers(other)
    ]
    if not found:
        return f'nobody publishes {topic}, nor any other {name}: start the camera'
    return (
        f'nobody publishes {topic}, but there is {", ".join(sorted(found))}: remap, '
        f'as with -r {topic}:={sorted(found)[0]}'
    )
