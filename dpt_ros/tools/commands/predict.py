"""`dpt predict`: images and videos to files, without ROS."""

import argparse
from dataclasses import asdict
import json
from pathlib import Path

from dpt_ros.tools.commands.arguments import (
    add_device,
    add_segmentation_model,
    Commands,
    intrinsics,
)
from tqdm import tqdm


def add(commands: Commands) -> None:
    """Add the command, with all that it takes."""
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
    add_segmentation_model(predict)
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
        '--camera', type=intrinsics, metavar='FX,FY,CX,CY', help='intrinsics in pixels, for clouds'
    )
    add_device(predict)
    predict.add_argument(
        '--json', action='store_true', help='print what was written as JSON instead of a summary'
    )
    predict.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
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
