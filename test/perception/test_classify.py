"""Tiled classification against the published order of steps on whole images."""

import math

from dpt_ros.perception import bands
from dpt_ros.perception.classify import among, BUDGET, classify, COLUMNS, ROWS
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

pytestmark = pytest.mark.usefixtures('each_way')

CASES = {  # (batch, classes, h, w), (H, W)
    'one tile': ((1, 5, 12, 16), (ROWS, COLUMNS)),
    'a pixel more than tiles': ((1, 40, 12, 16), (3 * ROWS + 1, 7 * COLUMNS + 1)),
    'smaller than the scores': ((1, 4, 48, 64), (37, 51)),
    'one of many tiles is a sliver': ((2, 7, 30, 20), (400, 231)),
    'more classes than 8 bits count': ((1, 300, 6, 8), (30, 40)),
    '150 classes': ((1, 150, 10, 14), (120, 160)),
    'a batch': ((2, 10, 24, 32), (100, 140)),
    'twice, the head of the network itself': ((1, 6, 24, 32), (48, 64)),
    'one pixel': ((1, 3, 6, 6), (1, 1)),
    'fewer scores than a pixel depends on': ((2, 3, 2, 3), (9, 70)),
    'rows left out': ((1, 4, 64, 5), (5, 12)),
}


def random_scores(shape: tuple[int, ...]) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def probabilities(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Do as the authors do: bilinear by two, corners aligned; bicubic; softmax."""
    twice = F.interpolate(scores, scale_factor=2, mode='bilinear', align_corners=True)
    whole = F.interpolate(twice, size=size, mode='bicubic', align_corners=False)
    return whole.softmax(dim=1)


@pytest.mark.parametrize(('shape', 'size'), CASES.values(), ids=CASES.keys())
def test_confidence_is_that_of_the_whole_image(shape: tuple[int, ...], size: tuple[int, int]):
    scores = random_scores(shape)
    _, confidence = classify(scores, size)
    torch.testing.assert_close(
        confidence, probabilities(scores, size).amax(dim=1), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(('shape', 'size'), CASES.values(), ids=CASES.keys())
def test_labels_are_those_of_the_whole_image(shape: tuple[int, ...], size: tuple[int, int]):
    scores = random_scores(shape)
    labels, _ = classify(scores, size)
    (first, second), order = probabilities(scores, size).topk(2, dim=1)[0].unbind(1), None
    order = probabilities(scores, size).argmax(dim=1)
    clear = first - second > 1e-4  # elsewhere the last bit of a sum decides
    assert clear.float().mean() > 0.99
    assert torch.equal(labels.long()[clear], order[clear])


def test_of_equal_scores_the_first_wins():
    scores = torch.zeros((1, 4, 6, 8))
    scores[:, 0] = -1
    labels, confidence = classify(scores, (20, 20))
    assert labels.unique().tolist() == [1]
    torch.testing.assert_close(confidence, torch.full((1, 20, 20), 1 / (3 + math.exp(-1))))


def test_above_255_classes_labels_are_wider():
    assert classify(random_scores((1, 255, 4, 4)), (8, 8))[0].dtype == torch.uint8
    assert classify(random_scores((1, 256, 4, 4)), (8, 8))[0].dtype == torch.int32


def test_labels_go_to_memory_that_is_spare_where_loops_write_them():
    scores = random_scores((1, 5, 12, 16))
    wanted, spare = classify(scores, (50, 60))[0], torch.zeros(50 * 60, dtype=torch.uint8)
    found = classify(scores, (50, 60), spare=spare)[0]
    assert torch.equal(found, wanted)
    assert (found.data_ptr() == spare.data_ptr()) == (bands.loops_for(scores) is not None)
    assert classify(scores, (50, 60), spare=spare[1:])[0].data_ptr() != spare[1:].data_ptr()


def test_scores_in_half_precision_are_classified_in_float32():
    scores = random_scores((1, 5, 12, 16)).half()
    labels, confidence = classify(scores, (50, 60))
    assert (labels.dtype, confidence.dtype) == (torch.uint8, torch.float32)
    torch.testing.assert_close(confidence, classify(scores.float(), (50, 60))[1])


def test_scores_far_from_zero_do_not_overflow():
    _, confidence = classify(random_scores((1, 5, 6, 8)) + 1e4, (20, 20))
    assert confidence.isfinite().all()


class Sizes(TorchDispatchMode):
    """Notes the largest tensor that any operation yields."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = (leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        self.largest = max(self.largest, *(t.untyped_storage().nbytes() for t in tensors), 0)
        return out


def test_nothing_larger_than_a_tile_of_scores_exists(monkeypatch):
    monkeypatch.setattr(bands, '_loops', lambda: None)  # which have a few rows of scores each
    scores, size = random_scores((1, 150, 24, 32)), (240, 320)
    with Sizes() as sizes:
        classify(scores, size)
    tile = 4 * 150 * max(ROWS * COLUMNS, BUDGET // 150)  # bytes
    assert tile // 2 < sizes.largest <= 2 * tile < 4 * 150 * size[0] * size[1] // 5


@pytest.mark.parametrize('kind', [torch.uint8, torch.int32])
def test_pixels_of_some_classes_are_found(kind: torch.dtype):
    labels = torch.tensor([[[0, 3], [7, 255]], [[3, 3], [1, 0]]], dtype=kind)
    found = among(labels, (3, 255))
    assert found.dtype == torch.bool
    assert found.tolist() == [[[False, True], [False, True]], [[True, True], [False, False]]]
