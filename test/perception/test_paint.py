"""Painting by hand and by OpenCV: what a CPU does and what any other device does are one."""

from dpt_ros.perception.paint import blend, look_up, quantize, shade
import pytest
import torch

HEIGHT, WIDTH = 9, 14
RANDOM = torch.Generator().manual_seed(0)
IMAGE, TINT = torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), generator=RANDOM, dtype=torch.uint8)
LABELS = torch.randint(0, 256, (HEIGHT, WIDTH), generator=RANDOM, dtype=torch.uint8)
PALETTE = torch.randint(0, 256, (256, 3), generator=RANDOM, dtype=torch.uint8)


def test_a_label_has_the_color_of_its_row():
    painted = look_up(PALETTE, LABELS)
    for v, u in ((0, 0), (4, 7), (8, 13)):
        assert painted[v, u].tolist() == PALETTE[LABELS[v, u].item()].tolist()


def test_large_tables_and_wide_labels_are_looked_up_alike():
    wide = look_up(torch.cat((PALETTE, PALETTE)), LABELS.int())
    assert torch.equal(wide, look_up(PALETTE, LABELS))
    assert torch.equal(look_up(PALETTE.bool()[:, 0], LABELS), wide[..., 0].bool())


@pytest.mark.parametrize('opacity', [0.0, 0.3, 0.5, 1.0])
def test_a_blend_is_the_weighted_mean(opacity: float):
    exact = (1 - opacity) * IMAGE.double() + opacity * TINT.double()
    assert (blend(IMAGE, TINT, opacity).double() - exact).abs().max() <= 0.5 + 1e-6


def test_an_image_that_is_a_view_of_a_larger_one_is_painted_too():
    assert torch.equal(blend(IMAGE[:, ::2], TINT[:, ::2], 0.5), blend(IMAGE, TINT, 0.5)[:, ::2])
    assert torch.equal(look_up(PALETTE, LABELS.T), look_up(PALETTE, LABELS).transpose(0, 1))


@pytest.mark.usefixtures('each_way')
def test_depth_has_the_color_of_its_distance_and_what_is_not_finite_is_black():
    depth = torch.tensor([[0.0, 1.0, 2.49, 25.6, 99.0, -1.0, torch.nan, torch.inf, -torch.inf]])
    painted = shade(depth, PALETTE, 10.0)[0]
    assert torch.equal(painted[:6], PALETTE[[0, 10, 24, 255, 255, 0]])
    assert not painted[6:].any()


@pytest.mark.usefixtures('each_way')
def test_a_part_of_a_depth_map_is_shaded_too():
    depth = 30 * torch.rand(HEIGHT, WIDTH, generator=RANDOM)
    assert torch.equal(shade(depth.T, PALETTE, 9.0), shade(depth, PALETTE, 9.0).transpose(0, 1))


@pytest.mark.usefixtures('each_way')
def test_a_share_is_rounded_to_the_nearest_byte():
    share = torch.tensor([[0.0, 1.0, 0.5], [1.4 / 255, 1.6 / 255, 254.6 / 255]])
    assert quantize(share).tolist() == [[0, 255, 128], [1, 2, 255]]


def test_pictures_go_to_memory_that_is_spare():
    depth, share = 30 * torch.rand(HEIGHT, WIDTH), torch.rand(HEIGHT, WIDTH)
    for values, paint in (
        (IMAGE, lambda spare: blend(IMAGE, TINT, 0.5, spare)),
        (IMAGE, lambda spare: shade(depth, PALETTE, 9.0, spare)),
        (LABELS, lambda spare: quantize(share, spare)),
    ):
        wanted, spare = paint(None), torch.zeros(values.numel(), dtype=torch.uint8)
        assert paint(spare).data_ptr() == spare.data_ptr()
        assert torch.equal(spare.view(values.shape), wanted)
        assert paint(spare[1:]).data_ptr() != spare[1:].data_ptr()  # too small
