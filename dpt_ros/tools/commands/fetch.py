"""`dpt fetch`: published weights, downloaded and verified."""

import argparse

from dpt_ros.tools.commands.arguments import add_weights_dir, Commands
from tqdm import tqdm


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
    fetch = commands.add_parser(
        'fetch',
        help='download the published weights of networks',
        description='Download weights, verify them, and put them where they are looked for. What '
        'was interrupted goes on where it stopped; what is there and right is left alone.',
    )
    fetch.add_argument('names', nargs='+', metavar='NAME', help='networks, see `dpt models`')
    add_weights_dir(fetch)
    fetch.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
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
