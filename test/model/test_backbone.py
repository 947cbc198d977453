"""The backbones against timm's own forward pass and cases small enough to work out by hand."""

from dpt_ros.model.backbone import (
    Hybrid,
    POSITIONS,
    resize_position_embedding,
    STANDARDIZATIONS,
    StandardizedConv2d,
    Stemmed,
    ViT,
)
import pytest
import timm
import torch
from torch import nn


def row(embedding):
    """Return the first channel of the first row of a square grid, prefix dropped."""
    side = int((embedding.shape[1] - 1) ** 0.5)
    return embedding[0, 1:, 0][:side].tolist()


def grid_of_columns(values):
    """Return a square grid of embeddings whose rows all are `values`, behind one prefix token."""
    columns = torch.tensor(values, dtype=torch.float64)
    grid = columns.repeat(len(values), 1).reshape(1, -1, 1)
    return torch.cat((torch.tensor([[[7.0]]], dtype=torch.float64), grid), dim=1)


def convolution(kernel, stride):
    """Return ours, over one channel, with weights of one that are taken as they are."""
    like = nn.Conv2d(1, 1, kernel, stride, bias=False)
    conv = StandardizedConv2d(like, STANDARDIZATIONS['dpt'])
    nn.init.ones_(conv.weight)
    conv.frozen = True
    return conv


def test_position_embedding_is_untouched_on_its_own_grid():
    embedding = torch.randn(1, 1 + 24 * 24, 8)
    assert torch.equal(resize_position_embedding(embedding, (24, 24)), embedding)


@pytest.mark.parametrize('rule', POSITIONS)
def test_every_rule_leaves_position_embedding_on_its_own_grid(rule):
    embedding = torch.randn(1, 1 + 37 * 37, 8)
    resized = resize_position_embedding(embedding, (37, 37), rule=rule)
    torch.testing.assert_close(resized, embedding)


def test_rules_of_position_embedding_differ():
    embedding = torch.randn(1, 1 + 37 * 37, 8)
    first, second, third = (
        resize_position_embedding(embedding, (20, 45), rule=rule) for rule in POSITIONS
    )
    for one, other in ((first, second), (second, third), (third, first)):
        assert (one - other).abs().max() > 0.05


@pytest.mark.parametrize('prefix', [1, 5])
def test_position_embedding_keeps_its_prefix_tokens(prefix):
    embedding = torch.randn(1, prefix + 6 * 6, 8)
    resized = resize_position_embedding(embedding, (3, 11), prefix)
    assert resized.shape == (1, prefix + 33, 8)
    assert torch.equal(resized[:, :prefix], embedding[:, :prefix])


def test_position_embedding_is_read_between_centers_of_pixels():
    # Four pixels over two: centers at -1/4, 1/4, 3/4, 5/4 of the way from the first to the second.
    resized = resize_position_embedding(grid_of_columns([0.0, 8.0]), (4, 4))
    assert row(resized) == [0, 2, 6, 8]


def test_position_embedding_is_not_smoothed_when_it_shrinks():
    # Centers fall amid the first two and amid the last two; antialiasing would read all four.
    resized = resize_position_embedding(grid_of_columns([8.0, 0.0, 0.0, 0.0]), (2, 2))
    assert row(resized) == [4, 0]


def test_position_embedding_has_rows_before_columns():
    resized = resize_position_embedding(grid_of_columns([0.0, 8.0]), (1, 4))
    assert resized[0, 1:, 0].tolist() == [0, 2, 6, 8]


def test_taps_are_what_timm_calls_intermediate_features():
    vit = timm.create_model('vit_tiny_patch16_224', depth=5).eval()
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        taps = ViT(vit, (0, 2, 3, 4))(image)
        expected = vit.forward_intermediates(
            image,
            indices=[0, 2, 3, 4],
            norm=False,
            return_prefix_tokens=True,
            intermediates_only=True,
        )
    for tap, (features, prefix) in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap.features, features)
        torch.testing.assert_close(tap.readout, prefix[:, 0])


def test_taps_can_be_normalized_as_timm_does():
    vit = timm.create_model('vit_tiny_patch16_224', depth=4).eval()
    nn.init.normal_(vit.norm.weight)
    nn.init.normal_(vit.norm.bias)
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        taps = ViT(vit, (0, 1, 2, 3), normalize=True)(image)
        expected = vit.forward_intermediates(
            image, norm=True, return_prefix_tokens=True, intermediates_only=True
        )
    for tap, (features, prefix) in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap.features, features)
        torch.testing.assert_close(tap.readout, prefix[:, 0])


def test_taps_that_are_not_normalized_have_no_norm():
    backbone = ViT(timm.create_model('vit_tiny_patch16_224', depth=4), (0, 1, 2, 3))
    assert not [key for key in backbone.state_dict() if key.startswith('norm.')]


def test_blocks_behind_the_last_tap_are_dropped():
    vit = timm.create_model('vit_tiny_patch16_224', depth=6)
    assert len(ViT(vit, (0, 1, 2, 3)).blocks) == 4


def test_a_transformer_tells_the_decoder_its_channels_and_that_no_tap_is_a_map():
    backbone = ViT(timm.create_model('vit_tiny_patch16_224', depth=4), (0, 1, 2, 3))
    assert (backbone.channels, backbone.kept, backbone.patch) == ((192,) * 4, 0, 16)


def test_taps_of_a_wide_image_are_wide():
    backbone = ViT(timm.create_model('vit_tiny_patch16_224', depth=4), (0, 1, 2, 3))
    taps = backbone(torch.zeros(1, 3, 32, 80))
    assert [tap.features.shape for tap in taps] == [(1, 192, 2, 5)] * 4


def test_taps_of_a_hybrid_are_two_stages_and_two_blocks():
    with torch.device('meta'):
        backbone = Hybrid(timm.create_model('vit_base_r50_s16_384'), (8, 11), 'dpt')
        taps = backbone(torch.zeros(1, 3, 64, 112))
    assert [tap.features.shape for tap in taps] == [
        (1, 256, 16, 28),
        (1, 512, 8, 14),
        (1, 768, 4, 7),
        (1, 768, 4, 7),
    ]
    assert [tap.readout is None for tap in taps] == [True, True, False, False]


def test_a_hybrid_tells_the_decoder_its_channels_and_that_two_taps_are_maps():
    with torch.device('meta'):
        backbone = Hybrid(timm.create_model('vit_base_r50_s16_384'), (8, 11), 'dpt')
    assert backbone.channels == (256, 512, 768, 768)
    assert backbone.kept == 2


def test_every_convolution_before_the_tokens_is_standardized():
    with torch.device('meta'):
        backbone = Hybrid(timm.create_model('vit_base_r50_s16_384'), (8, 11), 'dpt')
    found = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    plain = [m for m in found if not isinstance(m, StandardizedConv2d)]
    assert plain == [backbone.patch_embed]
    assert len(found) - 1 == 1 + 3 * (3 + 4 + 9) + 3  # stem, three a block, one shortcut a stage


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        pytest.param('dpt', 1e-5 / (1e-5 + 1e-5), id='dpt'),
        pytest.param('midas', 1e-5 / (1e-10 + 1e-8) ** 0.5, id='midas'),
    ],
)
def test_a_filter_as_faint_as_epsilon_shows_the_rule(name, expected):
    conv = StandardizedConv2d(nn.Conv2d(1, 1, (1, 2)), STANDARDIZATIONS[name]).double()
    conv.weight.data = torch.tensor([[[[3.0, 3.0 + 2e-5]]]], dtype=torch.float64)
    low, high = conv.standardized().flatten().tolist()
    assert (low, high) == pytest.approx((-expected, expected), rel=1e-6)


def test_each_filter_is_standardized_over_all_its_inputs():
    conv = StandardizedConv2d(nn.Conv2d(3, 2, 5), STANDARDIZATIONS['dpt'])
    flat = conv.standardized().flatten(1)
    torch.testing.assert_close(flat.mean(dim=1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat.std(dim=1, correction=0), torch.ones(2), atol=1e-3, rtol=0)


def test_same_padding_of_an_even_row_puts_the_odd_pixel_right():
    x = torch.tensor([[[[1.0, 2, 3, 4]]]])  # 1 2 3, then 3 4 and a zero
    assert convolution((1, 3), (1, 2))(x).flatten().tolist() == [6, 7]


def test_same_padding_of_an_odd_row_is_even():
    x = torch.tensor([[[[1.0, 2, 3, 4, 5]]]])  # a zero 1 2, then 2 3 4, then 4 5 and a zero
    assert convolution((1, 3), (1, 2))(x).flatten().tolist() == [3, 9, 9]


def test_same_padding_of_an_even_column_puts_the_odd_pixel_below():
    x = torch.tensor([1.0, 2, 3, 4]).reshape(1, 1, 4, 1)
    assert convolution((3, 1), (2, 1))(x).flatten().tolist() == [6, 7]


def test_a_kernel_narrower_than_its_stride_is_not_padded():
    x = torch.tensor([[[[1.0, 2, 3, 4]]]])
    assert convolution((1, 1), (1, 2))(x).flatten().tolist() == [1, 3]


def test_same_padding_of_the_stem_halves_an_even_image():
    # Seven over eight, by two: 2 * 3 + 7 - 8 = 5 pixels of padding, two left and three right.
    x = torch.arange(1.0, 9).reshape(1, 1, 1, 8)
    assert convolution((1, 7), (1, 2))(x).flatten().tolist() == [15, 28, 33, 26]


@pytest.mark.parametrize('size', [(8, 8), (9, 14)])
def test_freezing_a_convolution_leaves_its_output(size):
    conv = StandardizedConv2d(nn.Conv2d(3, 4, 3, 2), STANDARDIZATIONS['dpt'])
    x = torch.randn(1, 3, *size)
    before = conv(x)
    conv.freeze()
    assert torch.equal(conv(x), before)


def test_freezing_twice_is_freezing_once():
    conv = StandardizedConv2d(nn.Conv2d(1, 1, (1, 2)), STANDARDIZATIONS['dpt'])
    conv.weight.data = torch.tensor([[[[0.0, 2e-5]]]])  # standardized once more it would change
    conv.freeze()
    once = conv.weight.clone()
    conv.freeze()
    assert torch.equal(conv.weight, once)


def test_a_frozen_convolution_no_longer_standardizes():
    conv = StandardizedConv2d(nn.Conv2d(1, 1, 1), STANDARDIZATIONS['dpt'])
    conv.freeze()
    conv.weight.data.fill_(3)
    assert conv(torch.ones(1, 1, 1, 1)).item() == 3


def test_a_stem_gives_stages_at_strides_4_and_8_and_blocks_at_16():
    vit = timm.create_model('vit_tiny_patch16_224', img_size=64)
    stemmed = Stemmed(vit, (0, 1), (8, 16)).eval()
    taps = stemmed(torch.randn(2, 3, 64, 96))
    assert [tuple(tap.features.shape[1:]) for tap in taps] == [
        (8, 16, 24),
        (16, 8, 12),
        (192, 4, 6),
        (192, 4, 6),
    ]
    assert [tap.readout is None for tap in taps] == [True, True, False, False]
    assert (stemmed.channels, stemmed.kept) == ((8, 16, 192, 192), 2)
