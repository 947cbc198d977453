"""Depth at rest: where the image stays, and nowhere else."""

from dpt_ros.perception.steady import BLOCK, calm, Steadiness
import pytest
import torch
from torch import Tensor

SIZE = (40, 60)
GRAY = torch.full((*SIZE, 3), 100, dtype=torch.uint8)


def after(first: Tensor, second: Tensor, share: float, colors: Tensor = GRAY) -> Tensor:
    """Show an image with one depth, then another image with another."""
    before, gray = calm(first, GRAY, None, share)
    return calm(second, colors, (gray, before), share)[0]


def flat(metres: float) -> Tensor:
    return torch.full(SIZE, metres)


def moved(columns: int) -> Tensor:
    """Return the image with something bright in its first columns."""
    colors = GRAY.clone()
    colors[:, :columns] = 200
    return colors


def test_at_rest_inverse_depth_is_averaged():
    # 0.75 / 2 + 0.25 / 4
    assert torch.allclose(after(flat(2.0), flat(4.0), 0.75), flat(1 / 0.4375))


def test_flicker_shrinks_by_its_share():
    # An exponential average of independent noise differs from frame to frame by
    # (1 - s) / sqrt(1 + s) of what the noise does.
    noise = torch.Generator().manual_seed(0)
    maps = [4 + 0.01 * torch.randn(SIZE, generator=noise) for _ in range(40)]
    depth, gray = calm(maps[0], GRAY, None, 0.8)
    steady = [depth := calm(one, GRAY, (gray, depth), 0.8)[0] for one in maps[1:]]
    before, now = ((m[-1] - m[-2]).std().item() for m in (maps, steady))
    assert now / before == pytest.approx(0.2 / 1.8**0.5, rel=0.05)


def test_where_the_image_changed_depth_is_new_at_once_with_a_margin():
    depth = after(flat(2.0), flat(4.0), 0.75, moved(8))
    edge = 8 + BLOCK
    assert (depth[:, :edge] == 4.0).all()
    assert (depth[:, edge:] < 3.0).all()


def test_while_the_camera_moves_nothing_is_averaged():
    assert (after(flat(2.0), flat(4.0), 0.75, moved(40)) == 4.0).all()


def test_the_noise_of_a_sensor_is_no_change():
    noise = torch.randint(-6, 7, GRAY.shape, generator=torch.Generator().manual_seed(0))
    depth = after(flat(2.0), flat(4.0), 0.75, (GRAY + noise).to(torch.uint8))
    assert (depth < 3.0).float().mean() > 0.95


@pytest.mark.parametrize('unknown', [torch.nan, torch.inf])
def test_what_was_or_is_unknown_is_not_averaged(unknown: float):
    first, second = flat(2.0), flat(4.0)
    first[:10], second[10:20] = unknown, unknown
    depth = after(first, second, 0.75)
    assert (depth[:10] == 4.0).all()
    assert torch.equal(depth[10:20].isfinite(), torch.zeros(10, 60, dtype=torch.bool))
    assert (depth[20:] < 3.0).all()


def test_the_first_image_has_its_own_depth():
    depth, _ = calm(flat(2.0), GRAY, None, 0.75)
    assert (depth == 2.0).all()


def test_each_camera_has_its_own_past():
    steady = Steadiness()
    steady.keep('front', GRAY, flat(2.0))
    assert steady.last('front', SIZE) is not None
    assert steady.last('rear', SIZE) is None


def test_another_size_begins_anew():
    steady = Steadiness()
    steady.keep('', GRAY, flat(2.0))
    assert steady.last('', (20, 30)) is None


def test_what_is_forgotten_is_gone():
    steady = Steadiness()
    steady.keep('', GRAY, flat(2.0))
    steady.forget('')
    assert steady.last('', SIZE) is None
