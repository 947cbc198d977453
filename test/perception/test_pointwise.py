"""Convolutions as products of matrices, and the same maps."""

from dpt_ros.model.decoder import Reassemble
from dpt_ros.perception.pointwise import Enlarging, Pointwise, use_products
import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def check(module: nn.Module, kind: type[nn.Module]) -> None:
    """Compare what a convolution makes of a map with what takes its place makes of it."""
    holder = nn.Sequential(module).requires_grad_(False)
    values = torch.randn(2, module.in_channels, 5, 7)
    wanted = holder(values)
    for _ in range(2):  # once and for all
        use_products(holder)
    assert type(holder[0]) is kind
    for layout in (torch.contiguous_format, torch.channels_last):
        found = holder(values.contiguous(memory_format=layout))
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('channels', [(3, 8), (192, 24)])
def test_a_map_of_pixels_seen_alone_is_that_of_the_convolution(channels: tuple, bias: bool):
    check(nn.Conv2d(*channels, 1, bias=bias), Pointwise)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('block', [(2, 2), (4, 4), (3, 2)])
def test_a_map_of_blocks_is_that_of_the_transposed_convolution(block: tuple, bias: bool):
    check(nn.ConvTranspose2d(6, 4, block, block, bias=bias), Enlarging)


def test_other_convolutions_stay():
    others = (
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 1, 2),
        nn.Conv2d(8, 8, 1, padding=1),
        nn.Conv2d(8, 8, 1, groups=2),
        nn.Conv2d(8, 8, 2, 2),
        nn.ConvTranspose2d(8, 8, 3, 2),
        nn.ConvTranspose2d(8, 8, 2, 2, groups=2),
        nn.ConvTranspose2d(8, 8, 2, 2, output_padding=1),
        nn.Conv2d(8, 8, 1, device='meta'),
    )
    network = nn.Sequential(*others)
    use_products(network)
    assert list(network) == list(others)


@pytest.mark.parametrize('scale', [4, 2, 1, 0.5])
def test_a_tap_becomes_the_same_map(scale: float):
    reassemble = Reassemble(12, 8, readout='project', scale=scale).requires_grad_(False)
    tap = torch.randn(2, 12, 6, 8), torch.randn(2, 12)
    wanted = reassemble(tap)
    use_products(reassemble)
    assert isinstance(reassemble.project, Pointwise)
    torch.testing.assert_close(reassemble(tap), wanted, rtol=1e-5, atol=1e-5)
