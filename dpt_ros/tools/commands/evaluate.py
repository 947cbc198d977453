"""`dpt evaluate`: scores of a network by published protocols."""

import argparse
from dataclasses import replace
import json
from pathlib import Path

from dpt_ros.tools.commands.arguments import (
    add_device_and_threads,
    add_weights,
    Commands,
    device_of,
    positive,
    progress,
)


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
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
    add_weights(evaluate)
    evaluate.add_argument(
        '--single-scale',
        action='store_true',
        help='for ade20k: each image once, as the node sees it, and not seven sizes and mirrored',
    )
    evaluate.add_argument(
        '--limit', type=positive, metavar='N', help='only the first N images, for a quick look'
    )
    add_device_and_threads(evaluate)
    evaluate.add_argument('--json', action='store_true', help='print JSON instead of a table')
    evaluate.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from dpt_ros.evaluation.datasets import open_dataset
    from dpt_ros.evaluation.evaluate import evaluate, table
    from dpt_ros.zoo.store import load

    trained = load(arguments.model, arguments.weights)
    dataset = open_dataset(arguments.dataset, arguments.root, arguments.split)
    dataset = dataset.first(arguments.limit)
    if arguments.single_scale:
        dataset = replace(dataset, multiscale=False)
    result = evaluate(trained, dataset, device_of(arguments), progress=progress)
    result |= {'root': arguments.root and str(arguments.root), 'weights': arguments.weights}
    print(json.dumps(result, indent=2) if arguments.json else table(result))
