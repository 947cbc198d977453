"""The files in config/ for consumers load, name what exists, and go with each other."""

from pathlib import Path
import re
from typing import Any

from dpt_ros.ros.outputs import LABEL_INFO, OUTPUTS
from dpt_ros.ros.parameters import FIELDS, read
from dpt_ros.zoo.labels import load_labels
import pytest
import yaml

CONFIG = Path(__file__).parents[2] / 'config'
OURS = sorted(CONFIG.glob('*/dpt.yaml'))
THEIRS = sorted(f for f in CONFIG.glob('*/*.yaml') if f.name != 'dpt.yaml')
TOPICS = {o.topic for o in OUTPUTS} | {LABEL_INFO}


def name(file: Path) -> str:
    return str(file.relative_to(CONFIG))


def test_every_consumer_has_a_file_for_the_node_and_one_of_its_own():
    wanted = {'nav2', 'rtabmap', 'octomap', 'nvblox', 'laserscan'}
    assert {f.parent.name for f in OURS} == {f.parent.name for f in THEIRS} == wanted


@pytest.mark.parametrize('file', OURS, ids=name)
def test_the_node_takes_the_file_as_it_stands(settings: Any, file: Path):
    values = settings(name(file))
    assert set(values) <= set(FIELDS)
    read(values)


@pytest.mark.parametrize('file', OURS, ids=name)
def test_the_file_leaves_the_networks_to_the_user(settings: Any, file: Path):
    assert not {'depth.model', 'segmentation.model', 'weights_dir'} & set(settings(name(file)))


@pytest.mark.parametrize('file', [*OURS, *THEIRS], ids=name)
def test_the_file_fits_nodes_of_any_name(file: Path):
    assert list(yaml.safe_load(file.read_text())) == ['/**']


@pytest.mark.parametrize('file', THEIRS, ids=name)
def test_the_topics_named_are_those_of_the_node(settings: Any, file: Path):
    named = [v for v in settings(name(file)).values() if str(v).startswith('/dpt/')]
    assert {topic.replace('/dpt', '~') for topic in named} <= TOPICS


def test_the_semantic_layer_knows_every_class_of_the_embedded_network_once(settings: Any):
    # A class of label_info that it does not know is an error line, and one without a type is lost.
    layer = settings('nav2/semantic.yaml')
    types = layer['semantic_layer.camera.class_types']
    classes = [c for kind in types for c in layer[f'semantic_layer.camera.{kind}.classes']]
    assert sorted(classes) == sorted(load_labels('worlds_10').names)


@pytest.mark.parametrize(
    ('ours', 'theirs', 'limit'),
    [
        ('nav2', 'nav2/costmap.yaml', 'voxel_layer.points.obstacle_max_range'),
        ('nav2', 'nav2/semantic.yaml', 'semantic_layer.camera.max_obstacle_distance'),
        ('octomap', 'octomap/octomap.yaml', 'sensor_model.max_range'),
        (
            'nvblox',
            'nvblox/nvblox.yaml',
            'static_mapper.projective_integrator_max_integration_distance_m',
        ),
        ('laserscan', 'laserscan/laserscan.yaml', 'range_max'),
    ],
)
def test_depth_reaches_as_far_as_the_consumer_looks(
    settings: Any, ours: str, theirs: str, limit: str
):
    node = read(settings(f'{ours}/dpt.yaml'))
    reach = settings(theirs)[limit]
    assert node.depth_max >= reach
    assert not node.points_clearing_distance or node.points_clearing_distance > reach


# Sections of docs/consumers.md, with the folder they tell of.
SECTIONS = {
    '## Nav2: voxel': 'nav2',
    '## Nav2: semantic': 'nav2',
    '## RTAB-Map': 'rtabmap',
    '## OctoMap': 'octomap',
    '## nvblox': 'nvblox',
    '## depthimage_to_laserscan': 'laserscan',
}


@pytest.mark.parametrize('heading', SECTIONS)
def test_the_values_that_the_page_explains_are_those_of_the_files(settings: Any, heading: str):
    folder, text = SECTIONS[heading], (CONFIG.parent / 'docs/consumers.md').read_text()
    section = text.partition(heading)[2].partition('\n## ')[0]
    theirs = [settings(name(f)) for f in THEIRS if f.parent.name == folder]
    told = 0
    for row in re.findall(r'^\| (.*?) \|', section, re.M):
        files = [settings(f'{folder}/dpt.yaml')] if '(ours)' in row else theirs
        for key, value in re.findall(r'`([\w./]+): ([^`]+)`', row):
            held = [v for f in files for k, v in f.items() if f'.{k}'.endswith(f'.{key}')]
            assert str(yaml.safe_load(value)) in map(str, held), (key, value)
            told += 1
    assert told
