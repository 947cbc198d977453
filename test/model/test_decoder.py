"""The parts of the decoder against formulas written out by hand."""

from dpt_ros.model.backbone import Tap
from dpt_ros.model.decoder import (
    AddReadout,
    Decoder,
    Fusion,
    IgnoreReadout,
    KeepStage,
    ProjectReadout,
    Reassemble,
    ResidualConvUnit,
)
import pytest
import torch
from torch import nn
from torch.nn import functional as F


def tap(channels=6, height=4, width=5, batch=2):
    return Tap(torch.randn(batch, channels, height, width), torch.randn(batch, channels))


def randomize(module):
    """Give every parameter and statistic a value that no default has."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.2, 1)
    return module.eval()


def test_a_readout_ignored_leaves_the_patches():
    features, readout = tap()
    assert torch.equal(IgnoreReadout()(features, readout), features)


def test_a_readout_added_reaches_every_patch_of_its_own_image():
    features, readout = tap()
    result = AddReadout()(features, readout)
    for image in (0, 1):
        for channel in (0, 5):
            expected = features[image, channel] + readout[image, channel]
            assert torch.equal(result[image, channel], expected)


def test_a_readout_is_projected_behind_its_patch():
    read, (features, readout) = ProjectReadout(6), tap()
    joined = torch.cat((features[1, :, 2, 3], readout[1]))  # of one patch of the second image
    expected = F.gelu(read.project.weight @ joined + read.project.bias)
    torch.testing.assert_close(read(features, readout)[1, :, 2, 3], expected)


def test_the_readout_projection_uses_the_exact_gelu():
    read = ProjectReadout(1)
    nn.init.zeros_(read.project.weight)
    nn.init.ones_(read.project.bias)
    result = read(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1)).item()
    assert result == pytest.approx(0.8413447460685429, abs=1e-6)  # the normal distribution at 1


def test_an_unknown_readout_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="one of ignore, add, project, got 'concat'"):
        Reassemble(6, 8, readout='concat', scale=1)


@pytest.mark.parametrize(
    ('scale', 'size'),
    [(4, (28, 36)), (2, (14, 18)), (1, (7, 9)), (0.5, (4, 5))],
    ids=['stride 4', 'stride 8', 'stride 16', 'stride 32'],
)
@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
def test_tokens_are_reassembled_to_the_stride_of_their_stage(scale, size, readout):
    reassemble = Reassemble(6, 8, readout=readout, scale=scale)
    assert reassemble(tap(6, 7, 9)).shape == (2, 8, *size)


@pytest.mark.parametrize('scale', [4, 2])
def test_a_patch_is_enlarged_to_its_own_pixels_only(scale):
    reassemble = randomize(Reassemble(1, 1, readout='ignore', scale=scale))
    features = torch.zeros(1, 1, 2, 3)
    plain = reassemble(Tap(features, torch.zeros(1, 1)))
    features[0, 0, 1, 2] = 1
    changed = (reassemble(Tap(features, torch.zeros(1, 1))) != plain)[0, 0]
    assert changed.sum() == scale**2
    right = 2 * scale
    assert changed[scale:, right:].all()


def test_a_stage_of_a_resnet_passes_as_it_is():
    features = torch.randn(1, 6, 4, 5)
    assert KeepStage()(Tap(features, None)) is features


@pytest.mark.parametrize('batch_norm', [False, True])
def test_a_residual_unit_adds_to_its_input_what_comes_before_the_relu(batch_norm):
    unit, x = randomize(ResidualConvUnit(3, batch_norm)), torch.randn(1, 3, 6, 7)
    y = F.conv2d(x.clamp(min=0), unit.conv1.weight, unit.conv1.bias, padding=1)
    y = unit.norm1(y).clamp(min=0)
    y = unit.norm2(F.conv2d(y, unit.conv2.weight, unit.conv2.bias, padding=1))
    torch.testing.assert_close(unit(x), x + y)


def test_a_residual_unit_leaves_its_input_alone():
    x = torch.randn(1, 3, 6, 7)
    kept = x.clone()
    ResidualConvUnit(3, batch_norm=False)(x)
    assert torch.equal(x, kept)


def test_with_batch_norm_the_convolutions_of_a_unit_have_no_bias():
    names = {name for name, _ in ResidualConvUnit(3, batch_norm=True).named_parameters()}
    assert not names & {'conv1.bias', 'conv2.bias'}
    assert {'norm1.weight', 'norm2.bias'} <= names


def test_projecting_before_upsampling_is_projecting_after_it():
    fusion = randomize(Fusion(3, batch_norm=False, skip=True)).double()
    x, skip = torch.randn(2, 1, 3, 4, 5, dtype=torch.float64)
    refined = fusion.refine(x + fusion.skip(skip))
    expected = F.conv2d(double(refined), fusion.project.weight, fusion.project.bias)
    torch.testing.assert_close(double(fusion(x, skip)), expected, rtol=1e-12, atol=1e-12)


def double(x):
    """Upsample a map as the fusion of the paper does."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)


def test_a_fused_map_comes_to_the_size_of_the_finer_one_corner_to_corner():
    decoder = randomize(Decoder((6,) * 4, (8, 9, 10, 11), 4))
    fused = []
    decoder.fusion[3].register_forward_hook(lambda _, __, result: fused.append(result))
    coarsest = decoder([tap(6, 3, 5, batch=1) for _ in range(4)])[0]
    expected = F.interpolate(fused[0], (3, 5), mode='bilinear', align_corners=True)
    assert fused[0].shape[-2:] == (2, 3)
    assert torch.equal(coarsest, expected)


def test_the_coarsest_fusion_has_no_skip_and_the_others_have():
    decoder = Decoder((6,) * 4, (8, 8, 8, 8), 4)
    assert [fusion.skip is None for fusion in decoder.fusion] == [False, False, False, True]


@pytest.mark.parametrize('grid', [(4, 6), (3, 5)], ids=['even', 'odd'])
def test_maps_are_fused_coarse_to_fine_up_to_a_quarter_of_the_image(grid):
    decoder = Decoder((6,) * 4, (8, 9, 10, 11), 4)
    fused = decoder([tap(6, *grid, batch=1) for _ in range(4)])
    height, width = grid  # of stride 16
    sizes = [(1, 4, height * scale, width * scale) for scale in (1, 2, 4, 4)]
    assert [x.shape for x in fused] == sizes


@pytest.mark.parametrize(
    ('grid', 'sides'), [((4, 6), (4, 6)), ((3, 5), (4, 6)), ((5, 4), (6, 4))], ids=str
)
def test_doubling_fuses_to_powers_of_two_of_the_coarsest_map(grid, sides):
    decoder = Decoder((6,) * 4, (8, 9, 10, 11), 4, doubling=True)
    fused = decoder([tap(6, *grid, batch=1) for _ in range(4)])
    height, width = sides  # rounded up to even: twice the coarsest
    sizes = [(1, 4, height * scale, width * scale) for scale in (1, 2, 4, 4)]
    assert [x.shape for x in fused] == sizes


def test_where_grids_are_even_doubling_changes_nothing():
    plain = randomize(Decoder((6,) * 4, (8, 9, 10, 11), 4))
    doubling = Decoder((6,) * 4, (8, 9, 10, 11), 4, doubling=True)
    doubling.load_state_dict(plain.state_dict())
    taps = [tap(6, 4, 6, batch=1) for _ in range(4)]
    for one, other in zip(plain(taps), doubling(taps), strict=True):
        assert torch.equal(one, other)


def test_a_skip_of_another_size_is_resampled_between_half_pixels():
    fusion = randomize(Fusion(3, batch_norm=False, skip=True, bias=False))
    x, skip = torch.randn(1, 3, 4, 6), torch.randn(1, 3, 3, 5)
    fitted = F.interpolate(skip, (4, 6), mode='bilinear', align_corners=False)
    torch.testing.assert_close(fusion(x, skip), fusion(x, fitted))


def test_residual_units_may_have_no_bias():
    decoder = Decoder((6,) * 4, (8, 9, 10, 11), 4, bias=False)
    names = {name for name, _ in decoder.fusion.named_parameters() if name.endswith('bias')}
    assert names == {f'{n}.project.bias' for n in range(4)}


@pytest.mark.parametrize('kept', [0, 2, 4])
def test_the_first_taps_are_used_as_they_are_and_the_others_reassembled(kept):
    decoder = Decoder((5, 6, 7, 8), (5, 6, 7, 8), 4, kept=kept)
    found = [isinstance(stage, KeepStage) for stage in decoder.reassemble]
    assert found == [True] * kept + [False] * (4 - kept)


def test_a_tap_too_few_is_an_error():
    decoder = Decoder((6,) * 4, (8, 8, 8, 8), 4)
    with pytest.raises(ValueError, match='shorter'):
        decoder([tap() for _ in range(3)])
