"""The list of what is not proven, docs/networks.md: of networks that are, and complete."""

from pathlib import Path
import re

from dpt_ros.zoo.checkpoints import CHECKPOINTS
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'networks.md').read_text()
HEADINGS = ['networks', 'open', 'because', 'instead']


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    section = PAGE.partition(f'## {heading}\n')[2].partition('\n## ')[0]
    lines = [line for line in section.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]


HEAD, _, *ROWS = rows('What is not proven')
OPEN = [(name, row) for row in ROWS for name in re.findall(r'`(\w+)`', row[0])]


def names(what: str) -> list[str]:
    return [name for name, row in OPEN if row[1] == what]


def test_the_table_is_found():
    assert HEAD == HEADINGS
    assert all(len(row) == len(HEADINGS) and all(row) for row in ROWS)


@pytest.mark.parametrize(('name', 'row'), OPEN, ids=lambda v: v if isinstance(v, str) else v[1])
def test_what_is_open_is_of_a_network_that_is_there_and_told_once(name: str, row: list[str]):
    assert name in CHECKPOINTS
    assert names(row[1]).count(name) == 1
    assert not set(row[1:2]) - {'sha256', 'other sizes', 'depth', 'all'}


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[1])
def test_what_stands_instead_is_there(row: list[str]):
    for file in re.findall(r'`([\w/]+\.\w+)`', ' '.join(row[2:])):
        assert (ROOT / file).is_file()


def test_sums_that_are_not_known_whole_are_listed():
    partial = {name for name, entry in CHECKPOINTS.items() if len(entry.sha256 or '') < 64}
    published = {name for name in partial if CHECKPOINTS[name].url is not None}
    assert set(names('sha256')) == published


def test_networks_that_transformers_does_not_have_whole_are_listed():
    # Where positions follow the rule of the authors, no other implementation has it.
    theirs = {
        name
        for name, entry in CHECKPOINTS.items()
        if entry.architecture.positions == 'depth_anything'
    }
    assert theirs <= set(names('other sizes'))


@pytest.mark.parametrize('row', rows('Focal lengths')[2:], ids=lambda row: row[0])
def test_focal_lengths_are_those_of_the_table(row: list[str]):
    pattern = row[0].strip('`').replace('*', '.*')
    found = {e.focal for name, e in CHECKPOINTS.items() if re.fullmatch(pattern, name)}
    (focal,) = found
    assert float(row[1]) == pytest.approx(focal, abs=0.05)


def test_every_focal_length_has_its_row():
    patterns = [row[0].strip('`').replace('*', '.*') for row in rows('Focal lengths')[2:]]
    for name, entry in CHECKPOINTS.items():
        told = sum(re.fullmatch(pattern, name) is not None for pattern in patterns)
        assert told == (entry.focal is not None), name
