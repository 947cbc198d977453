"""Settings of every test: the ament index of this environment, and ROS on this machine only."""

from itertools import count
import os
import sys

import pytest
import torch

# One thread each, here and in processes that tests start: threads that wait for each other on a
# busy machine take many times as long.
os.environ['OMP_NUM_THREADS'] = '1'
torch.set_num_threads(1)
os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'


@pytest.fixture(scope='session')
def new_domain():
    """Give ROS domain ids that no other test of this run has; 0 and those above 100 stay free."""
    worker = os.environ.get('PYTEST_XDIST_WORKER')  # gw0, gw1, ... of one parent; else none
    first = os.getpid() if worker is None else os.getppid() + int(worker.removeprefix('gw'))
    domains = count(first, int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1')))
    return lambda: next(domains) % 99 + 1


@pytest.fixture
def graph(new_domain):
    """Give a ROS graph of its own with a client in it; it ends with the test."""
    from graph import Graph  # imports the node, which most tests do without

    made = Graph(new_domain())
    yield made
    made.close()
