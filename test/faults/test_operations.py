"""docs/operations.md tells what the code says: every fault, every warning and every error."""

import ast
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from dpt_ros.ros.faults import FAULTS
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'operations.md').read_text()
LEVELS = {DiagnosticStatus.WARN: 'WARN', DiagnosticStatus.ERROR: 'ERROR'}


def sentences():
    """Yield where a warning or an error is logged, and its longest text that never changes."""
    for file in sorted((ROOT / 'dpt_ros' / 'ros').glob('*.py')):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr='warning' | 'error'), args=[said, *_]):
                    parts = said.values if isinstance(said, ast.JoinedStr) else [said]
                    texts = [p.value for p in parts if isinstance(p, ast.Constant)]
                    yield f'{file.name}:{node.lineno}', max(texts, key=len, default='')


SENTENCES = dict(sentences())
UNTOLD = {'main.py'}  # what a callback raised, which is not foreseen


def test_the_lines_of_the_log_are_found():
    assert len(SENTENCES) >= 8


@pytest.mark.parametrize('place', SENTENCES)
def test_every_warning_and_error_stands_in_operations(place):
    words = SENTENCES[place].strip(' :;,(\n')
    if place.partition(':')[0] in UNTOLD:
        assert not words
        return
    assert words, f'{place} says nothing that can be looked up'
    assert words in PAGE


@pytest.mark.parametrize(('kind', 'fault'), FAULTS.items(), ids=FAULTS.keys())
def test_every_fault_has_its_row(kind, fault):
    assert f'| `{kind}` | {LEVELS[fault.level]} | {fault.cause} | {fault.cure} |' in PAGE


def test_there_are_no_rows_of_faults_that_do_not_exist():
    section = PAGE.partition('## Kinds of faults')[2].partition('\n## ')[0]
    rows = [line for line in section.splitlines() if line.startswith('| `')]
    assert len(rows) == len(FAULTS)


@pytest.mark.parametrize('message', ['nobody listens', 'paused', 'inactive', 'no image came'])
def test_every_state_is_explained(message):
    assert f'`{message}`' in PAGE
