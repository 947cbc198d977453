"""What `make audit` makes of what pip-audit tells; the advisories themselves need a network."""

from importlib.util import module_from_spec, spec_from_file_location
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SPEC = spec_from_file_location('audit', ROOT / 'scripts' / 'audit.py')
audit = module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

WELL: dict[str, Any] = {'name': 'numpy', 'version': '2.4.0', 'vulns': []}
HOLE = {'id': 'PYSEC-1', 'fix_versions': ['9.1', '10.0'], 'aliases': [], 'description': ''}
ILL = {'name': 'pillow', 'version': '9.0', 'vulns': [HOLE]}
UNKNOWN = {'name': 'torch', 'skip_reason': 'Dependency not found'}


@pytest.mark.parametrize(
    ('packages', 'words', 'well'),
    [
        ([WELL], '1 packages audited, 0 vulnerabilities', True),
        ([WELL, UNKNOWN], '1 are not known there: torch', True),
        (
            [WELL, ILL],
            'pillow 9.0: PYSEC-1, mended in 9.1, 10.0\n2 packages audited, 1 vul',
            False,
        ),
        ([UNKNOWN, UNKNOWN], 'cannot be reached, so nothing was audited', False),  # a proxy's 404
    ],
)
def test_the_verdict(packages: list[dict[str, Any]], words: str, well: bool):
    told = audit.verdict(json.dumps({'dependencies': packages, 'fixes': []}))
    assert words in told[0]
    assert told[1] == well


def test_without_an_answer_nothing_is_said_to_be_well():
    words, well = audit.verdict('')
    assert not well and '\n' not in words


def test_every_file_of_pins_is_audited():
    assert {file.name for file in audit.FILES} == {
        f'{file.stem}.txt' for file in (ROOT / 'requirements').glob('*.in')
    }
