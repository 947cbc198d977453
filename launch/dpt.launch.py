"""Start dpt_node and, if wanted, RViz; `ros2 launch dpt_ros dpt.launch.py --show-args` helps."""

from posixpath import dirname, join

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('dpt_ros')
ARGUMENTS = {  # name: default, description
    'image': ('image_raw', 'Image topic, without /compressed.'),
    'camera_info': ('', 'Calibration topic; empty: camera_info beside the image.'),
    'params_file': ([SHARE, '/config/dpt.yaml'], 'Parameters of the node.'),
    'model': ('', 'Network for depth (depth.model); empty: as in params_file.'),
    'segmentation_model': ('', 'Network for labels (segmentation.model); empty: likewise.'),
    'device': ('', "'cpu', 'cuda', 'cuda:N' or 'auto'; empty: as in params_file."),
    'namespace': ('', 'Of the node and of relative topics; empty: the root.'),
    'log_level': ('info', 'Of the node: debug, info, warn, error or fatal.'),
    'rviz': ('false', "'true' starts RViz too."),
}
OVERRIDES = {
    'model': 'depth.model',
    'segmentation_model': 'segmentation.model',
    'device': 'device',
}


def start(context: LaunchContext) -> list[Node]:
    """Describe the node and RViz, now that the arguments have values."""
    given = context.launch_configurations
    image, namespace = given['image'], given['namespace']
    info = given['camera_info'] or join(dirname(image), 'camera_info')
    topics = {'image': image, 'image/compressed': f'{image}/compressed', 'camera_info': info}
    overrides = [{name: given[key]} for key, name in OVERRIDES.items() if given[key]]
    node = Node(
        package='dpt_ros',
        executable='dpt_node',
        name='dpt',
        namespace=namespace,
        parameters=[given['params_file'], *overrides],
        remappings=list(topics.items()),
        ros_arguments=['--log-level', given['log_level']],
        output='screen',
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=namespace,
        arguments=['-d', [SHARE, '/config/rviz/dpt.rviz']],
        remappings=[('image_raw', image)],
        condition=IfCondition(given['rviz']),
    )
    return [rviz, node]  # nothing starts if RViz is wanted and not there


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start what they ask for."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
