"""The node needs neither a network nor rights: it starts where it has none."""

import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import pytest

PROGRAM = Path(sys.prefix, 'bin', 'dpt_node')
# `unshare` and the shell become the node, so the id of the process is the node's.
PLACES = {
    'only loopback': ['--map-root-user', '--net', 'sh', '-c', 'ip link set lo up && exec "$0"'],
    'no rights': ['--user', 'sh', '-c', 'exec "$0"'],  # as a user whom this machine does not know
}
PROOFS = {
    'only loopback': ('ip route', ''),
    'no rights': ('id -u; grep CapEff /proc/self/status', '65534\nCapEff:\t0000000000000000\n'),
}


def why_not(place: list[str]) -> str:
    """Tell what keeps this machine from making such a place; empty: nothing."""
    for program in ('unshare', 'ip'):
        if not shutil.which(program):
            return f'{program} is not installed'
    tried = subprocess.run(['unshare', *place, 'true'], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ''


@pytest.mark.graph
@pytest.mark.parametrize('name', PLACES)
def test_the_node_starts_and_ends_where_there_is(name: str, new_domain):
    place = PLACES[name]
    if reason := why_not(place):
        pytest.skip(f'no such place: {reason}')
    question, answer = PROOFS[name]
    proof = subprocess.run(
        ['unshare', *place[:-1], question], capture_output=True, text=True, check=True
    )
    assert proof.stdout == answer
    environment = os.environ | {'ROS_DOMAIN_ID': str(new_domain())}
    process = subprocess.Popen(
        ['unshare', *place, PROGRAM], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert any('listening to /image' in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, rest
