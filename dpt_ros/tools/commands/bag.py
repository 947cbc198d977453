"""`dpt bag`: recordings with the topics of the node added."""

import argparse
from dataclasses import asdict
from functools import partial
import json
import os
from pathlib import Path
import sys

from dpt_ros.process import prepare_process
from dpt_ros.tools.commands.arguments import (
    add_segmentation_model,
    add_weights,
    Commands,
    positive,
)
from tqdm import tqdm


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
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
    add_segmentation_model(bag)
    add_weights(bag)
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
        type=positive,
        default=200,
        metavar='N',
        help='images in each file of OUT; what is interrupted goes on after the last whole file '
        '(%(default)s)',
    )
    bag.add_argument('--device', default='', help='auto, cpu, cuda or cuda:N (auto)')
    bag.add_argument(
        '--threads',
        type=positive,
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
    bag.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    prepare_process()
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


def _names(text: str) -> tuple[str, ...]:
    """Read names with commas between."""
    return tuple(name.strip() for name in text.split(','))
