"""Train the embedded network from nothing: `python -m dpt_ros.training FOLDER`."""

import argparse
import logging
from pathlib import Path
import sys

from dpt_ros.training.data import Stage
from dpt_ros.training.record import publish
from dpt_ros.training.train import Plan, train
from dpt_ros.zoo.store import checkpoint
import torch


def main() -> None:
    """Train, or go on with what the folder holds; then evaluate and write the three files."""
    parser = argparse.ArgumentParser(prog='python -m dpt_ros.training', description=__doc__)
    parser.add_argument('folder', type=Path, help='state, weights, record and curves go here')
    parser.add_argument('--model', default='dpt_tiny', help='an entry of the zoo (%(default)s)')
    coarse, fine = Plan().stages
    parser.add_argument('--coarse', type=int, default=coarse.steps, help='steps at 128x96')
    parser.add_argument('--fine', type=int, default=fine.steps, help='steps at 256x192')
    parser.add_argument('--workers', type=int, default=1, help='processes that draw worlds')
    parser.add_argument('--threads', type=int, default=1, help='of the network (%(default)s)')
    parser.add_argument('--recording', type=Path, help='RGB-D folder to report on as well')
    arguments = parser.parse_args()
    logging.basicConfig(level='INFO', stream=sys.stdout, format='%(asctime)s %(message)s')
    torch.set_num_threads(arguments.threads)
    plan = Plan(
        (
            Stage(arguments.coarse, coarse.batch, coarse.size),
            Stage(arguments.fine, fine.batch, fine.size),
        )
    )
    entry, folder = checkpoint(arguments.model), arguments.folder
    state = train(entry, plan, folder, logging.info, workers=arguments.workers)
    files = publish(state, arguments.model, entry, plan, folder, logging.info, arguments.recording)
    logging.info('wrote %s', ', '.join(map(str, files)))


if __name__ == '__main__':
    main()
