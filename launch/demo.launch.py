"""Start a camera without a robot, and dpt_node behind it, with the arguments of dpt.launch.py."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CAMERA = {'source': str, 'rate': float, 'intrinsics': str}  # parameters of dpt_camera
ARGUMENTS = {  # name: default, description; those of dpt.launch.py come on top
    'source': ('world', 'Folder of images, video, bag, /dev/videoN, or world: one drawn.'),
    'rate': ('15.0', 'Images a second.'),
    'intrinsics': ('', 'FX,FY,CX,CY of the source in pixels; empty: as it tells itself.'),
    'namespace': ('camera', 'Of camera and node.'),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; start RViz if it is asked for, the node, and the camera."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    node = IncludeLaunchDescription([FindPackageShare('dpt_ros'), '/launch/dpt.launch.py'])
    camera = Node(
        package='dpt_ros',
        executable='dpt_camera',
        name='camera',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=kind)
                for name, kind in CAMERA.items()
            }
        ],
        output='screen',
    )
    return LaunchDescription([*declared, node, camera])
