"""Memory that was freed stays for the next frame, and goes back when it is asked to."""

import os
import subprocess
import sys

from dpt_ros.memory import SETTINGS
import pytest

ROUNDS = """
import resource, sys
from dpt_ros.memory import give_back_free_memory, keep_free_memory, resident_memory

def work():
    blocks = [b'x' * (15 << 20) for _ in range(3)]

if 'keep' in sys.argv:
    keep_free_memory()
work()
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
full = resident_memory()
give_back_free_memory()
print((full - resident_memory()) >> 20)
"""


def run(*arguments: str, **environment: str) -> tuple[int, int]:
    """Return the pages taken in each round of the same work, and the MB given back in the end."""
    names = {name for name, *_ in SETTINGS}
    rest = {name: value for name, value in os.environ.items() if name not in names}
    told = subprocess.run(
        [sys.executable, '-c', ROUNDS, *arguments],
        env=rest | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    pages, given_back = map(int, told.stdout.split())
    return pages, given_back


@pytest.fixture(autouse=True)
def _glibc() -> None:
    if not os.confstr('CS_GNU_LIBC_VERSION'):
        pytest.skip('not glibc')


def test_what_one_round_freed_is_there_for_the_next():
    assert run('keep')[0] < 100
    assert run()[0] > 5000  # else it would need no help


def test_what_is_kept_goes_back_when_asked():
    assert run('keep')[1] > 40


def test_the_environment_wins():
    assert run('keep', MALLOC_TRIM_THRESHOLD_='131072')[0] > 5000
