"""The reference tables in docs/ say what the code says, row for row."""

from importlib.util import find_spec
from pathlib import Path
import re
from typing import Any

from dpt_ros.evaluation.datasets import DATASETS
from dpt_ros.evaluation.metrics import DEPTH, LABELS
from dpt_ros.ros.inputs import INPUTS
from dpt_ros.ros.outputs import LABEL_INFO, OUTPUTS
from dpt_ros.ros.parameters import FIELDS, Parameters
import pytest
import yaml

DOCS = Path(__file__).parents[2] / 'docs'


def type_of(message: type) -> str:
    """Name the type of a message as ROS does."""
    return f'{message.__module__.split(".")[0]}/{message.__name__}'


INPUT_TYPES = {one.topic: type_of(one.message) for one in INPUTS}
BY_CHOICE = {one.topic for one in INPUTS if not one.wanted(Parameters())}
OUTPUT_TYPES = {
    **{output.topic: type_of(output.message) for output in OUTPUTS},
    LABEL_INFO: 'vision_msgs/LabelInfo',
    '/diagnostics': 'diagnostic_msgs/DiagnosticArray',
}
SERVICES = {'~/enable': 'std_srvs/SetBool'}


def rows(file: str, heading: str = '# ') -> list[list[str]]:
    """Return the cells of the tables below a heading of a file, without their header lines."""
    _, _, below = (DOCS / file).read_text().partition(heading)
    section = below.partition('\n## ')[0]
    lines = [line for line in section.splitlines() if line.startswith('| `')]
    return [[cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]] for line in lines]


def parameter_row(name: str) -> str:
    """Write the row of docs/parameters.md that a parameter ought to have."""
    field = FIELDS[name]
    facts = field.metadata
    default = yaml.safe_dump(field.default, default_flow_style=True).splitlines()[0]
    kinds = {bool: 'boolean', int: 'integer', float: 'number', str: 'text', tuple: 'list of texts'}
    kind = kinds[type(field.default)]
    values = kind
    if facts['choices']:
        values = ', '.join(f'`{choice}`' for choice in facts['choices'])
    elif facts['bounds']:
        low, high = facts['bounds']
        values = f'{kind}, {low:g} to {high:g}'
    live = 'yes' if facts['live'] else ''
    return f'| `{name}` | `{default}` | {values} | {live} | {facts["description"]} |'


@pytest.mark.parametrize('name', FIELDS)
def test_each_parameter_has_its_row(name: str):
    assert parameter_row(name) in (DOCS / 'parameters.md').read_text().splitlines()


def test_only_parameters_have_rows_in_the_order_of_the_code():
    assert [cells[0] for cells in rows('parameters.md')] == [f'`{name}`' for name in FIELDS]


@pytest.mark.parametrize(
    ('heading', 'wanted'),
    [('## Inputs', INPUT_TYPES), ('## Outputs', OUTPUT_TYPES), ('## Services', SERVICES)],
)
def test_topics_and_services_are_listed_with_their_types_and_nothing_else(
    heading: str, wanted: dict[str, str]
):
    listed = [(cells[0].strip('`'), cells[1]) for cells in rows('topics.md', heading)]
    assert sorted(listed) == sorted(wanted.items())


@pytest.mark.graph
def test_the_node_has_the_topics_that_the_page_lists(seen: Any):
    listed = {cells[0].strip('`'): cells for cells in rows('topics.md', '## Outputs')}
    absent = {name for name in listed if 'inverse_depth' in name}  # the default is metric
    if find_spec('vision_msgs') is None:
        absent.add(LABEL_INFO)
    infrastructure = {'/rosout', '/parameter_events', '~/transition_event'}
    assert set(seen.publishers) - infrastructure == set(listed) - absent
    assert {name: kind for name, (kind, _) in seen.publishers.items() if name in listed} == {
        name: cells[1] for name, cells in listed.items() if name not in absent
    }
    assert {n: k for n, (k, _) in seen.subscriptions.items() if n in INPUT_TYPES} == {
        name: kind for name, kind in INPUT_TYPES.items() if name not in BY_CHOICE
    }
    assert SERVICES.items() <= seen.services.items()


@pytest.mark.graph
def test_topics_have_the_qos_that_the_page_tells(seen: Any):
    page = (DOCS / 'topics.md').read_text()
    inputs = {seen.subscriptions[name][1].reliability.name for name in ('image', 'camera_info')}
    outputs = {
        (qos.reliability.name, qos.durability.name)
        for name, (_, qos) in seen.publishers.items()
        if name.startswith('~/') and name not in ('~/transition_event', LABEL_INFO)
    }
    assert inputs == {'BEST_EFFORT'}
    assert 'Best effort, keep last 1:' in page
    assert outputs == {('RELIABLE', 'VOLATILE')}
    assert 'Reliable, keep last 2, volatile:' in page


def test_the_page_on_evaluation_names_every_data_set_and_score():
    listed = {cells[0].strip('`') for cells in rows('evaluation.md', '## Data sets')}
    assert listed == set(DATASETS)
    told = {
        key.strip(' `')
        for cells in rows('evaluation.md', '## What `--json` holds')
        for key in cells[0].split(',')
    }
    assert {*DEPTH, *LABELS, 'conditions', 'baselines', 'published', 'aligned', 'iou'} <= told
