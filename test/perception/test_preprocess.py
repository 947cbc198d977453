"""The network's input: the published size rules, and OpenCV's cubic on float images."""

import cv2
from dpt_ros.perception.preprocess import feed, network_size, prepare
from dpt_ros.zoo.checkpoints import Checkpoint, CHECKPOINTS, MetricDepth, Resize, TINY
import numpy as np
import pytest
import torch

# What the authors' own transforms give, MODEL_FACTS A.5: camera -> size by rule.
RULES = {
    'midas384': Resize(384, 384, 32, 'minimal'),
    'ade480': Resize(480, 480, 32, 'minimal'),
    'nyu': Resize(640, 480, 32, 'minimal'),
    'kitti': Resize(1216, 352, 32, 'minimal'),
    'DA518': Resize(518, 518, 14, 'lower_bound'),
}
SIZES = {
    '320x240': ('384x288', '480x352', '640x480', '480x352', '686x518'),
    '640x480': ('512x384', '640x480', '640x480', '480x352', '686x518'),
    '640x360': ('672x384', '480x256', '640x352', '640x352', '924x518'),
    '848x480': ('672x384', '832x480', '832x480', '608x352', '910x518'),
    '1280x720': ('672x384', '864x480', '864x480', '1216x672', '924x518'),
    '1920x1080': ('672x384', '864x480', '864x480', '1216x672', '924x518'),
    '1242x375': ('1280x384', '1600x480', '1600x480', '1216x352', '1722x518'),
    '480x640': ('384x512', '480x640', '352x480', '256x352', '518x686'),
}
TABLE = [
    pytest.param(camera, rule, size, id=f'{camera}-{rule}')
    for camera, sizes in SIZES.items()
    for rule, size in zip(RULES, sizes, strict=True)
]
NEUTRAL = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def numbers(size: str) -> tuple[int, int]:
    width, height = map(int, size.split('x'))
    return width, height


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(('camera', 'rule', 'size'), TABLE)
def test_sizes_are_those_of_the_authors(camera: str, rule: str, size: str):
    assert network_size(*numbers(camera), RULES[rule]) == numbers(size)


@pytest.mark.parametrize(
    ('camera', 'side', 'size'),
    [
        ('640x480', 384, '384x288'),  # 0.6 of it: 384 x 288
        ('1280x720', 384, '384x224'),  # 0.3 of it: 384 x 216, and 6.75 steps round up
        ('480x640', 384, '288x384'),
        ('500x500', 250, '224x224'),  # 7.8 steps would round to 256, which passes 250
    ],
)
def test_upper_bound_passes_the_target_on_no_side(camera: str, side: int, size: str):
    assert network_size(*numbers(camera), Resize(side, side, 32, 'upper_bound')) == numbers(size)


def test_lower_bound_reaches_the_target_on_both_sides():
    # 200 pixels are 6.25 steps of 32, which would round to 192.
    assert network_size(400, 300, Resize(200, 200, 32, 'lower_bound')) == (256, 224)


def test_halves_round_to_even_as_in_numpy():
    # At scale 1, 80 pixels are 2.5 steps and 112 are 3.5.
    assert network_size(80, 112, Resize(80, 112, 32, 'minimal')) == (64, 128)


def test_a_sliver_still_has_one_step():
    assert network_size(1000, 4, Resize(384, 384, 32, 'upper_bound')) == (384, 32)


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_every_checkpoint_takes_a_vga_camera(name: str):
    entry = CHECKPOINTS[name]
    assert not any(side % entry.resize.multiple for side in network_size(640, 480, entry.resize))


@pytest.mark.parametrize('size', [(128, 96), (64, 32), (37, 23), (70, 96)])
@pytest.mark.parametrize('camera', ['64x48', '3x2', '1x1', '5x200'])
@pytest.mark.usefixtures('each_way')
def test_resizing_equals_cubic_of_opencv_on_floats(size: tuple[int, int], camera: str):
    image = noise(*numbers(camera))
    ours = prepare(torch.from_numpy(image)[None], size, *NEUTRAL)[0].permute(1, 2, 0)
    theirs = cv2.resize(image / 255.0, size, interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.usefixtures('each_way')
def test_overshoot_of_the_cubic_is_kept():
    image = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    image[:, :, 4:] = 255
    resized = prepare(image, (32, 32), *NEUTRAL)
    assert resized.min() < -0.05
    assert resized.max() > 1.05


@pytest.mark.usefixtures('each_way')
def test_an_image_of_the_right_size_is_only_scaled():
    image = noise(64, 32)
    ours = prepare(torch.from_numpy(image)[None], (64, 32), *NEUTRAL)[0].permute(1, 2, 0)
    np.testing.assert_allclose(ours, image / 255.0, atol=1e-6)


@pytest.mark.usefixtures('each_way')
def test_mean_and_std_go_by_channel_red_first():
    color = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(1, 4, 6, 3)
    out = prepare(color, (6, 4), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    wanted = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(out[0, :, 0, 0], wanted, rtol=1e-5)


@pytest.mark.usefixtures('each_way')
def test_each_image_of_a_batch_stays_itself():
    images = [noise(20, 10), 255 - noise(20, 10)]
    both = prepare(torch.from_numpy(np.stack(images)), (32, 32), *NEUTRAL)
    for image, one in zip(images, both, strict=True):
        alone = prepare(torch.from_numpy(image)[None], (32, 32), *NEUTRAL)[0]
        torch.testing.assert_close(one, alone)


@pytest.mark.usefixtures('each_way')
def test_the_result_is_planes_of_float32():
    out = prepare(torch.from_numpy(noise(20, 10))[None], (64, 32), *NEUTRAL)
    assert (out.shape, out.dtype) == ((1, 3, 32, 64), torch.float32)


NATIVE = Checkpoint(
    TINY,
    Resize(0, 0, 14, 'native'),
    depth=MetricDepth(0.001, 10.0),
    mean=(51.0, 102.0, 153.0),
    std=(10.0, 20.0, 30.0),
    color_max=255.0,
)


@pytest.mark.parametrize(
    ('camera', 'size'), [('640x480', '644x490'), ('1216x352', '1218x364'), ('28x14', '28x14')]
)
def test_native_has_room_for_the_image_as_it_is(camera: str, size: str):
    assert network_size(*numbers(camera), NATIVE.resize) == numbers(size)


def test_native_puts_the_image_into_the_middle_of_the_mean_color():
    image = noise(23, 11)  # 5 columns and 3 rows are missing: 2 + 3 and 1 + 2
    out = feed(torch.from_numpy(image)[None], NATIVE)[0]
    assert out.shape == (3, 14, 28)
    inside = out[:, 1:12, 2:25]
    colors = inside * torch.tensor([10.0, 20.0, 30.0])[:, None, None]
    colors = colors + torch.tensor([51.0, 102.0, 153.0])[:, None, None]
    np.testing.assert_allclose(colors.permute(1, 2, 0), image, atol=1e-4)
    assert out.abs().sum().item() == pytest.approx(inside.abs().sum().item(), rel=1e-6)


def test_a_side_that_is_asked_for_resizes_and_leaves_no_margin():
    out = feed(torch.from_numpy(noise(64, 48))[None], NATIVE, Resize(28, 28, 14, 'lower_bound'))
    wanted = prepare(torch.from_numpy(noise(64, 48))[None], (42, 28), *NEUTRAL)
    colors = out[0] * torch.tensor([10.0, 20.0, 30.0])[:, None, None] / 255
    colors = colors + torch.tensor([0.2, 0.4, 0.6])[:, None, None]
    np.testing.assert_allclose(colors, wanted[0], atol=1e-5)


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_mean_and_std_lie_within_the_range_of_colors(name: str):
    entry = CHECKPOINTS[name]
    middle, spread = (np.array(v) / entry.color_max for v in (entry.mean, entry.std))
    np.testing.assert_allclose(middle, 0.45, atol=0.06)  # of any collection of photographs
    assert ((spread > 0.2) & (spread <= 0.5)).all()
