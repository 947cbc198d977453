from collections import defaultdict
from glob import glob
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.version import __version__ as setuptools_version

NAME = 'dpt_ros'


class Commands(Distribution):
    """
    Conceal `develop` from `setup.py --help-commands` where it can no longer make links.

    That is so from setuptools 80 on. `colcon build --symlink-install` then copies, as colcon-core
    0.21 does by itself and older ones do only where they find no such command.
    """

    def print_command_list(self, commands: list[str], header: str, max_length: int) -> None:
        """List commands under a header."""
        concealed = ['develop'] if int(setuptools_version.split('.')[0]) >= 80 else []
        shown = [command for command in commands if command not in concealed]
        super().print_command_list(shown, header, max_length)


def share(*patterns: str) -> list[tuple[str, list[str]]]:
    """Pair the files that match with their folders under share/, keeping their own folders."""
    folders = defaultdict(list)
    for pattern in patterns:
        for file in sorted(glob(pattern, recursive=True)):
            folders[str(Path('share', NAME, file).parent)].append(file)
    return list(folders.items())


setup(
    distclass=Commands,
    name=NAME,
    version='0.1.0',
    description='Metric depth, labels and labelled point clouds by Dense Prediction Transformers',
    license='Apache-2.0',
    maintainer='dpt_ros maintainers',
    maintainer_email='dpt-ros@example.org',
    python_requires='>=3.10',
    install_requires=['setuptools'],  # the rest: package.xml for rosdep, requirements/ for pip
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={f'{NAME}.zoo': ['labels/*.csv', 'weights/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        *share(
            'package.xml',
            'launch/*.py',
            'config/**/*.yaml',
            'config/rviz/*.rviz',
            'config/fastdds.xml',
            'config/sros2/*.xml',
        ),
    ],
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'dpt = dpt_ros.tools.cli:main',
            'dpt_camera = dpt_ros.tools.demo_camera:main',
            'dpt_node = dpt_ros.ros.main:main',
        ]
    },
)
