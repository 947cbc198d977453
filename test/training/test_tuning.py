"""Fine-tuning on a recording, end to end and as small as it gets."""

import cv2
from dpt_ros.training.data import find_frames, Stage
from dpt_ros.training.tuning import tune, tuning_plan
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import Architecture, BoundedDepth, Checkpoint, Resize
import numpy as np
import pytest

SHAPE = Architecture('vit_tiny_patch16_224', (0, 1, 2, 3), (8, 8, 8, 8), width=8)
ENTRY = Checkpoint(SHAPE, Resize(64, 32), depth=BoundedDepth(maximum=10.0), labels='worlds_10')


def test_tuning_betters_the_depth_of_frames_not_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(4):
        depth = np.full((32, 64), 1500, np.uint16)
        cv2.imwrite(str(tmp_path / f'frame-{n}.depth.png'), depth)
        color = rng.integers(0, 255, (32, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'frame-{n}.color.jpg'), color)
    frames, plan = find_frames(tmp_path), tuning_plan(ENTRY, steps=30, batch=2)
    assert plan.stages == (Stage(30, 2, (32, 64)),)
    weights = store.build(ENTRY).state_dict()
    results = tune(ENTRY, weights, plan, frames[:3], frames[3:], tmp_path / 'run', str, workers=0)
    scores = results['unseen frames']
    assert scores['after tuning']['abs_rel'] < scores['before tuning']['abs_rel']
    tuned = store.build(ENTRY)
    tuned.load_state_dict(store.read(tmp_path / 'run' / 'tuned.safetensors'), strict=True)
    with pytest.raises(ValueError, match='must not overlap'):
        tune(ENTRY, weights, plan, frames, frames[3:], tmp_path / 'again', str)
