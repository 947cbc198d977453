"""Pictures, as a CPU paints them and as any other device does."""

from dpt_ros.perception.paint import fill, look_up, millimetres, quantize, shade, tint, Tints
import pytest
import torch

HEIGHT, WIDTH = 9, 14
RANDOM = torch.Generator().manual_seed(0)
IMAGE = torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=RANDOM, dtype=torch.uint8)
LABELS = torch.randint(0, 256, (HEIGHT, WIDTH), generator=RANDOM, dtype=torch.uint8)
PALETTE = torch.randint(0, 256, (256, 3), generator=RANDOM, dtype=torch.uint8)


def tints(opacity: float) -> Tints:
    return Tints(PALETTE, torch.full((256,), opacity))


@pytest.mark.usefixtures('each_way')
@pytest.mark.parametrize('opacity', [0.0, 0.3, 0.5, 1.0])
def test_an_image_is_tinted_with_the_color_of_each_label(opacity: float):
    found = tint(IMAGE, LABELS, tints(opacity))
    exact = (1 - opacity) * IMAGE.double() + opacity * PALETTE[LABELS.long()].double()
    assert (found.double() - exact).abs().max() <= 0.5 + 1e-6


@pytest.mark.usefixtures('each_way')
def test_each_class_has_an_opacity_of_its_own_and_labels_may_be_wide():
    opacities = torch.arange(256) % 2 / 1.0
    found = tint(IMAGE, LABELS.int(), Tints(PALETTE, opacities))
    odd = LABELS % 2 == 1
    assert torch.equal(found[~odd], IMAGE[~odd])
    assert torch.equal(found[odd], PALETTE[LABELS.long()][odd])


@pytest.mark.usefixtures('each_way')
def test_an_image_that_is_a_view_of_a_larger_one_is_tinted_too():
    found = tint(IMAGE[:, ::2], LABELS[:, ::2], tints(0.5))
    assert torch.equal(found, tint(IMAGE, LABELS, tints(0.5))[:, ::2])


def test_a_table_of_any_kind_is_looked_up():
    assert torch.equal(look_up(PALETTE, LABELS), PALETTE[LABELS.long()])
    assert torch.equal(
        look_up(PALETTE.bool()[:, 0], LABELS.T), PALETTE.bool()[:, 0][LABELS.long().T]
    )


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


@pytest.mark.usefixtures('each_way')
def test_metres_become_whole_millimetres_that_fit_16_bits():
    depth = torch.tensor(
        [[0.0, 0.0004, 0.0006, 1.2344, 65.534, 65.5351, 1e8, torch.nan, torch.inf]]
    )
    assert millimetres(depth).numpy().tolist() == [[0, 0, 1, 1234, 65534, 0, 0, 0, 0]]


@pytest.mark.usefixtures('each_way')
def test_what_is_not_finite_is_filled():
    depth = torch.tensor([[1.5, torch.nan, torch.inf, -torch.inf, 0.0]])
    assert fill(depth, -1.0).tolist() == [[1.5, -1.0, -1.0, -1.0, 0.0]]


def test_pictures_go_to_memory_that_is_spare():
    depth, share = 30 * torch.rand(HEIGHT, WIDTH), torch.rand(HEIGHT, WIDTH)
    for values, paint in (
        (IMAGE, lambda spare: tint(IMAGE, LABELS, tints(0.5), spare)),
        (IMAGE, lambda spare: shade(depth, PALETTE, 9.0, spare)),
        (LABELS, lambda spare: quantize(share, spare)),
        (LABELS.short(), lambda spare: millimetres(depth, spare)),
        (depth, lambda spare: fill(depth, 0.5, spare)),
    ):
        wanted, spare = paint(None), torch.zeros(values.nbytes, dtype=torch.uint8)
        assert paint(spare).data_ptr() == spare.data_ptr()
        assert spare.numpy().tobytes() == wanted.numpy().tobytes()
        assert paint(spare[1:]).data_ptr() != spare[1:].data_ptr()  # too small
