"""Dense Prediction Transformers for ROS 2: everything that works without a running robot."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
import json
import os
from pathlib import Path
import sys

from tqdm import tqdm

Commands = argparse._SubParsersAction  # it has no public name


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='dpt', description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    _add_demo(commands)
    _add_models(commands)
    _add_fetch(commands)
    _add_predict(commands)
    _add_bench(commands)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; what the user can mend is one line and exit code 2."""
    arguments = parse(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f'dpt: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _add_demo(commands: Commands) -> None:
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
        type=_numbers,
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
    demo.set_defaults(run=_demo)


def _add_models(commands: Commands) -> None:
    models = commands.add_parser(
        'models',
        help='list the networks: tasks, size, work, license, and whether the weights are here',
        description='List the networks there are. GFLOPs are of one 640x480 image at the size '
        'that the network takes it in; a multiplication and its addition are two. Weights of the '
        'wrong size are damaged or others: `dpt fetch` replaces them.',
    )
    _add_weights_dir(models)
    models.add_argument('--json', action='store_true', help='print JSON instead of a table')
    models.set_defaults(run=_models)


def _add_fetch(commands: Commands) -> None:
    fetch = commands.add_parser(
        'fetch',
        help='download the published weights of networks',
        description='Download weights, verify them, and put them where they are looked for. What '
        'was interrupted goes on where it stopped; what is there and right is left alone.',
    )
    fetch.add_argument('names', nargs='+', metavar='NAME', help='networks, see `dpt models`')
    _add_weights_dir(fetch)
    fetch.set_defaults(run=_fetch)


def _add_predict(commands: Commands) -> None:
    predict = commands.add_parser(
        'predict',
        help='write depth, labels, overlay and cloud of images and videos to files',
        description='For each image write NAME_depth.npy (float32, metres; NaN: unknown, Inf: '
        'nothing in range) and NAME_depth.png (16 bits, millimetres, 0: neither), or '
        'NAME_inverse_depth.npy (no unit, larger is nearer) and NAME_inverse_depth.png (16 bits; '
        'offset + scale * pixel, both in its text) for networks of relative depth; '
        'NAME_labels.png (class ids with a palette) and NAME_overlay.png; and with --camera '
        'NAME.ply (metres; x right, y down, z ahead). Images of a video are numbered.',
    )
    predict.add_argument('inputs', nargs='+', metavar='INPUT', help='image, video, or folder')
    predict.add_argument('--model', required=True, metavar='NAME', help='see `dpt models`')
    predict.add_argument(
        '--segmentation-model',
        default='',
        metavar='NAME',
        help='network for labels, where --model gives none or others are wanted',
    )
    predict.add_argument(
        '--weights',
        default='',
        metavar='PATH',
        help="folder of the weights, or a file of --model's own ($DPT_ROS_WEIGHTS, else "
        '~/.cache/dpt_ros)',
    )
    predict.add_argument(
        '--output',
        type=Path,
        default=Path('predictions'),
        metavar='DIR',
        help='folder to write to (%(default)s)',
    )
    predict.add_argument(
        '--camera', type=_numbers, metavar='FX,FY,CX,CY', help='intrinsics in pixels, for clouds'
    )
    predict.add_argument(
        '--device', default='auto', help='auto, cpu, cuda or cuda:N (%(default)s)'
    )
    predict.add_argument(
        '--json', action='store_true', help='print what was written as JSON instead of a summary'
    )
    predict.set_defaults(run=_predict)


def _add_bench(commands: Commands) -> None:
    bench = commands.add_parser(
        'bench',
        help='measure every stage, beside what a user would write with transformers',
        description='Measure the network and the way of a frame from message to messages, beside '
        'a baseline of equal weights in the same process (transformers, copies as cv_bridge and '
        'sensor_msgs_py make them). Needs transformers: requirements/test.txt.',
    )
    bench.add_argument(
        '--sizes',
        nargs='+',
        type=_size,
        default=[(640, 480), (1280, 720)],
        metavar='WxH',
        help='of the images (640x480 1280x720)',
    )
    bench.add_argument('--frames', type=int, default=30, help='of each size (%(default)s)')
    bench.add_argument('--threads', type=int, default=2, help='CPU cores to use (%(default)s)')
    bench.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (%(default)s)')
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
    bench.set_defaults(run=_bench)


def _add_weights_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--weights-dir',
        default='',
        metavar='DIR',
        help='folder of the weights ($DPT_ROS_WEIGHTS, else ~/.cache/dpt_ros)',
    )


def _demo(arguments: argparse.Namespace) -> None:
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


def _models(arguments: argparse.Namespace) -> None:
    from dpt_ros.tools.models import list_models, table

    models = list_models(arguments.weights_dir)
    print(json.dumps([asdict(m) for m in models], indent=2) if arguments.json else table(models))


def _fetch(arguments: argparse.Namespace) -> None:
    from dpt_ros.zoo.fetch import fetch
    from dpt_ros.zoo.store import checkpoint

    for name in arguments.names:
        checkpoint(name)  # before the first of them is downloaded
    for name in arguments.names:
        with tqdm(desc=name, unit='B', unit_scale=True, leave=False, disable=None) as bar:

            def show(done: int, total: int | None, bar: tqdm = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            path = fetch(name, arguments.weights_dir, progress=show)
        print(f'{name} is at {path}; license: {checkpoint(name).spdx}')


def _predict(arguments: argparse.Namespace) -> None:
    from dpt_ros.tools.predict import open_perception, predict
    from dpt_ros.tools.sources import count_images, list_files

    files = list_files(arguments.inputs)
    perception = open_perception(
        arguments.model, arguments.segmentation_model, arguments.weights, arguments.device
    )
    every = predict(perception, files, arguments.output, arguments.camera)
    total = sum(map(count_images, files)) or None
    written = list(tqdm(every, total=total, unit='image', disable=None))
    if arguments.json:
        print(json.dumps([asdict(one) for one in written], indent=2))
    else:
        count = sum(len(one.files) for one in written)
        print(f'wrote {count} files of {len(written)} images to {arguments.output}')


def _bench(arguments: argparse.Namespace) -> None:
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # as the node does
    try:
        from dpt_ros.bench.run import bench
    except ImportError as error:
        raise ValueError(
            f'the baseline is not installed ({error}): pip install -r requirements/test.txt'
        ) from None
    import cv2
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
        cv2.imwrite(str(arguments.plot), draw(results['frames'])[..., ::-1])


def _size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    try:
        width, height = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size as 640x480") from None
    return width, height


def _numbers(text: str) -> tuple[float, float, float, float]:
    from dpt_ros.tools.sources import parse_intrinsics

    try:
        return parse_intrinsics(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == '__main__':
    main()
