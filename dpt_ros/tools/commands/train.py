"""`dpt train`: a network trained, or tuned on a recording."""

import argparse
from pathlib import Path

from dpt_ros.tools.commands.arguments import (
    add_device_and_threads,
    add_weights,
    Commands,
    device_of,
    positive,
    progress,
)
from tqdm import tqdm


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
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
    add_weights(train)
    train.add_argument(
        '--steps', type=positive, metavar='N', help='(150; with --world 4000, half of them coarse)'
    )
    train.add_argument(
        '--batch', type=positive, metavar='N', help='images a step (8; with --world 16)'
    )
    train.add_argument(
        '--workers', type=int, default=1, help='processes that make images ahead (%(default)s)'
    )
    add_device_and_threads(train)
    train.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
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

        how = How(device_of(arguments), arguments.workers, show, progress)
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


def _range(text: str) -> tuple[int, int]:
    """Read FIRST-LAST."""
    first, _, last = text.partition('-')
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"'{text}' is not two numbers FIRST-LAST, such as 0-60")
    return int(first), int(last)
