"""Parameter files: which of their values are this node's."""

from pathlib import Path

from dpt_ros.ros.parameters import FIELDS
from dpt_ros.tools.parameter_file import read_parameter_file
import pytest

CONFIG = Path(__file__).parents[2] / 'config' / 'dpt.yaml'


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / 'p.yaml'
    file.write_text(text)
    return file


def test_the_file_of_the_package_gives_every_parameter():
    assert read_parameter_file(CONFIG, '/dpt').keys() == FIELDS.keys()


@pytest.mark.parametrize(
    ('name', 'fits'),
    [
        ('/**', True),
        ('/camera/dpt', True),
        ('camera/dpt', True),
        ('/*/dpt', True),
        ('/**/dpt', True),
        ('/camera/*', True),
        ('dpt', False),
        ('/*', False),
        ('/front/dpt', False),
        ('/camera/dpt2', False),
    ],
)
def test_names_and_wildcards_fit_as_in_rcl(tmp_path: Path, name: str, fits: bool):
    file = write(tmp_path, f'"{name}":\n  ros__parameters: {{depth: {{max: 5.0}}}}\n')
    assert read_parameter_file(file, '/camera/dpt') == ({'depth.max': 5.0} if fits else {})


def test_namespaces_may_stand_above_the_node(tmp_path: Path):
    file = write(tmp_path, '/camera:\n  dpt:\n    ros__parameters: {depth.max: 5.0}\n')
    assert read_parameter_file(file, '/camera/dpt') == {'depth.max': 5.0}


def test_what_comes_later_wins_and_others_parameters_do_not_count(tmp_path: Path):
    file = write(
        tmp_path,
        '/**: {ros__parameters: {device: cpu, use_sim_time: true}}\n'
        'dpt: {ros__parameters: {device: cuda}}\n'
        'usb_cam: {ros__parameters: {framerate: 30.0}}\n',
    )
    assert read_parameter_file(file, '/dpt') == {'device': 'cuda'}


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('a: [', 'is not YAML'),
        (
            '/**: {ros__parameters: {a: &a [1], depth: *a}}',
            'no aliases, write it out in .* line 1',
        ),
        ('/**: &a {b: *a}', 'no aliases'),
        ('a: !!int ""', 'is not YAML that ROS reads'),
        ('a: !!timestamp no', 'is not YAML that ROS reads'),
        (500 * '[', 'is not YAML that ROS reads'),
        ('depth: {max: 5.0}', 'is no parameter file: it has no `ros__parameters:`'),
        ('', 'is no parameter file'),
        ('/**: {ros__parameters: {depth: {mx: 5.0}}}', "nothing reads the parameters 'depth.mx'"),
    ],
)
def test_what_will_not_do_is_one_sentence(tmp_path: Path, text: str, told: str):
    with pytest.raises(ValueError, match=told) as caught:
        read_parameter_file(write(tmp_path, text), '/dpt')
    assert '\n' not in str(caught.value)
