"""`dpt demo`: camera, node and outputs on a real ROS graph."""

import argparse
from pathlib import Path

from dpt_ros.tools.commands.arguments import Commands, intrinsics


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
    demo = commands.add_parser(
        'demo',
        help='run camera, node and outputs on a real ROS graph and show the result',
        description='Start a camera and the node as two processes on one ROS graph, run for some '
        'seconds, and leave in --output a picture (dpt.png) and a recording (bag/, MCAP).',
    )
    demo.add_argument(
        '--source',
        default='world',
        help='folder of images, video, bag, /dev/videoN, or world: one drawn, with its truth '
        '(%(default)s)',
    )
    demo.add_argument(
        '--camera',
        type=intrinsics,
        metavar='FX,FY,CX,CY',
        help='intrinsics of the source in pixels, where it does not bring its own',
    )
    demo.add_argument(
        '--params', type=Path, help='parameter file of the node, such as config/dpt.yaml'
    )
    demo.add_argument('--rate', type=float, default=15.0, help='images a second (%(default)s)')
    demo.add_argument('--seconds', type=float, default=8.0, help='time to run (%(default)s)')
    demo.add_argument(
        '--output', type=Path, default=Path('demo'), help='folder to write to (%(default)s)'
    )
    demo.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from dpt_ros.tools.demo import run_demo

    written = run_demo(
        arguments.source,
        camera=arguments.camera,
        params=arguments.params,
        rate=arguments.rate,
        seconds=arguments.seconds,
        output=arguments.output,
        show=print,
    )
    print('\n'.join(f'wrote {path}' for path in written))
