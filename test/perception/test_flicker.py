"""
How much depth flickers before a camera at rest; `pytest -s` prints the figures of docs/scale.md.

The world is drawn once and photographed again and again, each time with the noise of its sensor.
"""

from dataclasses import replace
import sys

from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.training.worlds import draw_shot, HELD_OUT, look
from dpt_ros.zoo.store import load
import numpy as np
import torch

FRAMES = 12


def flicker(steadiness: float) -> float:
    """Return the median relative change of depth from frame to frame, over all pixels."""
    tiny = load('dpt_tiny')
    perception = Perception(tiny, None, device=torch.device('cpu'), dtype=torch.float32)
    chosen = replace(options(Parameters(depth_edge_angle=0.0)), depth_steadiness=steadiness)
    shot, maps = draw_shot(HELD_OUT[1]), []
    for seed in range(FRAMES):
        noisy = shot._replace(rng=np.random.default_rng(seed))
        frame = Frame('', None, look(*noisy).rgb, None)
        (result,) = perception([frame], {'depth'}, chosen)
        maps.append(result.products['depth'])
    half = FRAMES // 2
    depth = np.stack(maps)[half:]
    return float(np.nanmedian(np.abs(np.diff(depth, axis=0)) / depth[1:]))


def test_steadiness_takes_most_of_the_flicker_of_a_network():
    before, after = flicker(0.0), flicker(0.8)
    told = f'{before:.2%} without, {after:.2%} with depth.steadiness 0.8'
    sys.stdout.write(f'\nflicker: {told}\n')
    assert before > 0.001
    assert after < 0.3 * before
