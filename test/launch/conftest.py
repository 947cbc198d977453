"""A node started with config/dpt.yaml, and what another node sees of it."""

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
from time import monotonic
from typing import Any, NamedTuple

from dpt_ros.ros.parameters import FIELDS
import pytest
from rcl_interfaces.srv import GetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile

CONFIG = Path(__file__).parents[2] / 'config/dpt.yaml'
NAMESPACE = f'/defaults_{os.getpid()}'
STARTS_WITHIN = 60.0  # seconds

Endpoints = dict[str, tuple[str, QoSProfile]]  # by name of the topic: its type and QoS


class Seen(NamedTuple):
    """What there is of dpt_node on the graph, by names as its documentation has them."""

    parameters: dict[str, Any]
    publishers: Endpoints
    subscriptions: Endpoints
    services: dict[str, str]
    log: str


@pytest.fixture(scope='session')
def seen(tmp_path_factory: pytest.TempPathFactory, new_domain: Callable[[], int]) -> Seen:
    """Run dpt_node with the file of defaults until it is active, and look at it."""
    domain = new_domain()
    log = tmp_path_factory.mktemp('node') / 'log'
    command = [sys.executable, '-m', 'dpt_ros.ros.main', '--ros-args', '-r', f'__ns:={NAMESPACE}']
    command += ['--params-file', str(CONFIG)]
    settings = {'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    observer = Node('observer', namespace=NAMESPACE, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(observer)
    with log.open('w') as file:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=file, stderr=file)
    try:
        client = observer.create_client(GetParameters, f'{NAMESPACE}/dpt/get_parameters')
        deadline = monotonic() + STARTS_WITHIN
        while not ('listening to' in log.read_text() and client.service_is_ready()):
            assert process.poll() is None, log.read_text()
            assert monotonic() < deadline, log.read_text()
            executor.spin_once(timeout_sec=0.1)
        while ('dpt', NAMESPACE) not in observer.get_node_names_and_namespaces():
            assert monotonic() < deadline, 'the node is not in the graph'
            executor.spin_once(timeout_sec=0.1)
        answer = client.call_async(GetParameters.Request(names=list(FIELDS)))
        executor.spin_until_future_complete(answer, timeout_sec=10)
        values = map(parameter_value_to_python, answer.result().values)
        return _look(observer, dict(zip(FIELDS, values, strict=True)), log.read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        executor.shutdown()
        observer.destroy_node()
        context.try_shutdown()


def _look(observer: Node, parameters: dict[str, Any], log: str) -> Seen:
    who = ('dpt', NAMESPACE)
    publishers = observer.get_publisher_names_and_types_by_node(*who)
    subscriptions = observer.get_subscriber_names_and_types_by_node(*who)
    services = observer.get_service_names_and_types_by_node(*who)
    return Seen(
        parameters,
        _endpoints(publishers, observer.get_publishers_info_by_topic),
        _endpoints(subscriptions, observer.get_subscriptions_info_by_topic),
        {_short(name): _plain(kind) for name, (kind, *_) in services},
        log,
    )


def _endpoints(names: Any, describe: Any) -> Endpoints:
    return {
        _short(name): (_plain(kind), describe(name)[0].qos_profile) for name, (kind, *_) in names
    }


def _short(name: str) -> str:
    return name.replace(f'{NAMESPACE}/dpt/', '~/').removeprefix(f'{NAMESPACE}/')


def _plain(kind: str) -> str:
    """Shorten the name of a type: sensor_msgs/msg/Image -> sensor_msgs/Image."""
    package, _, name = kind.split('/')
    return f'{package}/{name}'
