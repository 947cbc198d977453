"""The node needs no network: it starts where there is only the loopback device."""

import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import pytest

PROGRAM = Path(sys.prefix, 'bin', 'dpt_node')
# `unshare` and the shell become the node, so the id of the process is the node's.
ALONE = ['unshare', '--map-root-user', '--net', 'sh', '-c', 'ip link set lo up && exec "$0"']


def why_not() -> str:
    """Tell what keeps this machine from making a network namespace; empty: nothing."""
    for program in ('unshare', 'ip'):
        if not shutil.which(program):
            return f'{program} is not installed'
    tried = subprocess.run([*ALONE, 'true'], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ''


@pytest.mark.graph
def test_the_node_starts_and_ends_without_a_network(new_domain):
    if reason := why_not():
        pytest.skip(f'no network namespace: {reason}')
    routes = subprocess.run([*ALONE[:-1], 'ip route'], capture_output=True, text=True)
    assert not routes.stdout
    environment = os.environ | {'ROS_DOMAIN_ID': str(new_domain())}
    process = subprocess.Popen(
        [*ALONE, PROGRAM], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert any('listening to /image' in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, rest
