"""
The launch files: read as text everywhere, and run where launch and launch_ros are.

It is run against packages made here whose executables only write down how they were called.
"""

import ast
import json
from pathlib import Path
import runpy
import shutil
import sys
from typing import NamedTuple

from dpt_ros.tools.demo_camera import PARAMETERS
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE, DEMO, CONSUMER = (ROOT / f'launch/{n}.launch.py' for n in ('dpt', 'demo', 'consumer'))
EVERY = pytest.mark.parametrize('file', [FILE, DEMO, CONSUMER], ids=['dpt', 'demo', 'consumer'])
ARGUMENTS = {
    'image',
    'camera_info',
    'params_file',
    'model',
    'segmentation_model',
    'device',
    'namespace',
    'log_level',
    'rviz',
}
OF_DEMO = {'source', 'rate', 'intrinsics', 'namespace'}
# Writes its command line, and the parameter files that may be gone later, as JSON.
EXECUTABLE = """#!{python}
import json, pathlib, sys
files = [a for b, a in zip(sys.argv, sys.argv[1:]) if b == '--params-file']
said = {{'arguments': sys.argv[1:], 'files': [pathlib.Path(f).read_text() for f in files]}}
pathlib.Path('{log}').write_text(json.dumps(said))
"""


OF_CONSUMERS = {  # what each starts, and topics of dpt_node that it is given
    'nav2': (('nav2_costmap_2d', 'lifecycle_manager'), {'points'}),
    'nav2_semantic': (
        ('nav2_costmap_2d', 'lifecycle_manager'),
        {'points', 'segmentation/mask', 'segmentation/confidence', 'segmentation/label_info'},
    ),
    'rtabmap': (('rgbd_odometry', 'rtabmap'), {'color/image', 'color/camera_info', 'depth/image'}),
    'octomap': (('octomap_server_node',), {'points'}),
    'nvblox': (
        ('nvblox_node',),
        {'color/image', 'color/camera_info', 'depth/image', 'depth/camera_info'},
    ),
    'laserscan': (('depthimage_to_laserscan_node',), {'depth/image', 'depth/camera_info'}),
}
EXECUTABLES = (
    ('dpt_ros', 'dpt_node'),
    ('dpt_ros', 'dpt_camera'),
    ('rviz2', 'rviz2'),
    ('nav2_costmap_2d', 'nav2_costmap_2d'),
    ('nav2_lifecycle_manager', 'lifecycle_manager'),
    ('rtabmap_odom', 'rgbd_odometry'),
    ('rtabmap_slam', 'rtabmap'),
    ('octomap_server', 'octomap_server_node'),
    ('nvblox_ros', 'nvblox_node'),
    ('depthimage_to_laserscan', 'depthimage_to_laserscan_node'),
)


class Call(NamedTuple):
    """How an executable was called."""

    arguments: list[str]
    files: list[str]  # contents of the parameter files, in their order

    def after(self, option: str) -> list[str]:
        """Return the words that follow an option, wherever it stands."""
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        return [value for name, value in pairs if name == option]


@EVERY
def test_it_imports_nothing_that_a_launch_file_would_have_to_install(file: Path):
    tree = ast.parse(file.read_text())
    names = [n.module or '' for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    roots = {name.split('.')[0] for name in names}
    assert roots - sys.stdlib_module_names == {'launch', 'launch_ros'}


def test_its_arguments_are_those_promised():
    assert set(table(FILE)) == ARGUMENTS
    assert set(table(DEMO)) == OF_DEMO


def test_the_demo_starts_the_camera_with_its_own_defaults():
    own = {name: str(default) for name, (default, _) in PARAMETERS.items()}
    assert {name: default for name, (default, _) in table(DEMO).items() if name in own} == own


def table(file: Path) -> dict[str, list[str]]:
    """Read the table of arguments of a launch file: default, which may be code, and text."""
    assignments = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.Assign)]
    (given,) = (a.value for a in assignments if ast.unparse(a.targets[0]) == 'ARGUMENTS')
    return {
        key.value: [getattr(word, 'value', '') for word in value.elts]
        for key, value in zip(given.keys, given.values, strict=True)
    }


def test_defaults_of_parameters_are_left_to_the_yaml():
    text = FILE.read_text()
    assert not [name for name in ('dpt_tiny', 'auto:', "'auto',") if name in text]


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make dpt_ros and rviz2 in a prefix of their own: the real files, executables that log."""
    for package, executable in EXECUTABLES:
        marker = tmp_path / 'share/ament_index/resource_index/packages' / package
        script = tmp_path / 'lib' / package / executable
        for folder in (marker.parent, script.parent, tmp_path / 'share' / package):
            folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
        script.write_text(EXECUTABLE.format(python=sys.executable, log=tmp_path / executable))
        script.chmod(0o755)
    for folder in ('config', 'launch'):
        shutil.copytree(ROOT / folder, tmp_path / 'share/dpt_ros' / folder)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'log'))
    return tmp_path


def launch(prefix: Path, file: Path = FILE, **arguments: str) -> dict[str, Call]:
    """Run a launch file to its end and tell what it called."""
    # By these names: a mere `launch` would be found as this very folder.
    pytest.importorskip('launch.actions')
    pytest.importorskip('launch_ros.actions')
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(file))
    included = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    service = LaunchService(noninteractive=True)
    service.include_launch_description(LaunchDescription([included]))
    assert service.run() == 0
    logs = {name: prefix / name for _, name in EXECUTABLES}
    return {n: Call(**json.loads(log.read_text())) for n, log in logs.items() if log.exists()}


def test_by_default_the_node_alone_starts_with_the_installed_parameters(prefix: Path):
    calls = launch(prefix)
    assert list(calls) == ['dpt_node']
    assert calls['dpt_node'].after('--params-file') == [
        str(prefix / 'share/dpt_ros/config/dpt.yaml')
    ]
    assert set(calls['dpt_node'].after('-r')) >= {
        '__node:=dpt',
        'image:=image_raw',
        'image/compressed:=image_raw/compressed',
        'camera_info:=camera_info',
    }


def test_camera_info_is_looked_for_beside_the_image(prefix: Path):
    node = launch(prefix, image='/camera/color/image_raw')['dpt_node']
    assert 'image:=/camera/color/image_raw' in node.after('-r')
    assert 'image/compressed:=/camera/color/image_raw/compressed' in node.after('-r')
    assert 'camera_info:=/camera/color/camera_info' in node.after('-r')


def test_camera_info_can_be_anywhere(prefix: Path):
    node = launch(prefix, image='/a/image', camera_info='/b/info')['dpt_node']
    assert 'camera_info:=/b/info' in node.after('-r')


@pytest.mark.parametrize(
    ('argument', 'value', 'parameter'),
    [
        ('model', 'dpt_hybrid_nyu', 'depth.model'),
        ('segmentation_model', 'dpt_hybrid_ade20k', 'segmentation.model'),
        ('device', 'cuda:1', 'device'),
    ],
)
def test_an_argument_overrides_its_parameter_and_no_other(
    prefix: Path, argument: str, value: str, parameter: str
):
    node = launch(prefix, namespace='front', **{argument: value})['dpt_node']
    file, override = map(yaml.safe_load, node.files)  # the later one wins
    assert '/**' in file
    assert override == {'/front/dpt': {'ros__parameters': {parameter: value}}}


def test_a_parameter_file_takes_the_place_of_the_installed_one(prefix: Path):
    own = prefix / 'own.yaml'
    own.write_text('/**: {ros__parameters: {cpu_threads: 1}}')
    assert launch(prefix, params_file=str(own))['dpt_node'].files == [own.read_text()]


def test_rviz_follows_the_node_into_its_namespace(prefix: Path):
    calls = launch(prefix, namespace='front', image='/cam/image', rviz='true')
    config = str(prefix / 'share/dpt_ros/config/rviz/dpt.rviz')
    assert calls['rviz2'].after('-d') == [config]
    assert {'__ns:=/front', 'image_raw:=/cam/image'} <= set(calls['rviz2'].after('-r'))
    assert '__ns:=/front' in calls['dpt_node'].after('-r')


def test_log_level_goes_to_the_node(prefix: Path):
    assert launch(prefix, log_level='debug')['dpt_node'].after('--log-level') == ['debug']


def test_rviz_is_found_missing_before_the_node_runs_unattended():
    # A launch that fails at its second process leaves the first one running.
    launch_context = pytest.importorskip('launch.launch_context')
    pytest.importorskip('launch_ros.actions')
    context = launch_context.LaunchContext()
    context.launch_configurations.update(dict.fromkeys(ARGUMENTS, ''), rviz='true')
    nodes = runpy.run_path(str(FILE))['start'](context)
    assert [node.node_executable for node in nodes] == ['rviz2', 'dpt_node']


def test_the_demo_is_a_camera_and_the_node_in_one_namespace(prefix: Path):
    calls = launch(prefix, DEMO)
    assert set(calls) == {'dpt_camera', 'dpt_node'}
    assert {'__ns:=/camera', '__node:=camera'} <= set(calls['dpt_camera'].after('-r'))
    assert {'__ns:=/camera', 'image:=image_raw'} <= set(calls['dpt_node'].after('-r'))
    (told,) = map(yaml.safe_load, calls['dpt_camera'].files)
    assert told['/camera/camera']['ros__parameters'] == {
        name: default for name, (default, _) in PARAMETERS.items()
    }


def test_the_camera_of_the_demo_is_told_what_it_shows(prefix: Path):
    given = {'source': '2024', 'rate': '5', 'intrinsics': '600,600,320,240'}
    (told,) = launch(prefix, DEMO, namespace='eye', **given)['dpt_camera'].files
    parameters = yaml.safe_load(told)['/eye/camera']['ros__parameters']
    assert parameters == {'source': '2024', 'rate': 5.0, 'intrinsics': '600,600,320,240'}


def test_the_demo_passes_the_arguments_of_the_node_on(prefix: Path):
    calls = launch(prefix, DEMO, model='dpt_hybrid_nyu', rviz='true')
    assert set(calls) == {'dpt_camera', 'dpt_node', 'rviz2'}
    _, override = map(yaml.safe_load, calls['dpt_node'].files)
    assert override == {'/camera/dpt': {'ros__parameters': {'depth.model': 'dpt_hybrid_nyu'}}}
    assert '__ns:=/camera' in calls['rviz2'].after('-r')


@pytest.mark.parametrize('consumer', OF_CONSUMERS)
def test_a_consumer_starts_beside_the_node_with_the_parameters_for_both(
    prefix: Path, consumer: str
):
    calls = launch(prefix, CONSUMER, consumer=consumer, image='/camera/image_raw')
    started, topics = OF_CONSUMERS[consumer]
    assert set(calls) == {'dpt_node', *started}
    folder = prefix / 'share/dpt_ros/config' / consumer.split('_')[0]
    assert calls['dpt_node'].files == [(folder / 'dpt.yaml').read_text()]
    assert 'image:=/camera/image_raw' in calls['dpt_node'].after('-r')
    for name in started:
        assert calls[name].files[0] == next(
            f.read_text() for f in sorted(folder.glob('*.yaml')) if f.name != 'dpt.yaml'
        )
    assert named_of(calls[started[0]], '/dpt/') == topics


@pytest.mark.parametrize('consumer', OF_CONSUMERS)
def test_a_consumer_follows_the_node_into_its_namespace(prefix: Path, consumer: str):
    calls = launch(prefix, CONSUMER, consumer=consumer, namespace='front')
    started, topics = OF_CONSUMERS[consumer]
    assert '__ns:=/front' in calls['dpt_node'].after('-r')
    assert named_of(calls[started[0]], '/front/dpt/') == topics


def test_the_files_of_a_consumer_may_be_copies(prefix: Path):
    shutil.copytree(ROOT / 'config', prefix / 'mine')
    (prefix / 'mine/octomap/octomap.yaml').write_text('/**: {ros__parameters: {frame_id: map}}')
    calls = launch(prefix, CONSUMER, consumer='octomap', config=str(prefix / 'mine'))
    assert 'frame_id: map' in calls['octomap_server_node'].files[0]


def test_a_consumer_that_is_unknown_is_refused_with_those_that_are_known(prefix: Path):
    with pytest.raises(AssertionError):
        launch(prefix, CONSUMER, consumer='rviz')


def named_of(call: Call, own: str) -> set[str]:
    """Return the topics of dpt_node that a process is given, by remapping or by the last file."""
    remapped = [value.partition(':=')[2] for value in call.after('-r')]
    parameters = yaml.safe_load(call.files[-1])
    given = remapped + [
        str(v) for v in next(iter(parameters.values()))['ros__parameters'].values()
    ]
    return {topic.removeprefix(own) for topic in given if topic.startswith(own)}
