"""Scores, against values worked out by hand, and the baselines."""

import cv2
from dpt_ros.training import evaluate
from dpt_ros.training.data import find_frames
from dpt_ros.training.worlds import render
import numpy as np
import pytest

SIZE = (48, 64)


def test_depth_scores():
    truth = np.array([[1.0, 2.0, 4.0, np.inf]])
    depth = np.array([[1.1, 2.0, 6.0, 3.0]])
    scores = evaluate.score_depth(depth, truth)
    assert scores['abs_rel'] == pytest.approx((0.1 + 0 + 0.5) / 3)
    assert scores['rmse'] == pytest.approx(np.sqrt((0.01 + 4) / 3))
    assert scores['delta1'] == pytest.approx(2 / 3)


def test_label_scores():
    confusion = np.zeros((10, 10), int)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 6, 2, 4
    scores = evaluate.score_labels(confusion)
    assert scores['iou_floor'] == pytest.approx(6 / 8)
    assert scores['iou_wall'] == pytest.approx(4 / 6)
    assert scores['miou'] == pytest.approx((6 / 8 + 4 / 6) / 2)  # of the two that occur
    assert scores['pixel_accuracy'] == pytest.approx(10 / 12)


def test_the_truth_scores_full_marks():
    views = [render(seed, SIZE) for seed in range(3)]
    truth = {view.rgb.tobytes(): (view.depth, view.labels) for view in views}
    scores = evaluate.evaluate_worlds(lambda rgb: truth[rgb.tobytes()], range(3), SIZE)
    assert scores['abs_rel'] == 0 and scores['delta1'] == scores['miou'] == 1


def test_the_baseline_that_knows_the_row_beats_the_constant():
    baselines = evaluate.fit_baselines(range(24), SIZE)
    constant, row = (
        evaluate.evaluate_worlds(baselines[name], range(100, 112), SIZE)
        for name in ('constant', 'row')
    )
    assert baselines['row'].slope < 0  # lower in the image is nearer
    assert row['abs_rel'] < constant['abs_rel'] and row['miou'] > constant['miou']


def test_alignment_undoes_scale_and_shift_of_inverse_depth():
    truth = np.array([[1.0, 2.0, 4.0, np.inf]])
    depth = 1 / (3 / np.where(np.isfinite(truth), truth, 9.0) + 0.2)
    np.testing.assert_allclose(evaluate.align_inverse(depth, truth)[0, :3], truth[0, :3])


def test_a_recording_is_scored_where_it_has_depth(tmp_path):
    depth = np.tile(np.linspace(1, 3, 64), (48, 1))
    stored = (depth * 1000).round().astype(np.uint16)
    stored[0, 0], stored[0, 1] = 0, 65535
    cv2.imwrite(str(tmp_path / 'frame-000000.color.jpg'), np.zeros((48, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'frame-000000.depth.png'), stored)

    def predict(rgb):
        assert rgb.shape == (48, 64, 3)
        return 2 * depth, None

    scores = evaluate.evaluate_recording(predict, find_frames(tmp_path))
    assert scores['abs_rel'] < 1e-3
    scores = evaluate.evaluate_recording(predict, find_frames(tmp_path), aligned=False)
    assert scores['abs_rel'] == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match='no frame-N'):
        find_frames(tmp_path / 'nothing')


def test_the_table_has_a_line_for_each_predictor():
    results = {'worlds': {'row': dict.fromkeys((*evaluate.DEPTH, *evaluate.LABELS), 0.25)}}
    lines = evaluate.table(results).splitlines()
    assert len(lines) == 2 and 'abs_rel' in lines[0] and '0.250' in lines[1]
