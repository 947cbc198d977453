"""Fewer multiplications, and the same maps."""

from dataclasses import replace

from dpt_ros.model.decoder import ResidualConvUnit
from dpt_ros.model.dpt import DPT, freeze
from dpt_ros.model.heads import DepthHead, UpsampledConv2d
from dpt_ros.perception import bands, winograd
from dpt_ros.perception.runtime import Network, Runtime
from dpt_ros.perception.winograd import use_winograd, Winograd, WinogradUnit
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
    monkeypatch.setattr(winograd, 'WORTH', 1)


def convolution(inward: int, outward: int, **more: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inward, outward, 3, padding=1, **more).requires_grad_(False)


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest difference, of the spread of what is wanted."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    return float((found - wanted).abs().max() / wanted.std())


@pytest.mark.parametrize('size', [(4, 4), (1, 1), (3, 9), (6, 6), (13, 18), (7, 300), (48, 61)])
@pytest.mark.parametrize('channels', [(64, 64), (24, 48), (4, 24), (12, 160)])
@pytest.mark.usefixtures('_any_size')
def test_maps_are_those_of_the_convolution(size: tuple[int, int], channels: tuple[int, int]):
    plain = convolution(*channels)
    values = torch.randn(2, channels[0], *size)
    assert off(Winograd(plain)(values), plain(values)) < 1e-4


def upsampled(inward: int, outward: int, **more: bool) -> UpsampledConv2d:
    torch.manual_seed(0)
    return UpsampledConv2d(inward, outward, **more).requires_grad_(False)


ASKED = [(26, 36), (23, 61), (13, 18), (13, 36), (13, 9), (7, 36), (1, 1)]  # some shrink
SIZES = [(None, (26, 36)), *((size, size) for size in ASKED)]


@pytest.mark.parametrize(('size', 'found'), SIZES, ids=str)
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.usefixtures('_any_size')
def test_maps_are_upsampled_on_the_way(
    size: tuple[int, int] | None, found: tuple[int, int], relu: bool
):
    plain = upsampled(24, 64, relu=relu)
    values = torch.randn(2, 24, 13, 18)
    assert Winograd(plain)(values, size).shape[2:] == found
    assert off(Winograd(plain)(values, size), plain(values, size)) < 1e-4


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.usefixtures('_any_size')
def test_channels_are_summed_up_behind_a_relu(bias: bool):
    plain, project = upsampled(24, 32, relu=True), nn.Conv2d(32, 1, 1, bias=bias)
    values = torch.randn(2, 24, 13, 18)
    for size in (None, (26, 36), (30, 41)):
        found = Winograd(plain, project.requires_grad_(False))(values, size)
        assert off(found, project(plain(values, size))) < 1e-4


@pytest.fixture(params=[1, 1 << 30], ids=['tiles', 'as ever'])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(winograd, 'WORTH', request.param)


@pytest.mark.parametrize('width', [64, 24])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.usefixtures('_either_way')
def test_a_unit_refines_and_adds_as_before(width: int, layout: torch.memory_format):
    torch.manual_seed(0)
    unit = ResidualConvUnit(width, batch_norm=False).requires_grad_(False)
    x, other = (torch.randn(2, width, 13, 22).contiguous(memory_format=layout) for _ in range(2))
    before = x.clone(), other.clone()
    holder = nn.Sequential(unit)
    wanted, wanted_sum = unit(x), unit(x, other)
    for _ in range(2):  # once and for all
        use_winograd(holder)
    assert type(holder[0]) is WinogradUnit
    assert off(holder[0](x), wanted) < 1e-4
    assert off(holder[0](x, other), wanted_sum) < 1e-4
    assert torch.equal(x, before[0]) and torch.equal(other, before[1])


def test_a_unit_with_norms_keeps_them():
    holder = nn.Sequential(ResidualConvUnit(64, batch_norm=True))
    use_winograd(holder)
    assert type(holder[0]) is ResidualConvUnit


@pytest.mark.usefixtures('_either_way')
def test_a_relu_before_lets_pass_what_is_not_a_number():
    values = torch.randn(1, 64, 12, 12)
    values[0, 3, 6, 7] = torch.nan
    found = Winograd(convolution(64, 64), relu_before=True, relu=True)(values)
    assert found[0, :, 6, 7].isnan().all()
    assert found[0, :, 0, 0].isfinite().all() and (found[0, :, 0, 0] >= 0).all()


@pytest.mark.usefixtures('_any_size')
def test_what_is_not_a_number_stays_that():
    plain, project = upsampled(32, 32, relu=True), nn.Conv2d(32, 1, 1).requires_grad_(False)
    values = torch.randn(1, 32, 13, 18)
    values[0, 3, 6, 7] = torch.nan
    missing = project(plain(values)).isnan()
    assert missing.any()
    assert Winograd(plain, project)(values)[missing].isnan().all()


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


def test_only_what_gains_is_replaced_and_computes_the_same():
    others = (
        convolution(64, 33),
        convolution(33, 64),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, 2, 1),
        convolution(64, 64, groups=2),
        convolution(64, 64, padding_mode='circular'),
        nn.Conv2d(64, 64, 1),
    )
    network = nn.Sequential(convolution(64, 64), nn.Sequential(*others), convolution(64, 32))
    network.requires_grad_(False)
    values = torch.randn(1, 64, 80, 90)
    wanted = network(values)
    for _ in range(2):  # once and for all
        use_winograd(network)
    assert [type(network[0]), type(network[2])] == [Winograd, Winograd]
    assert not any(isinstance(module, Winograd) for module in network[1].modules())
    assert off(network(values), wanted) < 1e-4


@pytest.mark.parametrize('hidden', [32, 64])
@pytest.mark.usefixtures('_any_size')
def test_a_head_reads_the_same_depth(hidden: int):
    torch.manual_seed(0)
    head = DepthHead(64, hidden=hidden).requires_grad_(False)
    fused = [torch.randn(1, 64, 16, 20)]
    wanted = head(fused, (64, 80))
    use_winograd(head)
    assert isinstance(head.out, nn.Identity) == (hidden == 32)
    assert off(head(fused, (64, 80)), wanted) < 1e-4


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
