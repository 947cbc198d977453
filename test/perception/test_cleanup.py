"""REP 117: +Inf is nothing in range, NaN is unknown; boundaries belong to the range."""

from dpt_ros.perception.cleanup import clean
import numpy as np
import pytest
import torch

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ('depth', 'wanted'),
    [
        (2.0, 2.0),
        (0.5, 0.5),  # the nearest that counts
        (8.0, 8.0),  # the farthest that counts
        (0.49, NAN),
        (8.01, INF),
        (0.0, NAN),
        (-1.0, NAN),
        (NAN, NAN),
        (INF, INF),
        (-INF, NAN),
    ],
)
@pytest.mark.parametrize('sky', [None, False])
def test_depth_keeps_to_its_range(depth: float, wanted: float, sky: bool | None):
    mask = None if sky is None else torch.tensor([[[sky]]])
    cleaned = clean(torch.tensor([[[depth]]]), mask, near=0.5, far=8.0)
    np.testing.assert_equal(cleaned.item(), wanted)


@pytest.mark.parametrize('depth', [0.1, 2.0, 99.0, NAN, INF])
def test_the_sky_is_nothing_in_range_whatever_the_network_says(depth: float):
    cleaned = clean(torch.tensor([[[depth]]]), torch.tensor([[[True]]]), near=0.5, far=8.0)
    assert cleaned.item() == INF


def test_only_the_sky_is_taken_out():
    depth, sky = torch.full((2, 3, 4), 2.0), torch.zeros(2, 3, 4, dtype=torch.bool)
    sky[1, 2, 3] = True
    cleaned = clean(depth, sky, near=0.5, far=8.0)
    assert torch.equal(cleaned.isinf(), sky)
    assert (cleaned[~sky] == 2).all()


def test_what_goes_in_stays_as_it_is():
    depth, sky = torch.tensor([[[0.1, 2.0, 9.0]]]), torch.tensor([[[False, False, True]]])
    before = depth.clone(), sky.clone()
    clean(depth, sky, near=0.5, far=8.0)
    assert torch.equal(depth, before[0]) and torch.equal(sky, before[1])
