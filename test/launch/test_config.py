"""config/dpt.yaml has every parameter at its default, and the node reads it as it stands."""

from collections.abc import Iterator
import math
from pathlib import Path
import re
from typing import Any

from dpt_ros.ros.parameters import FIELDS, read
import pytest
import yaml

CONFIG = Path(__file__).parents[2] / 'config/dpt.yaml'
TEXT = CONFIG.read_text()


def flatten(tree: dict[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of nested groups."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


VALUES = dict(flatten(yaml.safe_load(TEXT)['/**']['ros__parameters']))


def equal(one: object, other: object) -> bool:
    """Compare type and value; NaN equals NaN, and a list is a tuple."""
    one, other = (tuple(x) if isinstance(x, list) else x for x in (one, other))
    if type(one) is not type(other):
        return False
    both_nan = isinstance(one, float) and math.isnan(one) and math.isnan(other)
    return both_nan or one == other


def test_every_parameter_is_in_the_file_and_nothing_else():
    assert sorted(VALUES) == sorted(FIELDS)


@pytest.mark.parametrize('name', FIELDS)
def test_the_file_has_the_default(name: str):
    assert equal(VALUES[name], FIELDS[name].default)


def test_the_file_is_accepted_as_it_stands():
    read(VALUES)


def comment_above(name: str) -> str:
    """Return the comment above a parameter of the file."""
    *groups, last = name.split('.')
    start = TEXT.index(f'\n    {groups[0]}:\n') if groups else 0
    indent = 6 if groups else 4
    pattern = rf'((?:^ {{{indent}}}#.*\n)+)^ {{{indent}}}{last}:'
    found = re.compile(pattern, re.M).search(TEXT, start)
    return found[1] if found else ''


@pytest.mark.parametrize('name', FIELDS)
def test_every_parameter_is_explained_and_said_to_be_live_if_it_is(name: str):
    comment = comment_above(name)
    assert comment
    assert ('Live.' in comment) == FIELDS[name].metadata['live']


@pytest.mark.graph
@pytest.mark.parametrize('name', FIELDS)
def test_the_node_reads_the_value_of_the_file(seen: Any, name: str):
    assert equal(seen.parameters[name], VALUES[name])


@pytest.mark.graph
def test_the_node_says_nothing_against_the_file(seen: Any):
    assert 'ERROR' not in seen.log
    assert 'cannot' not in seen.log
