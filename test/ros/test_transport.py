"""The shared memory of Fast DDS is one that a frame fits in, unless its user has chosen."""

from collections import namedtuple
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

from dpt_ros.ros import transport
from dpt_ros.ros.transport import choose_transport, SEGMENT, SPARE
import pytest

NEW, OLD, _ = transport.VARIABLES
FILE = Path(sys.prefix, 'share', 'dpt_ros', 'config', 'fastdds.xml')


@pytest.fixture(autouse=True)
def free(monkeypatch):
    """Say how much shared memory is free; at first enough."""
    usage = namedtuple('usage', 'free')
    monkeypatch.setenv('AMENT_PREFIX_PATH', sys.prefix)

    def say(size: int) -> None:
        monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(size))

    say(SEGMENT + SPARE)
    return say


def chosen(**environment: str) -> dict[str, str]:
    """Return what is added to an environment."""
    after = dict(environment)
    choose_transport(after)
    return {name: value for name, value in after.items() if environment.get(name) != value}


@pytest.mark.parametrize(
    ('distribution', 'variable'),
    [('kilted', NEW), ('rolling', NEW), ('jazzy', OLD), ('humble', OLD)],
)
def test_each_distribution_is_told_by_its_variable(distribution: str, variable: str):
    assert chosen(ROS_DISTRO=distribution) == {variable: str(FILE)}


def test_without_a_distribution_it_is_a_new_one():
    assert chosen() == {NEW: str(FILE)}


@pytest.mark.parametrize('variable', transport.VARIABLES)
def test_what_the_user_chose_stays(variable: str):
    assert chosen(**{variable: 'anything'}) == {}
    assert chosen(**{variable: ''}) == {NEW: str(FILE)}


def test_where_there_is_no_room_all_stays_as_it_is(free):
    free(SEGMENT + SPARE - 1)
    assert chosen() == {}


def test_where_there_is_no_shared_memory_all_stays_as_it_is(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv('AMENT_PREFIX_PATH', sys.prefix)
    monkeypatch.setattr(transport, 'SHARED_MEMORY', Path('/nowhere'))
    assert chosen() == {}


@pytest.mark.parametrize('path', ['', '/nowhere'])
def test_what_is_not_installed_is_not_used(monkeypatch, path: str):
    monkeypatch.setenv('AMENT_PREFIX_PATH', path)
    assert chosen() == {}


def test_the_file_says_the_size_that_room_is_looked_for():
    assert f'<segment_size>{SEGMENT}</segment_size>' in FILE.read_text(encoding='utf-8')


@pytest.mark.graph
@pytest.mark.parametrize('own', [False, True])
def test_fast_dds_obeys(new_domain, own: bool):
    environment = os.environ | {'ROS_DOMAIN_ID': str(new_domain())}
    if own:
        environment['FASTDDS_BUILTIN_TRANSPORTS'] = 'DEFAULT'
    program = Path(sys.prefix, 'bin', 'dpt_node')
    process = subprocess.Popen(
        [program], stderr=subprocess.PIPE, text=True, env=environment, encoding='utf-8'
    )
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if 'listening to' in line:
                break
        assert 'listening to' in said[-1]
        assert not any('ERROR' in line or 'RTPS' in line for line in said)
        largest = max(_segments(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stderr.close()
    assert largest >= SEGMENT if not own else largest < SEGMENT


def _segments(process: int) -> list[int]:
    """Return the sizes of the shared memory that a process has from Fast DDS, in bytes."""
    sizes = []
    for line in Path(f'/proc/{process}/maps').read_text(encoding='utf-8').splitlines():
        if '/dev/shm/fastdds_' in line:
            first, last = (int(address, 16) for address in line.split()[0].split('-'))
            sizes.append(last - first)
    return sizes
