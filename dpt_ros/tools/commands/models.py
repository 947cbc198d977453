"""`dpt models`: the networks there are."""

import argparse
from dataclasses import asdict
import json

from dpt_ros.tools.commands.arguments import add_weights_dir, Commands


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
    models = commands.add_parser(
        'models',
        help='list the networks: tasks, size, work, license, and whether the weights are here',
        description='List the networks there are. GFLOPs are of one 640x480 image at the size '
        'that the network takes it in; a multiplication and its addition are two. Weights of the '
        'wrong size are damaged or others: `dpt fetch` replaces them.',
    )
    add_weights_dir(models)
    models.add_argument('--json', action='store_true', help='print JSON instead of a table')
    models.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from dpt_ros.tools.models import list_models, table

    models = list_models(arguments.weights_dir)
    print(json.dumps([asdict(m) for m in models], indent=2) if arguments.json else table(models))
