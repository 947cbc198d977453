"""Start dpt_node and a consumer of its outputs: `consumer:=octomap image:=/camera/image_raw`."""

from typing import NamedTuple

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


class Process(NamedTuple):
    """A node of a consumer; in topics, `~` stands for dpt_node."""

    package: str
    executable: str
    files: tuple[str, ...]  # of parameters
    remappings: dict[str, str]
    topics: dict[str, str]  # those that are parameters


COSTMAP = 'nav2/costmap.yaml'
POINTS = {f'voxel_layer.{source}.topic': '~/points' for source in ('points', 'clearing')}
MASKS = {
    f'semantic_layer.camera.{name}_topic': f'~/{topic}'
    for name, topic in {
        'segmentation': 'segmentation/mask',
        'confidence': 'segmentation/confidence',
        'labels': 'segmentation/label_info',
        'pointcloud': 'points',
    }.items()
}
RGBD = {
    'rgb/image': '~/color/image',
    'rgb/camera_info': '~/color/camera_info',
    'depth/image': '~/depth/image',
}
CAMERA_0 = {
    f'camera_0/{name}': f'~/{name}'
    for name in ('depth/image', 'depth/camera_info', 'color/image', 'color/camera_info')
}
SCAN = {'depth': '~/depth/image', 'depth_camera_info': '~/depth/camera_info'}
MANAGER = Process('nav2_lifecycle_manager', 'lifecycle_manager', (COSTMAP,), {}, {})
RTABMAP = ('rtabmap/rtabmap.yaml',)

CONSUMERS = {  # name: parameters of dpt_node, processes
    'nav2': (
        'nav2/dpt.yaml',
        [Process('nav2_costmap_2d', 'nav2_costmap_2d', (COSTMAP,), {}, POINTS), MANAGER],
    ),
    'nav2_semantic': (
        'nav2/dpt.yaml',
        [
            Process(
                'nav2_costmap_2d',
                'nav2_costmap_2d',
                (COSTMAP, 'nav2/semantic.yaml'),
                {},
                POINTS | MASKS,
            ),
            MANAGER,
        ],
    ),
    'rtabmap': (
        'rtabmap/dpt.yaml',
        [
            Process('rtabmap_odom', 'rgbd_odometry', RTABMAP, RGBD, {}),
            Process('rtabmap_slam', 'rtabmap', RTABMAP, RGBD, {}),
        ],
    ),
    'octomap': (
        'octomap/dpt.yaml',
        [
            Process(
                'octomap_server',
                'octomap_server_node',
                ('octomap/octomap.yaml',),
                {'cloud_in': '~/points'},
                {},
            )
        ],
    ),
    'nvblox': (
        'nvblox/dpt.yaml',
        [Process('nvblox_ros', 'nvblox_node', ('nvblox/nvblox.yaml',), CAMERA_0, {})],
    ),
    'laserscan': (
        'laserscan/dpt.yaml',
        [
            Process(
                'depthimage_to_laserscan',
                'depthimage_to_laserscan_node',
                ('laserscan/laserscan.yaml',),
                SCAN,
                {},
            )
        ],
    ),
}
SHARE = FindPackageShare('dpt_ros')
ARGUMENTS = {  # name: default, description; those of dpt.launch.py come on top
    'consumer': (None, f'One of {", ".join(CONSUMERS)}.'),
    'config': ([SHARE, '/config'], 'Folder of the parameter files: a copy with your frames.'),
    'namespace': ('', 'Of dpt_node; consumers stay in the root.'),
}


def start(context: LaunchContext) -> list[IncludeLaunchDescription | Node]:
    """Describe the consumer and dpt_node, now that the arguments have values."""
    given = context.launch_configurations
    file, processes = CONSUMERS[given['consumer']]
    own = '/'.join(['', *filter(None, given['namespace'].split('/')), 'dpt'])
    nodes = [
        Node(
            package=process.package,
            executable=process.executable,
            parameters=[
                *(f'{given["config"]}/{file}' for file in process.files),
                *([_on(own, process.topics)] if process.topics else []),
            ],
            remappings=list(_on(own, process.remappings).items()),
            output='screen',
        )
        for process in processes
    ]
    node = IncludeLaunchDescription(
        [SHARE, '/launch/dpt.launch.py'],
        launch_arguments={'params_file': f'{given["config"]}/{file}'}.items(),
    )
    return [*nodes, node]  # nothing starts if the consumer is not installed


def _on(own: str, topics: dict[str, str]) -> dict[str, str]:
    """Put the name of dpt_node where topics have a `~`."""
    return {name: topic.replace('~', own) for name, topic in topics.items()}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start what they ask for."""
    declared = [
        DeclareLaunchArgument(
            name,
            default_value=default,
            description=text,
            choices=list(CONSUMERS) if name == 'consumer' else None,
        )
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
