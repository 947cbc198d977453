"""The end of the process: asked for at any moment, by whatever signals, or not asked for."""

from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys

from diagnostic_msgs.msg import DiagnosticArray
from graph import Graph, image_of, info_of, picture
import psutil
import pytest
from sensor_msgs.msg import Image

pytestmark = pytest.mark.graph

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
PROGRAM = Path(sys.prefix, 'bin', 'dpt_node')
# Seconds until it is gone. Counted as its own processor time, so that they hold on a busy machine.
LOADING, RUNNING = 5.0, 2.0
STUCK = 60  # seconds after which a process that does nothing is taken for stuck


# The node, in which every frame hangs.
HANGING = """
from threading import Event
from dpt_ros.ros import main, processor
processor.Processor.__call__ = lambda *_: Event().wait()
main.main()
"""


@contextmanager
def started(domain, command=(PROGRAM,)):
    """Start the node as a user does; it tells of every import that ends."""
    environment = os.environ | {'ROS_DOMAIN_ID': str(domain), 'PYTHONPROFILEIMPORTTIME': '1'}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def wait_until_it_says(process, words):
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f'it ended before it said {words}')


def end(process, signals):
    """Send signals, and return what it said after that and its own seconds until it was gone."""
    times = psutil.Process(process.pid).cpu_times()
    before = times.user + times.system
    children = os.times()
    for number in signals:
        process.send_signal(number)
    _, rest = process.communicate(timeout=STUCK)
    after = os.times()
    whole = after.children_user + after.children_system
    whole -= children.children_user + children.children_system
    return rest, whole - before


@pytest.mark.parametrize(
    ('moment', 'signals', 'seconds'),
    [
        ('rclpy.context', [INT], LOADING),  # amid the import of rclpy, before ROS is up
        ('rclpy.context', [TERM, INT], LOADING),
        (' torch.nn\n', [INT], LOADING),  # amid that of PyTorch
        (' torch.nn\n', [INT, INT], LOADING),
        ('loading dpt_tiny', [INT, INT], LOADING),
        ('listening to', [INT], RUNNING),
        ('listening to', [TERM], RUNNING),
    ],
)
def test_a_signal_ends_the_process_cleanly(new_domain, moment, signals, seconds):
    with started(new_domain()) as process:
        wait_until_it_says(process, moment)
        rest, spent = end(process, signals)
    assert process.returncode == 0, rest
    assert 'Traceback' not in rest
    assert 'ignored' not in rest
    assert spent < seconds


@pytest.fixture
def domain(new_domain):
    return new_domain()


@pytest.fixture
def camera(domain):
    """Give a function that shows the node an image until depth came back, and the graph."""
    graph = Graph(domain)
    depths = graph.listen('dpt/depth/image', Image)
    camera, image, info = graph.camera(), image_of(picture()), info_of(64, 48)

    def serves():
        depths.clear()
        graph.shoot(camera, image, info, lambda: depths)

    yield serves, graph
    graph.close()


def test_amid_frames_a_hail_of_signals_ends_it_and_it_takes_leave(domain, camera):
    serves, graph = camera
    with started(domain) as process:
        wait_until_it_says(process, 'listening to')
        serves()
        rest, spent = end(process, [INT, TERM, INT])
    assert process.returncode == 0, rest
    assert 'Traceback' not in rest
    assert spent < RUNNING
    # Others believe for 20 s, the lease of Fast DDS, in one that left without a word.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('graph.PATIENCE', 10.0)
        graph.until(lambda: 'dpt' not in graph.client.get_node_names(), 'its farewell')


def test_with_a_frame_that_hangs_a_signal_ends_it(domain):
    ros = ['--ros-args', '-p', 'limits.frame_seconds:=0.1']
    graph = Graph(domain)
    try:
        depths = graph.listen('dpt/depth/image', Image)
        told = graph.listen('/diagnostics', DiagnosticArray)
        with started(domain, [sys.executable, '-c', HANGING, *ros]) as process:
            wait_until_it_says(process, 'listening to')
            graph.shoot(
                graph.camera(),
                image_of(picture()),
                info_of(64, 48),
                lambda: any(a.status[0].message.startswith('stalled') for a in told),
            )
            rest, spent = end(process, [INT])
    finally:
        graph.close()
    assert not depths
    assert process.returncode == 0, rest
    assert 'Traceback' not in rest
    assert spent < RUNNING


def test_killed_and_started_again_it_serves_the_same_listeners(domain, camera):
    serves, _ = camera
    for _ in range(2):
        with started(domain) as process:
            wait_until_it_says(process, 'listening to')
            serves()
            end(process, [KILL])
