"""Sizes, crops, mirror images and their averages, with networks that answer by rule."""

from math import exp

from dpt_ros.evaluation.multiscale import CROP, mirrored, multiscale_labels, sides, starts, tiled
import numpy as np
import pytest
import torch
from torch import Tensor

CPU = torch.device('cpu')


def constant(*values: float) -> Tensor:
    """Return scores of two images, 3x3, the same everywhere."""
    return torch.tensor(values).reshape(1, -1, 1, 1).expand(2, -1, 3, 3)


def in_turn(*answers: Tensor):
    """Make a network that gives one answer after the other, whatever it sees."""
    left = list(answers)
    return lambda image: left.pop(0)  # noqa: ARG005


@pytest.mark.parametrize(
    ('shape', 'longer', 'wanted'),
    [((480, 640), 520, (390, 520)), ((640, 480), 520, (520, 390)), ((512, 683), 260, (195, 260))],
)
def test_the_longer_side_is_set_and_the_other_follows(shape, longer, wanted):
    assert sides(*shape, longer) == wanted


@pytest.mark.parametrize(
    ('side', 'wanted'),
    [(480, [0]), (481, [0, 320]), (800, [0, 320]), (801, [0, 320, 640]), (1040, [0, 320, 640])],
)
def test_crops_begin_every_two_thirds_of_their_side(side, wanted):
    assert starts(side, CROP) == wanted


def test_a_mirror_image_is_asked_too_and_turned_back():
    def first_channel(image: Tensor) -> Tensor:
        return image[:, :1, ::2, ::2]

    image = torch.ones(1, 3, 6, 12)
    image[..., 6:] = 3
    answer = mirrored(first_channel, image)
    assert answer.shape == (1, 1, 6, 12)
    # 2 x first channel: the mirrored answer, turned back, is that of the same pixel
    np.testing.assert_allclose(answer[0, 0, :, 0], exp(1 + 1))
    np.testing.assert_allclose(answer[0, 0, :, -1], exp(3 + 3))


def test_exp_is_of_the_sum_of_both():
    def second_larger(image: Tensor) -> Tensor:
        scores = torch.ones(2, 1, 3, 3)
        scores[1] = 3
        assert torch.equal(image[1], image[0].flip(2))
        return scores

    image = torch.arange(108.0).reshape(1, 3, 6, 6)
    np.testing.assert_allclose(mirrored(second_larger, image), exp(4))


def test_crops_are_averaged_where_they_overlap():
    network = in_turn(constant(0.0), constant(1.0))  # at columns 0 to 5 and 4 to 9
    (row,) = tiled(network, torch.zeros(1, 3, 6, 10), 6)[0, 0, :1].numpy()
    both = (1 + exp(2)) / 2
    np.testing.assert_allclose(row, [1] * 4 + [both] * 2 + [exp(2)] * 4)


def test_what_is_smaller_than_a_crop_is_filled_up_with_black_and_cut_off_again():
    seen = []

    def network(image: Tensor) -> Tensor:
        seen.append(image[0])
        return torch.zeros(2, 1, 3, 3)

    assert tiled(network, torch.ones(1, 3, 4, 9), 6).shape == (1, 1, 4, 9)
    first, second = (image.mean(dim=0) for image in seen)
    assert first[:4].all() and not first[4:].any()
    assert second[:4, :5].all() and not second[:, 5:].any()  # columns 4 to 8, and one of black


def test_sizes_are_added_up_after_exp():
    # Of the scores themselves the second class has more: 1.1 + 1.1 > 2.
    network = in_turn(constant(2.0, 0.0), constant(0.0, 1.1), constant(0.0, 1.1))
    rgb = np.zeros((6, 6, 3), np.uint8)
    labels = multiscale_labels(network, rgb, CPU, sizes=(0.5, 0.75, 1.0), longer=6, crop=6)
    assert labels.shape == (6, 6) and (labels == 0).all()


def test_large_scores_do_not_overflow():
    network = in_turn(constant(90.0, 91.0))  # exp of their sums is more than float32 holds
    labels = multiscale_labels(
        network, np.zeros((6, 6, 3), np.uint8), CPU, sizes=(1,), longer=6, crop=6
    )
    assert (labels == 1).all()


def test_labels_stand_where_they_are_in_the_image():
    def bright_is_one(image: Tensor) -> Tensor:
        half = torch.nn.functional.avg_pool2d(image[:, :1], 2) / 255
        return torch.cat((1 - half, half), dim=1) * 9

    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[:20, 40:] = 255
    labels = multiscale_labels(bright_is_one, rgb, CPU, longer=72, crop=48)
    wanted = rgb[..., 0] // 255
    clear = np.ones_like(wanted, bool)
    clear[17:23], clear[:, 37:43] = False, False  # but for the blur at the edges
    np.testing.assert_array_equal(labels[clear], wanted[clear])


def test_sizes_are_the_seven_of_the_protocol():
    seen = []

    def network(image: Tensor) -> Tensor:
        seen.append(image.shape[2:])
        return torch.zeros(2, 1, image.shape[2] // 2, image.shape[3] // 2)

    multiscale_labels(network, np.zeros((480, 640, 3), np.uint8), CPU)
    assert set(seen) == {(480, 480)}
    # 260x195 and 390x293 fill one crop; then 520, 650, 780, 910 and 1040 wide:
    grids = [1, 1, 1 * 2, 2 * 2, 2 * 2, 2 * 3, 2 * 3]
    grids[3] = 2 * 2  # 650x488
    assert len(seen) == sum(grids)
