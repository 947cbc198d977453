"""Fewer multiplications, and the same maps."""

from dataclasses import replace

from dpt_ros.model.dpt import DPT, freeze
from dpt_ros.perception import bands, winograd
from dpt_ros.perception.runtime import Network, Runtime
from dpt_ros.perception.winograd import use_winograd, Winograd
from dpt_ros.zoo.checkpoints import Checkpoint, InverseDepth, Resize, TINY
from dpt_ros.zoo.store import build
import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def _any_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(winograd, 'TILES', 1)


def convolution(inward: int, outward: int, **more: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inward, outward, 3, padding=1, **more).requires_grad_(False)


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest difference, of the spread of what is wanted."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    return float((found - wanted).abs().max() / wanted.std())


@pytest.mark.parametrize('size', [(4, 4), (1, 1), (3, 9), (13, 18), (48, 61)])
@pytest.mark.parametrize('channels', [(64, 64), (70, 130), (8, 3)])
@pytest.mark.usefixtures('_any_size')
def test_maps_are_those_of_the_convolution(size: tuple[int, int], channels: tuple[int, int]):
    plain = convolution(*channels)
    values = torch.randn(2, channels[0], *size)
    assert off(Winograd(plain)(values), plain(values)) < 1e-4


@pytest.mark.usefixtures('_any_size')
def test_a_convolution_without_bias_has_none():
    plain = convolution(64, 64, bias=False)
    values = torch.randn(1, 64, 20, 20)
    assert off(Winograd(plain)(values), plain(values)) < 1e-4


@pytest.mark.usefixtures('_any_size')
def test_results_lie_in_memory_as_they_came():
    plain = convolution(64, 64)
    values = torch.randn(1, 64, 20, 24).to(memory_format=torch.channels_last)
    found = Winograd(plain)(values)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, Winograd(plain)(values.contiguous()))


@pytest.mark.usefixtures('_any_size')
@pytest.mark.parametrize('threads', [1, 2, 5])
def test_threads_share_the_tiles(threads: int, monkeypatch: pytest.MonkeyPatch):
    plain = convolution(64, 64)
    values = torch.randn(1, 64, 70, 75)  # more tiles than go together
    wanted = Winograd(plain)(values)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    assert torch.equal(Winograd(plain)(values), wanted)


def test_what_is_small_or_not_float32_or_without_loops_is_computed_as_ever(
    monkeypatch: pytest.MonkeyPatch,
):
    plain = convolution(64, 64)
    fewer = Winograd(plain)
    large, small = torch.randn(1, 64, 40, 40), torch.randn(1, 64, 8, 8)
    assert torch.equal(fewer(small), plain(small))
    half, plain_half = Winograd(plain.bfloat16()), plain.bfloat16()
    assert torch.equal(half(large.bfloat16()), plain_half(large.bfloat16()))
    monkeypatch.setattr(bands, '_loops', lambda: None)
    plain = convolution(64, 64)
    assert torch.equal(Winograd(plain)(large), plain(large))


def test_only_what_gains_is_replaced_and_keeps_its_weights():
    inner = nn.Sequential(convolution(64, 256), convolution(256, 256, groups=2))
    network = nn.Sequential(inner, nn.Conv2d(256, 128, 1), convolution(256, 64))
    before = network.state_dict()
    use_winograd(network)
    kinds = [type(m) for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert kinds == [Winograd, nn.Conv2d, nn.Conv2d, nn.Conv2d]
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before.keys() | after.keys())


@pytest.fixture
def wide() -> DPT:
    """Build a small network with a decoder as wide as those of the released ones."""
    torch.manual_seed(0)
    architecture = replace(TINY, width=128)
    return freeze(build(Checkpoint(architecture, Resize(256, 192), depth=InverseDepth(1.0, 0.0))))


def test_a_network_on_a_cpu_uses_it_and_gives_the_same_depth(wide: DPT):
    image = torch.rand(1, 3, 192, 256)
    wanted = wide(image, {'depth'})['depth']
    found = Network(wide, torch.device('cpu'), torch.float32)(image, {'depth'})['depth']
    assert sum(isinstance(module, Winograd) for module in wide.modules()) > 10
    assert off(found, wanted) < 1e-4


def test_what_is_compiled_does_not(wide: DPT):
    Network(wide, torch.device('cpu'), torch.float32, Runtime('compile'))
    assert not any(isinstance(module, Winograd) for module in wide.modules())
