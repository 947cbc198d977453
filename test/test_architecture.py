"""The architecture: who may import what. Lazy imports and imports for typing count too."""

import ast
from collections.abc import Iterator
from pathlib import Path
import sys
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / 'dpt_ros'

ROS_CLIENT = {'rclpy', 'launch', 'launch_ros', 'ament_index_python'}
ROS_MESSAGES = {
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'geometry_msgs',
    'lifecycle_msgs',
    'rcl_interfaces',
    'sensor_msgs',
    'sensor_msgs_py',
    'std_msgs',
    'std_srvs',
    'vision_msgs',
}
ROS = ROS_CLIENT | ROS_MESSAGES
INTERNET = {'ftplib', 'http', 'huggingface_hub', 'requests', 'socket', 'ssl', 'urllib'}


class Rule(NamedTuple):
    """Files below the package, and the only or the forbidden imports in them."""

    files: str
    unless: tuple[str, ...] = ()  # patterns of files that the rule spares
    only: frozenset[str] | set[str] = frozenset()  # beside the standard library; empty: anything
    never: frozenset[str] | set[str] = frozenset()


RULES = {
    'the model knows torch, timm and itself': Rule(
        'model/**/*.py', only={'torch', 'timm', 'dpt_ros.model'}
    ),
    'the zoo knows the model, neither ROS nor perception': Rule(
        'zoo/**/*.py',
        never=ROS
        | {
            'dpt_ros.perception',
            'dpt_ros.training',
            'dpt_ros.evaluation',
            'dpt_ros.ros',
            'dpt_ros.tools',
        },
    ),
    'perception knows zoo and model, not ROS': Rule(
        'perception/**/*.py',
        never=ROS | {'dpt_ros.training', 'dpt_ros.evaluation', 'dpt_ros.ros', 'dpt_ros.tools'},
    ),
    'training knows what is below, not ROS': Rule(
        'training/**/*.py', never=ROS | {'dpt_ros.evaluation', 'dpt_ros.ros', 'dpt_ros.tools'}
    ),
    'evaluation knows perception and the data of training, not ROS': Rule(
        'evaluation/**/*.py',
        never=ROS
        | {
            'dpt_ros.training.losses',
            'dpt_ros.training.record',
            'dpt_ros.training.train',
            'dpt_ros.ros',
            'dpt_ros.tools',
        },
    ),
    'the ROS boundary neither trains nor evaluates nor is a tool': Rule(
        'ros/**/*.py', never={'dpt_ros.training', 'dpt_ros.evaluation', 'dpt_ros.tools'}
    ),
    'the way of a frame knows messages, neither threads nor the node': Rule(
        'ros/processor.py',
        never=(ROS - {'sensor_msgs'})
        | {
            'threading',
            'concurrent',
            'queue',
            'dpt_ros.ros.diagnostics',
            'dpt_ros.ros.mailbox',
            'dpt_ros.ros.node',
            'dpt_ros.ros.worker',
        },
    ),
    'weights are downloaded by their command alone': Rule(
        '**/*.py', unless=('tools/commands/fetch.py', 'zoo/fetch.py'), never={'dpt_ros.zoo.fetch'}
    ),
    'one file speaks to the internet': Rule('**/*.py', unless=('zoo/fetch.py',), never=INTERNET),
    'the benchmark is asked by its command alone': Rule(
        '**/*.py', unless=('bench/*.py', 'tools/commands/bench.py'), never={'dpt_ros.bench'}
    ),
    'a running node, the demo and the benchmark alone speak rclpy': Rule(
        '**/*.py',
        unless=(
            'ros/node.py',
            'ros/main.py',
            'ros/diagnostics.py',
            'ros/silence.py',
            'tools/demo*.py',
            'bench/node.py',
            'bench/startup.py',
        ),
        never={'rclpy'},
    ),
}


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of each import; `module` is the importer's own."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                above = module.split('.')[:-level] if level else []
                base = '.'.join([*above, *([name] if name else [])])
                yield from ((node.lineno, f'{base}.{alias.name}') for alias in names)
            case ast.Call(
                func=ast.Name(id='__import__' | 'import_module')
                | ast.Attribute(attr='import_module'),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def is_in(name: str, packages: set[str] | frozenset[str]) -> bool:
    """Tell whether a dotted name is one of the packages or lies in one."""
    return any(f'{name}.'.startswith(f'{package}.') for package in packages)


def module_name(file: Path) -> str:
    """Name a file as it is imported; __init__ stays, so that relative imports resolve."""
    return '.'.join(file.relative_to(PACKAGE.parent).with_suffix('').parts)


@pytest.mark.parametrize('rule', RULES.values(), ids=RULES.keys())
def test_imports_keep_the_rule(rule: Rule):
    files = set(PACKAGE.glob(rule.files)).difference(*map(PACKAGE.glob, rule.unless))
    if not files:
        pytest.skip(f'no file matches {rule.files}')
    broken = [
        f'{file.relative_to(PACKAGE.parent)}:{line} imports {name}'
        for file in sorted(files)
        for line, name in imports(file.read_text(), module_name(file))
        if is_in(name, rule.never)
        or (rule.only and not is_in(name, rule.only | sys.stdlib_module_names))
    ]
    assert not broken, '\n'.join(broken)


@pytest.mark.parametrize(
    ('source', 'name'),
    [
        ('import rclpy.node', 'rclpy.node'),
        ('def f():\n    from rclpy import spin', 'rclpy.spin'),
        ('from . import node', 'dpt_ros.ros.node'),
        ('from ..perception.camera import Camera', 'dpt_ros.perception.camera.Camera'),
        ("importlib.import_module('rclpy')", 'rclpy'),
    ],
)
def test_an_import_is_seen_however_it_is_written(source: str, name: str):
    assert [found for _, found in imports(source, 'dpt_ros.ros.messages')] == [name]
