"""How long the node takes from the start of its process until it is active."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import json
import os
import subprocess
import sys
from time import monotonic

import numpy as np


@dataclass(frozen=True)
class Startup:
    """Seconds since the process was started, with the node's defaults; medians."""

    ros: float  # rclpy is imported and up
    imported: float  # so is the node, with PyTorch
    configured: float  # the network is loaded and has run once
    active: float  # it listens
    cpu: float  # seconds that all its threads worked until then


def bench_startup(repeats: int, show: Callable[[], object]) -> Startup:
    """Start the node in a process of its own, so many times."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, '-m', 'dpt_ros.bench.startup', repr(monotonic())]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        show()
    return Startup(**{name: float(np.median([run[name] for run in runs])) for name in runs[0]})


def start(began: float) -> Startup:
    """
    Do in this process what `dpt_node` does, and tell how long each step took.

    :param began: when this process was started, as `monotonic` has it.
    """
    from dpt_ros.process import prepare_process

    prepare_process()
    import rclpy
    from rclpy.lifecycle import TransitionCallbackReturn

    rclpy.init(args=['--ros-args', '--log-level', 'error'])
    ros = monotonic()
    from dpt_ros.ros.node import DptNode

    imported = monotonic()
    node = DptNode()
    node.trigger_configure()
    configured = monotonic()
    done = node.trigger_activate()
    active = monotonic()
    times = os.times()
    if done != TransitionCallbackReturn.SUCCESS:
        raise RuntimeError('the node did not become active; its log says why')
    node.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    ended = (ros - began, imported - began, configured - began, active - began)
    return Startup(*ended, times.user + times.system)


if __name__ == '__main__':
    sys.stdout.write(json.dumps(asdict(start(float(sys.argv[1])))) + '\n')
