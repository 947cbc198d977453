"""Dense Prediction Transformers for ROS 2: everything that works without a running robot."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
import json
import os
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from dpt_ros.threads import wait_briefly
from tqdm import tqdm

if TYPE_CHECKING:
    import torch

Commands = argparse._SubParsersAction  # it has no public name


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='dpt', description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    _add_demo(commands)
    _add_models(commands)
    _add_fetch(commands)
    _add_predict(commands)
    _add_bag(commands)
    _add_evaluate(commands)
    _add_train(commands)
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


def _add_bag(commands: Commands) -> None:
    bag = commands.add_parser(
        'bag',
        help='add the topics of the node to recordings',
        description='Write a bag (MCAP or SQLite) with all that is in another and, beside each '
        'image, what the node would publish of it: same stamps, same messages. What was '
        'interrupted goes on when the same command is given again. Several bags, or folders of '
        'them, are done one by one into the folder OUT, or by Ray on a cluster (docs/bags.md).',
    )
    bag.add_argument('bags', type=Path, nargs='+', metavar='IN', help='bag, or folder of bags')
    bag.add_argument(
        'output', type=Path, metavar='OUT', help='bag to write; of several, their folder'
    )
    bag.add_argument(
        '--image', default='', metavar='TOPIC', help='raw or compressed (the only one there is)'
    )
    bag.add_argument(
        '--camera-info', default='', metavar='TOPIC', help='of these images (the one beside them)'
    )
    bag.add_argument(
        '--reference-depth',
        default='',
        metavar='TOPIC',
        help='measured depth, for scale.mode reference in --params (the only one beside --image)',
    )
    bag.add_argument(
        '--imu',
        default='',
        metavar='TOPIC',
        help='for scale.mode ground with scale.gravity imu (the only one there is)',
    )
    bag.add_argument('--model', default='', metavar='NAME', help='see `dpt models`')
    bag.add_argument(
        '--segmentation-model',
        default='',
        metavar='NAME',
        help='network for labels, where --model gives none or others are wanted',
    )
    _add_weights(bag)
    bag.add_argument(
        '--params', type=Path, metavar='FILE', help='parameter file of the node; options win'
    )
    bag.add_argument(
        '--namespace', default='/', help='of the node whose topics are added (%(default)s)'
    )
    bag.add_argument('--name', default='dpt', help='of that node (%(default)s)')
    bag.add_argument(
        '--outputs',
        type=_names,
        default=(),
        metavar='NAME,...',
        help='topics to add, such as depth/image,segmentation/* (all but inverse depth beside '
        'metric, and the image at its own size)',
    )
    bag.add_argument(
        '--storage', choices=('mcap', 'sqlite3'), default='', help='of OUT (as that of IN)'
    )
    bag.add_argument(
        '--split',
        type=_positive,
        default=200,
        metavar='N',
        help='images in each file of OUT; what is interrupted goes on after the last whole file '
        '(%(default)s)',
    )
    bag.add_argument('--device', default='', help='auto, cpu, cuda or cuda:N (auto)')
    bag.add_argument(
        '--threads',
        type=_positive,
        default=0,
        metavar='N',
        help='CPU cores for one bag (all; with --ray 2)',
    )
    bag.add_argument(
        '--ray',
        nargs='?',
        const='',
        metavar='ADDRESS',
        help='let a Ray cluster do the bags, one on each GPU or each N cores; without ADDRESS '
        'this machine is the cluster',
    )
    bag.add_argument('--json', action='store_true', help='print the summary as JSON')
    bag.set_defaults(run=_bag)


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser(
        'evaluate',
        help='score a network on a data set, beside two baselines and what was published',
        description='Score depth and labels by the protocol that was published for the data set '
        '(docs/evaluation.md): networks of metric depth as they are, those of relative depth '
        'after fitting scale and offset to each image. The baselines never look at the image.',
    )
    evaluate.add_argument(
        '--dataset',
        required=True,
        metavar='NAME',
        help='nyu, kitti, ade20k, folder (RGB-D images of your own) or worlds (drawn)',
    )
    evaluate.add_argument(
        '--root', type=Path, metavar='DIR', help='folder of the data set; worlds are drawn'
    )
    evaluate.add_argument(
        '--split',
        type=Path,
        metavar='FILE',
        help="the images to score: kitti's test list, or nyu's splits.mat where not in --root",
    )
    evaluate.add_argument('--model', required=True, metavar='NAME', help='see `dpt models`')
    _add_weights(evaluate)
    evaluate.add_argument(
        '--single-scale',
        action='store_true',
        help='for ade20k: each image once, as the node sees it, and not seven sizes and mirrored',
    )
    evaluate.add_argument(
        '--limit', type=_positive, metavar='N', help='only the first N images, for a quick look'
    )
    _add_device(evaluate)
    evaluate.add_argument('--json', action='store_true', help='print JSON instead of a table')
    evaluate.set_defaults(run=_evaluate)


def _add_train(commands: Commands) -> None:
    train = commands.add_parser(
        'train',
        help='train a network on drawn worlds, or further on a recording of your own',
        description='Train, and score on what was not trained on. FOLDER gets weights.safetensors '
        '(for --weights and for weights_dir of the node), record.json (plan, scores, versions) '
        'and curves.png. What was interrupted goes on when the same command is given again.',
    )
    train.add_argument('folder', type=Path, metavar='FOLDER', help='what comes of it goes here')
    source = train.add_mutually_exclusive_group(required=True)
    source.add_argument('--world', action='store_true', help='from nothing, on drawn worlds')
    source.add_argument(
        '--data',
        type=Path,
        metavar='DIR',
        help='further, on RGB-D images: NAME.color.jpg and NAME.depth.png, or rgb/ and depth/',
    )
    source.add_argument(
        '--bag', type=Path, metavar='BAG', help='further, on the RGB-D images of a bag'
    )
    train.add_argument('--image', metavar='TOPIC', help='of the bag: the color images')
    train.add_argument('--depth', metavar='TOPIC', help='of the bag: depth in the same view')
    train.add_argument(
        '--frames',
        type=_range,
        metavar='FIRST-LAST',
        help='numbers of the frames to train on; the others are scored (the first four fifths)',
    )
    train.add_argument(
        '--model', default='dpt_tiny', metavar='NAME', help='see `dpt models` (%(default)s)'
    )
    _add_weights(train)
    train.add_argument(
        '--steps',
        type=_positive,
        metavar='N',
        help='(150; with --world 4000, half of them coarse)',
    )
    train.add_argument(
        '--batch', type=_positive, metavar='N', help='images a step (8; with --world 16)'
    )
    train.add_argument(
        '--workers', type=int, default=1, help='processes that make images ahead (%(default)s)'
    )
    _add_device(train)
    train.set_defaults(run=_train)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--device', default='auto', help='auto, cpu, cuda or cuda:N (%(default)s)'
    )
    command.add_argument(
        '--threads', type=_positive, metavar='N', help='CPU cores to compute on (as PyTorch likes)'
    )


def _add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--weights',
        default='',
        metavar='PATH',
        help='folder of the weights, or a file of them ($DPT_ROS_WEIGHTS, else ~/.cache/dpt_ros)',
    )


def _add_bench(commands: Commands) -> None:
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
    bench.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (%(default)s)')
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


def _bag(arguments: argparse.Namespace) -> None:
    wait_briefly()  # as the node does
    from dpt_ros.tools.bags import is_bag
    from dpt_ros.tools.fleet import attempt, failure, orders_for, ray_map, sentence, table
    from dpt_ros.tools.label import choose_parameters, label, Order

    node = f'/{arguments.namespace.strip("/")}/{arguments.name}'.replace('//', '/')
    threads = arguments.threads
    if not threads and arguments.params is None and arguments.ray is None:
        threads = len(os.sched_getaffinity(0))
    parameters = choose_parameters(
        arguments.params,
        node,
        model=arguments.model,
        segmentation_model=arguments.segmentation_model,
        weights=arguments.weights,
        device=arguments.device,
        threads=threads,
    )
    order = Order(
        arguments.bags[0],
        arguments.output,
        arguments.image,
        arguments.camera_info,
        parameters,
        node,
        arguments.outputs,
        arguments.storage,
        arguments.split,
        arguments.reference_depth,
        arguments.imu,
    )
    (first, *others), output = arguments.bags, arguments.output
    fleet = bool(others) or (first.is_dir() and not is_bag(first))
    orders = orders_for(arguments.bags, output, order) if fleet else [order]
    if arguments.ray is not None:
        done = ray_map(
            attempt, orders, lost=failure, address=arguments.ray, cores=parameters.cpu_threads
        )
        results = list(tqdm(done, total=len(orders), unit='bag', disable=None))
    else:
        results = []
        for one in orders:
            with tqdm(desc=one.bag.stem, unit='image', disable=None) as bar:
                do = attempt if fleet else label
                results.append(do(one, partial(_show, bar)))
    if arguments.json:
        print(json.dumps([asdict(one) for one in results], indent=2))
    else:
        print(table(results) if fleet else sentence(results[0]))
    if any(one.error for one in results):
        sys.exit(1)


def _show(bar: tqdm, done: int, total: int) -> None:
    """Move a bar to where a bag is; what an earlier run did takes no time."""
    if bar.total is None:
        bar.total, bar.initial, bar.n = total, done - 1, done - 1
    bar.update(done - bar.n)


def _evaluate(arguments: argparse.Namespace) -> None:
    from dpt_ros.evaluation.datasets import open_dataset
    from dpt_ros.evaluation.evaluate import evaluate, table
    from dpt_ros.zoo.store import load

    trained = load(arguments.model, arguments.weights)
    dataset = open_dataset(arguments.dataset, arguments.root, arguments.split)
    dataset = dataset.first(arguments.limit)
    if arguments.single_scale:
        dataset = replace(dataset, multiscale=False)
    result = evaluate(trained, dataset, _device(arguments), progress=_progress)
    result |= {'root': arguments.root and str(arguments.root), 'weights': arguments.weights}
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def _train(arguments: argparse.Namespace) -> None:
    from dpt_ros.evaluation.evaluate import table
    from dpt_ros.tools.recording import unpack
    from dpt_ros.tools.train import How, train_on_worlds, tune
    from dpt_ros.training.train import Plan, recent, State

    if arguments.world and (arguments.weights or arguments.frames):
        raise ValueError('--weights and --frames go with --data or --bag: --world starts anew')
    if arguments.bag and not (arguments.image and arguments.depth):
        raise ValueError('--bag takes --image TOPIC and --depth TOPIC')
    source = arguments.data
    if arguments.bag:
        source = arguments.folder / 'recording'
        with tqdm(desc='unpack', unit='image', disable=None) as bar:
            unpack(arguments.bag, arguments.image, arguments.depth, source, bar.update)
    given = {'steps': arguments.steps, 'batch': arguments.batch}
    chosen = {name: value for name, value in given.items() if value is not None}
    with tqdm(desc='train', unit='step', disable=None) as bar:

        def show(state: State, plan: Plan) -> None:
            bar.total, bar.n = plan.steps, state.step
            bar.set_postfix(recent(state))

        how = How(_device(arguments), arguments.workers, show, _progress)
        if arguments.world:
            outcome = train_on_worlds(arguments.model, arguments.folder, how, **chosen)
        else:
            outcome = tune(
                arguments.model,
                arguments.folder,
                how,
                source=source,
                frames=arguments.frames,
                weights=arguments.weights,
                **chosen,
            )
    for when, scores in outcome.scores.items():
        print(f'{when} training: {table(scores)}\n')
    print('\n'.join(f'wrote {path}' for path in outcome.files))


def _device(arguments: argparse.Namespace) -> 'torch.device':
    """Choose what to compute on, and take no more of it than asked for."""
    from dpt_ros.perception.runtime import choose_device
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return choose_device(arguments.device)


def _progress(items: Sequence, title: str) -> Iterable:
    """Pass items on under a progress bar."""
    return tqdm(items, desc=title, unit='image', leave=False, disable=None)


def _names(text: str) -> tuple[str, ...]:
    """Read names with commas between."""
    return tuple(name.strip() for name in text.split(','))


def _positive(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def _range(text: str) -> tuple[int, int]:
    """Read FIRST-LAST."""
    first, _, last = text.partition('-')
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"'{text}' is not two numbers FIRST-LAST, such as 0-60")
    return int(first), int(last)


def _bench(arguments: argparse.Namespace) -> None:
    wait_briefly()  # as the node does
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


def _numbers(text: str) -> tuple[float, float, float, float]:
    from dpt_ros.tools.sources import parse_intrinsics

    try:
        return parse_intrinsics(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == '__main__':
    main()
