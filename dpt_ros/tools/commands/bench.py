"""`dpt bench`: every stage measured, beside a baseline."""

import argparse
from pathlib import Path

from dpt_ros.process import prepare_process
from dpt_ros.tools.commands.arguments import add_device, Commands
from tqdm import tqdm


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
    bench = commands.add_parser(
        'bench',
        help='measure every stage, beside what a user would write with transformers',
        description='Measure what the machine can do at most, networks against that, the start of '
        'the node, and the way of a frame from message to messages, beside a baseline of equal '
        'weights in the same process (transformers, copies as cv_bridge and sensor_msgs_py make '
        'them). Needs transformers: requirements/test.txt.',
    )
    bench.add_argument(
        '--sizes',
        nargs='+',
        type=_size,
        default=[(640, 480), (1280, 720), (1920, 1080)],
        metavar='WxH',
        help='of the images (640x480 1280x720 1920x1080)',
    )
    bench.add_argument('--frames', type=int, default=30, help='of each size (%(default)s)')
    bench.add_argument('--threads', type=int, default=2, help='CPU cores to use (%(default)s)')
    add_device(bench)
    bench.add_argument(
        '--runtime', default='auto', help='auto, eager, graph, compile or tensorrt (%(default)s)'
    )
    bench.add_argument(
        '--node', action='store_true', help='measure the node on a ROS graph too, at 5 to 60 Hz'
    )
    bench.add_argument(
        '--seconds', type=float, default=4.0, help='of each run of the node (%(default)s)'
    )
    bench.add_argument(
        '--loading', default='', metavar='NAME', help='measure loading this network from its file'
    )
    bench.add_argument(
        '--weights', default='', metavar='PATH', help='folder, or file, of --loading'
    )
    bench.add_argument('--json', type=Path, metavar='FILE', help='write the results as JSON too')
    bench.add_argument('--plot', type=Path, metavar='FILE', help='write a picture (.png) of them')
    bench.add_argument(
        '--keep',
        type=Path,
        nargs='?',
        const=Path('docs/benchmarks'),
        metavar='FOLDER',
        help='file JSON and picture by date and commit in a folder with a table (%(const)s)',
    )
    bench.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    prepare_process()
    try:
        from dpt_ros.bench.run import bench
    except ImportError as error:
        raise ValueError(
            f'the baseline is not installed ({error}): pip install -r requirements/test.txt'
        ) from None
    import cv2
    from dpt_ros.bench.records import keep
    from dpt_ros.bench.report import draw, table, to_json

    for file in (arguments.json, arguments.plot):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(desc='measuring', unit='step', leave=False, disable=None) as bar:
        results = bench(
            arguments.sizes,
            frames=arguments.frames,
            threads=arguments.threads,
            device=arguments.device,
            runtime=arguments.runtime,
            node=arguments.node,
            seconds=arguments.seconds,
            loading=arguments.loading,
            weights=arguments.weights,
            show=bar.update,
        )
    print(table(results))
    if arguments.json is not None:
        arguments.json.write_text(to_json(results), encoding='utf-8')
    if arguments.plot is not None:
        cv2.imwrite(str(arguments.plot), draw(results)[..., ::-1])
    if arguments.keep is not None:
        print(f'kept as {keep(results, arguments.keep)}')


def _size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    try:
        width, height = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size as 640x480") from None
    return width, height
