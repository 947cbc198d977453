"""BEiT and Swin V2 against timm's own forward pass and cases small enough to work out by hand."""

from dpt_ros.model.relative import BEiT, of_pairs, OffsetAttention, SwinV2
import pytest
from timm.models.beit import Attention, Beit
from timm.models.swin_transformer_v2 import SwinTransformerV2
import torch
from torch import nn


def randomized(network):
    """Give every parameter a value that no default has."""
    random = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=max(parameter.shape[-1], 8) ** -0.5, generator=random)
    return network.eval()


def beit(side=64):
    network = Beit(
        img_size=side,
        embed_dim=32,
        depth=4,
        num_heads=2,
        init_values=0.1,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
    )
    return randomized(network)


def swin(side=64, window=4, pretrained=(0, 0, 0, 0)):
    network = SwinTransformerV2(
        img_size=side,
        embed_dim=16,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 2, 4),
        window_size=window,
        pretrained_window_sizes=pretrained,
    )
    return randomized(network)


def attention(table, heads=1):
    """Return the attention of a grid of 2 x 2 patches with a table of 3 x 3 offsets and three."""
    theirs = Attention(8, heads, qkv_bias=True, window_size=(2, 2))
    theirs.relative_position_bias_table = nn.Parameter(torch.tensor(table)[:, None])
    return OffsetAttention(theirs)


def test_every_pair_of_patches_finds_its_offset():
    rows, columns = 2, 3
    down, across = torch.arange(1 - rows, rows), torch.arange(1 - columns, columns)
    pairs = of_pairs((10 * down[:, None] + across)[None])[0]
    for i in range(rows * columns):
        for j in range(rows * columns):
            behind = 10 * (i // columns - j // columns) + i % columns - j % columns
            assert pairs[i, j] == behind


def test_on_its_own_grid_the_table_is_looked_up_as_it_is():
    offsets = [-11.0, -10, -9, -1, 0, 1, 9, 10, 11]
    bias = attention([*offsets, 50.0, 60.0, 70.0]).bias((2, 2))[0]
    assert bias.tolist() == [
        [70, 50, 50, 50, 50],  # what the readout finds: in itself, then in patches
        [60, 0, -1, -10, -11],
        [60, 1, 0, -9, -10],
        [60, 10, 9, 0, -1],
        [60, 11, 10, 1, 0],
    ]


def test_on_another_grid_the_table_is_read_between_centers_of_pixels():
    # Of three columns five are made: centers at 0.3, 0.9, 1.5, 2.1, 2.7 of them, less a half.
    bias = attention([0.0, 5, 10] * 3 + [0.0] * 3).bias((1, 3))[0, 1:, 1:]
    read = [0, 2, 5, 8, 10]  # by how many columns the query is behind: -2 to 2
    assert torch.allclose(
        bias, torch.tensor([[read[2 + i - j] * 1.0 for j in range(3)] for i in range(3)])
    )


def test_taps_of_beit_are_what_timm_calls_intermediate_features():
    vit, image = beit(), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = vit.forward_intermediates(
            image, indices=[0, 2, 3], return_prefix_tokens=True, intermediates_only=True
        )
        taps = BEiT(vit, (0, 2, 3))(image)
    for tap, (features, prefix) in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap.features, features, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tap.readout, prefix[:, 0], rtol=1e-4, atol=1e-5)


def test_taps_of_beit_on_a_wide_image_are_wide():
    taps = BEiT(beit(), (0, 1, 2, 3))(torch.zeros(1, 3, 32, 80))
    assert [tap.features.shape for tap in taps] == [(1, 32, 2, 5)] * 4


def test_beit_tells_the_decoder_its_channels_and_that_no_tap_is_a_map():
    backbone = BEiT(beit(), (0, 1, 2, 3))
    assert (backbone.channels, backbone.kept, len(backbone.blocks)) == ((32,) * 4, 0, 4)
    assert len(BEiT(beit(), (0, 1)).blocks) == 2
    with pytest.raises(ValueError, match=r'100x64 pixels .* use 96x64'):
        backbone.check_size(100, 64)


@pytest.mark.parametrize('pretrained', [(0, 0, 0, 0), (3, 3, 2, 1)], ids=['present', 'pretrained'])
@pytest.mark.parametrize('window', [2, 4, 8], ids='windows of {}'.format)
def test_taps_of_swin_are_what_timm_calls_intermediate_features(window, pretrained):
    # Stages have 16, 8, 4 and 2 patches along a side: windows are cut, shifted, or all there is.
    vit, image = swin(64, window, pretrained), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = vit.forward_intermediates(image, intermediates_only=True)
        taps = SwinV2(vit, (0, 1, 2, 3))(image)
    for tap, features in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap.features, features, rtol=1e-4, atol=1e-4)
        assert tap.readout is None


def test_the_sharpest_attention_of_swin_is_as_sharp_as_timms():
    vit, image = swin(), torch.randn(1, 3, 64, 64)
    for name, parameter in vit.named_parameters():
        if name.endswith('logit_scale'):
            nn.init.constant_(parameter, 6)  # beyond a hundred
    with torch.inference_mode():
        expected = vit.forward_intermediates(image, intermediates_only=True)[-1]
        torch.testing.assert_close(SwinV2(vit, (3,))(image)[0].features, expected)


def test_swin_tells_the_decoder_its_channels_and_that_every_tap_is_a_map():
    backbone = SwinV2(swin(), (0, 1, 2, 3))
    assert (backbone.channels, backbone.kept) == ((16, 32, 64, 128), 4)


@pytest.mark.parametrize('size', [(128, 64), (32, 32)], ids=str)
def test_swin_takes_images_of_its_own_size_only(size):
    with pytest.raises(ValueError, match=r'which takes 64x64 only; leave network\.side at 0'):
        SwinV2(swin(), (0, 1, 2, 3)).check_size(*size)
    SwinV2(swin(), (0, 1, 2, 3)).check_size(64, 64)


@pytest.mark.parametrize('backbone', [BEiT(beit(), (0, 1)), SwinV2(swin(), (0, 1))], ids=type)
def test_nothing_but_parameters_is_kept(backbone):
    # Whatever is computed once would be missing after loading, which happens on no device.
    assert not list(backbone.buffers())
