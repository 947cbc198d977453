"""The RViz configuration shows topics that exist, as the types that they are."""

import ast
from pathlib import Path
from typing import Any

from dpt_ros.ros.outputs import OUTPUTS
from dpt_ros.tools.demo_camera import FRAME
import pytest
from sensor_msgs.msg import Image
import yaml

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / 'config/rviz/dpt.rviz').read_text())['Visualization Manager']
SHOWN = {d['Topic']['Value']: d for d in CONFIG['Displays'] if 'Topic' in d}
TYPES: dict[str, type] = {o.topic.replace('~', 'dpt'): o.message for o in OUTPUTS}


def default_image() -> str:
    """Read the default of the launch argument `image`."""
    tree = ast.parse((ROOT / 'launch/dpt.launch.py').read_text())
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'ARGUMENTS'
    )
    return next(
        ast.literal_eval(value.elts[0])
        for key, value in zip(table.keys, table.values, strict=True)
        if key.value == 'image'
    )


def test_image_depth_overlay_and_cloud_are_shown():
    wanted = [default_image(), 'dpt/depth/color', 'dpt/segmentation/overlay', 'dpt/points']
    assert list(SHOWN) == wanted


@pytest.mark.parametrize('topic', SHOWN)
def test_a_display_has_the_type_of_its_topic(topic: str):
    message = TYPES.get(topic, Image)
    assert SHOWN[topic]['Class'] == f'rviz_default_plugins/{message.__name__}'


@pytest.mark.parametrize('topic', SHOWN)
def test_a_display_hears_its_topic_with_the_default_qos(topic: str):
    qos: dict[str, Any] = SHOWN[topic]['Topic']
    assert qos['Durability Policy'] == 'Volatile'
    # A driver's images may be best effort, which a reliable display would not hear.
    assert qos['Reliability Policy'] == ('Reliable' if topic in TYPES else 'Best Effort')


def test_the_fixed_frame_is_that_of_the_demo_camera():
    assert CONFIG['Global Options']['Fixed Frame'] == FRAME
