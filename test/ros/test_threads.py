"""How much of the machine the node takes: `cpu_threads`, seen from outside."""

from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys

from graph import Graph, image_of, info_of, picture
import psutil
import pytest
from sensor_msgs.msg import Image, PointCloud2

pytestmark = pytest.mark.graph

PROGRAM = Path(sys.prefix, 'bin', 'dpt_node')
WORK = (
    0.8  # seconds that the busiest thread is watched at work; they pass slowly on a busy machine
)
SHARE = 0.2  # of the busiest one's time, from which on another thread is one that computes
TOPICS = (('depth/image', Image), ('segmentation/mask', Image), ('points', PointCloud2))


@contextmanager
def node(domain, threads):
    """Start the node as a user does, with nothing in the environment that limits it."""
    environment = {name: value for name, value in os.environ.items() if 'OMP_' not in name}
    command = [PROGRAM, '--ros-args', '--log-level', 'error', '-p', f'cpu_threads:={threads}']
    process = subprocess.Popen(command, env=environment | {'ROS_DOMAIN_ID': str(domain)})
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def worked(process):
    """Return the seconds that each thread has worked so far."""
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='one core bounds everything')
@pytest.mark.parametrize('threads', [1, 2])
def test_as_many_threads_compute_as_the_node_may_use(new_domain, threads):
    domain = new_domain()
    graph = Graph(domain)
    try:
        with node(domain, threads) as process:
            heard = [graph.listen(f'dpt/{topic}', kind) for topic, kind in TOPICS]
            camera, image, info = graph.camera(), image_of(picture(480, 640)), info_of(640, 480)
            graph.shoot(camera, image, info, lambda: all(heard))
            before = worked(process)

            def since():
                spent = {key: t - before.get(key, 0.0) for key, t in worked(process).items()}
                return spent if max(spent.values()) > WORK else None

            spent = sorted(graph.shoot(camera, image, info, since).values())
    finally:
        graph.close()
    busy = [seconds for seconds in spent if seconds > SHARE * spent[-1]]
    assert len(busy) == threads, spent
