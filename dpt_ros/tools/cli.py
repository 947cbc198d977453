"""Dense Prediction Transformers for ROS 2: everything that works without a running robot."""

import argparse
from collections.abc import Sequence
import sys

from dpt_ros.tools.commands import bag, bench, demo, evaluate, fetch, models, predict, train

COMMANDS = (demo, models, fetch, predict, bag, evaluate, train, bench)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='dpt', description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for command in COMMANDS:
        command.add(commands)
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


if __name__ == '__main__':
    main()
