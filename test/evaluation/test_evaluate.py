"""A whole evaluation, of a network whose answer can be read off the image."""

from dataclasses import replace
from functools import partial
import json
import math
from pathlib import Path

import cv2
from dpt_ros.evaluation.datasets import DataSet, open_dataset, recording, Sample, worlds
from dpt_ros.evaluation.evaluate import evaluate, OPTIONS, table
from dpt_ros.evaluation.metrics import DEPTH, LABELS
from dpt_ros.evaluation.multiscale import multiscale_labels
from dpt_ros.perception.pipeline import Frame, Perception
from dpt_ros.training.worlds import TRAINING
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import (
    Architecture,
    BoundedDepth,
    Checkpoint,
    CHECKPOINTS,
    RelativeDepth,
    Resize,
)
from dpt_ros.zoo.store import Trained
import numpy as np
import pytest
import torch
from torch import nn, Tensor

CPU = torch.device('cpu')
SHAPE = Architecture('vit_tiny_patch16_224', (0, 1, 2, 3), (8, 8, 8, 8), width=8)
# The network sees an image of 1216x352 or 64x64 as it is.
METRES = Checkpoint(SHAPE, Resize(1216, 352), depth=BoundedDepth(maximum=255.0))
RELATIVE = Checkpoint(SHAPE, Resize(1216, 352), depth=RelativeDepth())
CLASSES = Checkpoint(SHAPE, Resize(64, 64), labels='ade20k_150')
DRIVE = '2011_09_26/2011_09_26_drive_0002_sync'


class Reader(nn.Module):
    """A network that gives red as depth, 255 being 1, and as class."""

    def forward(self, image: Tensor, wanted: set[str]) -> dict[str, Tensor]:
        """Answer for a normalized image."""
        red = image[:, 0] * 0.5 + 0.5
        if 'depth' in wanted:
            return {'depth': red}
        ids = (red[:, ::2, ::2] * 255).round().long().clamp(0, 149)
        return {'segmentation': 9.0 * nn.functional.one_hot(ids, 150).permute(0, 3, 1, 2)}


def reader(entry: Checkpoint) -> Trained:
    return Trained('reader', entry, Reader())


def write_kitti(root: Path, red: np.ndarray, metres: np.ndarray) -> DataSet:
    rgb = np.dstack((red, red * 0, red * 0)).astype(np.uint8)
    color = root / DRIVE / 'image_02/data/1.png'
    depth = root / 'gt/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/1.png'
    for file, pixels in ((color, rgb[..., ::-1]), (depth, (metres * 256).astype(np.uint16))):
        file.parent.mkdir(parents=True)
        assert cv2.imwrite(str(file), np.ascontiguousarray(pixels))
    (root / 'list.txt').write_text(f'{DRIVE}/image_02/data/1.png')
    return open_dataset('kitti', root, root / 'list.txt')


@pytest.fixture
def ramp() -> np.ndarray:
    """Give whole metres that differ by row and column, 375x1242."""
    v, u = np.indices((375, 1242))
    return 10 + (u + 2 * v) % 60


def test_metric_depth_of_kitti_is_cropped_pasted_back_and_cropped_again(tmp_path, ramp):
    metres = ramp.copy()
    metres[:153], metres[371:], metres[:, :44], metres[:, 1197:] = 79, 79, 79, 79
    result = evaluate(reader(METRES), write_kitti(tmp_path, ramp, metres), CPU)
    assert result['abs_rel'] == pytest.approx(0, abs=1e-5)
    assert (result['delta1'], result['protocol'], result['images']) == (1, 'metric', 1)


def test_the_network_does_not_see_beyond_the_crop_of_the_benchmark(tmp_path):
    class Mean(Reader):
        """The mean of red, everywhere."""

        def forward(self, image: Tensor, wanted: set[str]) -> dict[str, Tensor]:  # noqa: ARG002
            assert image.shape == (1, 3, 352, 1216)
            return {'depth': (image[:, 0].mean() * 0.5 + 0.5).expand(1, 352, 1216)}

    red = np.full((375, 1242), 30)
    red[:23], red[:, :13], red[:, 1229:] = 255, 255, 255
    dataset = write_kitti(tmp_path, red, np.full((375, 1242), 30))
    result = evaluate(Trained('mean', METRES, Mean()), dataset, CPU)
    assert result['abs_rel'] == pytest.approx(0, abs=1e-5)


def test_metres_are_neither_aligned_nor_unclamped(tmp_path, ramp):
    metres = np.where(ramp % 2, 40, 79)
    result = evaluate(reader(METRES), write_kitti(tmp_path, np.full(ramp.shape, 120), metres), CPU)
    counted = metres[153:371, 44:1197]  # everything is taken for 80 m
    assert result['abs_rel'] == pytest.approx(np.mean(np.abs(80 - counted) / counted), rel=1e-6)


def test_relative_depth_is_aligned_over_the_whole_image(tmp_path):
    class Halves(Reader):
        """One value on the left, one on the right."""

        def forward(self, image: Tensor, wanted: set[str]) -> dict[str, Tensor]:  # noqa: ARG002
            height, width = image.shape[2:]
            column = torch.arange(width) >= width // 2
            return {'depth': 0.7 * column.float().expand(1, height, width) + 3}

    metres = np.full((375, 1242), 8)
    metres[:, 621:] = 2
    metres[:100] = 0  # the sky has no truth
    dataset = write_kitti(tmp_path, metres, metres)
    result = evaluate(Trained('halves', RELATIVE, Halves()), dataset, CPU)
    assert result['protocol'] == 'aligned' and 'aligned' not in result
    # Bilinear on the way to 1242 pixels: but for the column in the middle it is exact.
    assert result['bad_pixels'] < 0.2 and result['delta1'] > 0.998
    assert result['abs_rel'] < 0.01


def test_inverse_depth_comes_to_the_size_of_the_truth_bilinearly():
    class Coarse(Reader):
        """A map of 2x2, whatever the image."""

        def forward(self, image: Tensor, wanted: set[str]) -> dict[str, Tensor]:  # noqa: ARG002
            return {'depth': torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])}

    # Corners not aligned, a 2x2 map on 8 columns: 1 until a quarter, then down in steps of 1/4.
    edge = np.array([1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8, 0, 0])
    inverse = edge[:, None] * edge + (1 - edge[:, None]) * (1 - edge)
    truth = (1 / (0.1 + 0.4 * inverse)).astype(np.float32)
    sample = Sample(np.zeros((8, 8, 3), np.uint8), truth)
    dataset = DataSet('folder', [0], lambda item: sample, True)  # noqa: ARG005
    result = evaluate(Trained('coarse', RELATIVE, Coarse()), dataset, CPU)
    assert result['abs_rel'] == pytest.approx(0, abs=1e-5)


def test_labels_of_ade20k_are_scored_where_they_are_known(tmp_path):
    ids = np.full((64, 64), 7, np.uint8)
    ids[:, 32:], ids[32:, 32:] = 3, 9
    truth = ids + 1
    truth[48:, 48:] = 1 + 20  # of 9, a quarter of its quarter is something else
    truth[28:36], truth[:, 28:36] = 0, 0  # the blur between classes does not count
    rgb = np.dstack((ids, ids, ids))
    for kind, name, pixels in (('images', 'a.jpg', rgb), ('annotations', 'a.png', truth)):
        (tmp_path / kind / 'validation').mkdir(parents=True)
        cv2.imwrite(str(tmp_path / kind / 'validation' / name), pixels)
    dataset = replace(open_dataset('ade20k', tmp_path), multiscale=False)
    sample = dataset.read(dataset.items[0])
    dataset = replace(dataset, items=[replace(sample, rgb=rgb)], read=lambda one: one)  # no JPEG
    result = evaluate(reader(CLASSES), dataset, CPU)
    area, part = 28 * 28, 16 * 16
    assert result['pixel_accuracy'] == pytest.approx((4 * area - part) / (4 * area))
    iou = {name: value for name, value in result['iou'].items() if value}
    assert sorted(iou.values()) == pytest.approx([(area - part) / area, 1, 1])
    assert result['miou'] == pytest.approx((2 + (area - part) / area + 0) / 4)
    assert 'abs_rel' not in result and result['protocol'] is None
    assert result['baselines']['constant']['pixel_accuracy'] == pytest.approx(0.5)
    assert 'single scale' in table(result)


def test_several_scales_answer_the_same_where_size_does_not_matter(monkeypatch):
    small = partial(multiscale_labels, sizes=(0.5, 1), longer=64, crop=32)
    monkeypatch.setattr('dpt_ros.evaluation.evaluate.multiscale_labels', small)
    ids = np.full((64, 64), 7, np.uint8)
    sample = Sample(np.dstack((ids, ids, ids)), labels=ids)
    dataset = DataSet('ade20k', [sample], lambda one: one, False, 'ade20k_150', multiscale=True)
    result = evaluate(reader(CLASSES), dataset, CPU)
    assert (result['miou'], result['multiscale']) == (1, True)


@pytest.fixture(scope='module')
def tiny() -> dict:
    """Evaluate the embedded network on two worlds."""
    return evaluate(store.load('dpt_tiny'), worlds(size=(96, 128)).first(2), CPU)


def test_worlds_are_scored_as_perception_answers(tiny: dict):
    trained = store.load('dpt_tiny')
    perception = Perception(trained, trained, device=CPU, dtype=torch.float32)
    errors, right = [], []
    for seed in (1_000_000_000, 1_000_000_001):
        sample = worlds(size=(96, 128)).read(seed)
        frame = Frame('', None, sample.rgb, None)
        (result,) = perception([frame], {'depth', 'labels'}, OPTIONS)
        known = np.isfinite(sample.depth)
        depth, truth = result.products['depth'].clip(0, 20)[known], sample.depth[known]
        errors.append(np.mean(np.abs(depth - truth) / truth))
        right.append(result.products['labels'] == sample.labels)
    assert tiny['abs_rel'] == pytest.approx(np.mean(errors), rel=1e-5)
    assert tiny['pixel_accuracy'] == np.mean(right)


def test_a_result_has_these_keys(tiny: dict):
    assert all(isinstance(tiny[key], float) for key in (*DEPTH, *LABELS))
    assert {'model', 'dataset', 'images', 'iou', 'aligned', 'published'} <= tiny.keys()
    assert tiny['baselines'].keys() == {'fitted_on', 'constant', 'row'}
    where = {'date', 'cpu', 'threads', 'torch', 'timm', 'device', 'precision', 'seconds'}
    assert where <= tiny['conditions'].keys()
    assert json.loads(json.dumps(tiny)) == tiny


def test_the_network_beats_both_baselines(tiny: dict):
    for baseline in ('constant', 'row'):
        scores = tiny['baselines'][baseline]
        assert tiny['abs_rel'] < scores['abs_rel'] and tiny['miou'] > scores['miou']
        assert tiny['aligned']['abs_rel'] < scores['aligned']['abs_rel']


def test_baselines_of_worlds_are_fitted_to_worlds_for_training(tiny: dict):
    again = evaluate(
        store.load('dpt_tiny'),
        worlds(size=(96, 128)).first(2),
        CPU,
        fitted_on=worlds(TRAINING[:2]),
    )
    assert again['baselines'] == tiny['baselines']
    assert tiny['baselines']['fitted_on'] == '2 images'


def test_the_table_tells_scores_and_what_they_are_of(tiny: dict):
    text = table(tiny)
    told = 'dpt_tiny on worlds: 2 images, the first of 512, metres as they are\n'
    assert text.startswith(told) and tiny['limited_from'] == 512
    for word in (f'{tiny["abs_rel"]:.3f}', f'{tiny["aligned"]["silog"]:.3f}', 'constant', 'torch'):
        assert word in text
    assert 'not published: dpt_tiny on worlds' in text


def test_what_was_published_stands_beside_the_result(tmp_path, ramp):
    dataset = write_kitti(tmp_path, ramp, ramp)
    result = evaluate(Trained('dpt_hybrid_kitti', METRES, Reader()), dataset, CPU)
    assert [line['rmse'] for line in result['published']] == [2.573, 2.575]
    text = table(result)
    assert '2.573' in text and 'Table 3' in text and 'not published' not in text


def test_baselines_of_a_recording_are_fitted_to_it():
    depth = np.full((32, 64), 3.0, np.float32)
    sample = Sample(np.full((32, 64, 3), 6, np.uint8), depth)
    dataset = replace(recording([]), items=[sample], read=lambda one: one)
    entry = replace(METRES, resize=Resize(64, 32))
    result = evaluate(reader(entry), dataset, CPU)
    assert result['abs_rel'] == pytest.approx(1)
    assert result['aligned']['abs_rel'] == pytest.approx(0, abs=1e-6)
    assert result['baselines']['constant']['abs_rel'] == pytest.approx(0, abs=1e-6)
    assert result['baselines']['fitted_on'] == '1 images, those scored'


def test_what_a_network_does_not_give_is_not_scored():
    with pytest.raises(ValueError, match='reader gives neither depth nor labels that worlds has'):
        evaluate(reader(CLASSES), worlds().first(1), CPU)


def test_truth_that_nowhere_counts_is_an_error_not_a_score():
    sample = Sample(np.zeros((32, 64, 3), np.uint8), np.full((32, 64), 3000.0, np.float32))
    dataset = replace(recording([]), items=[sample], read=lambda one: one)
    with pytest.raises(ValueError, match='no image has a pixel whose depth counts'):
        evaluate(reader(METRES), dataset, CPU)


def test_nothing_is_out_of_range_for_the_options():
    assert (OPTIONS.depth_min, OPTIONS.depth_max) == (0, math.inf)
    assert OPTIONS.segmentation_min_confidence == OPTIONS.depth_edge_angle == 0
    assert CHECKPOINTS['dpt_tiny'].is_metric
