"""What several commands take, and how it is read."""

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    import torch

Commands = argparse._SubParsersAction  # it has no public name


def add_device(command: argparse.ArgumentParser) -> None:
    """Let it be chosen what computes."""
    command.add_argument(
        '--device', default='auto', help='auto, cpu, cuda or cuda:N (%(default)s)'
    )


def add_device_and_threads(command: argparse.ArgumentParser) -> None:
    """Let it be chosen what computes, and on how many cores."""
    add_device(command)
    command.add_argument(
        '--threads', type=positive, metavar='N', help='CPU cores to compute on (as PyTorch likes)'
    )


def add_segmentation_model(command: argparse.ArgumentParser) -> None:
    """Let labels come from a second network."""
    command.add_argument(
        '--segmentation-model',
        default='',
        metavar='NAME',
        help='network for labels, where --model gives none or others are wanted',
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    """Let weights be taken from elsewhere."""
    command.add_argument(
        '--weights',
        default='',
        metavar='PATH',
        help='folder of the weights, or a file of them ($DPT_ROS_WEIGHTS, else ~/.cache/dpt_ros)',
    )


def add_weights_dir(command: argparse.ArgumentParser) -> None:
    """Let the weights be in another folder."""
    command.add_argument(
        '--weights-dir',
        default='',
        metavar='DIR',
        help='folder of the weights ($DPT_ROS_WEIGHTS, else ~/.cache/dpt_ros)',
    )


def device_of(arguments: argparse.Namespace) -> 'torch.device':
    """Take what `add_device_and_threads` let be chosen, and no more of it than asked for."""
    from dpt_ros.perception.runtime import choose_device
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return choose_device(arguments.device)


def progress(items: Sequence, title: str) -> Iterable:
    """Pass items on under a progress bar."""
    return tqdm(items, desc=title, unit='image', leave=False, disable=None)


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def intrinsics(text: str) -> tuple[float, float, float, float]:
    """Read FX,FY,CX,CY."""
    from dpt_ros.tools.sources import parse_intrinsics

    try:
        return parse_intrinsics(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
