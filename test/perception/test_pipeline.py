"""The way of a frame through dpt_tiny: forms and relations, not meaning."""

from collections import Counter
from collections.abc import Callable, Iterator
import copy
from dataclasses import replace
from itertools import combinations
import math

import cv2
from dpt_ros.perception import bands, pipeline
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.cleanup import cut_flying
from dpt_ros.perception.pipeline import Frame, Perception, Result
from dpt_ros.perception.preprocess import prepare
from dpt_ros.perception.products import Options, PRODUCTS
from dpt_ros.perception.runtime import NetworkError, open_runtime
from dpt_ros.perception.scale.scaler import Reference
from dpt_ros.training.worlds import draw_shot, HELD_OUT, plan, shoot
from dpt_ros.zoo.checkpoints import BoundedDepth, Checkpoint, RelativeDepth, Resize, Restore
from dpt_ros.zoo.labels import load_labels
from dpt_ros.zoo.store import load, Trained
import numpy as np
import pytest
import torch
from torch.nn import functional as F

WIDTH, HEIGHT = 80, 60
CAMERA = Camera(WIDTH, HEIGHT, 70.0, 72.0, 41.0, 28.0)
SKY = load_labels('worlds_10').names.index('sky')
OPTIONS = Options(
    output_decimation=1,
    depth_encoding='32FC1',
    depth_invalid_value=np.nan,
    depth_min=0.1,
    depth_max=100.0,
    depth_edge_angle=0.0,
    depth_steadiness=0.0,
    depth_color_max=10.0,
    segmentation_min_confidence=0.0,
    segmentation_overlay_opacity=0.5,
    points_organized=True,
    points_labels=True,
    points_exclude_classes='',
    points_only_classes='',
    points_clearing_distance=0.0,
    scale_mode='model',
    scale_factor=1.0,
    scale_offset=0.0,
    scale_smoothing_seconds=0.0,
    scale_hold_seconds=1.0,
    scale_jump=0.2,
    scale_min_points=50,
    scale_reference_tolerance=0.05,
    scale_ground_classes='',
    scale_ground_share=0.03,
    scale_camera_height=0.5,
    scale_camera_pitch=0.0,
    scale_camera_roll=0.0,
    scale_gravity='fixed',
)
METRIC = set(PRODUCTS) - {'inverse_depth'}
OF_LABELS = {'labels', 'confidence', 'overlay'}


def picture(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> np.ndarray:
    """Draw a smooth random image, as cameras see them; (height, width, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def half_sky() -> Trained:
    """Load dpt_tiny with the threshold of the sky such that half of `picture` is sky."""
    tiny = load('dpt_tiny')
    pixels = torch.from_numpy(picture())[None]
    entry = tiny.checkpoint
    scores = tiny.network(prepare(pixels, (96, 64), entry.mean, entry.std))['segmentation'][0]
    others = scores.clone()
    others[SKY] = -torch.inf
    last = tiny.network.tasks['segmentation'].head.scores[-1]
    last.bias[SKY] -= (scores[SKY] - others.amax(dim=0)).median()
    return tiny


def perceive(depth: Trained | None, segmentation: Trained | None, **changes: object) -> Perception:
    arguments = {'device': torch.device('cpu'), 'dtype': torch.float32, 'network_side': 64}
    return Perception(depth, segmentation, **arguments | changes)


def trained(**changes: object) -> Trained:
    """Give dpt_tiny with other facts about its weights."""
    entry: Checkpoint = replace(TINY.checkpoint, **changes)
    return replace(TINY, checkpoint=entry)


TINY = half_sky()
BOTH = perceive(TINY, TINY)
RELATIVE = trained(depth=RelativeDepth())


def frame(pixels: np.ndarray | None = None, camera: Camera | None = CAMERA) -> Frame:
    return Frame('front', object(), picture() if pixels is None else pixels, camera)


def run(
    wanted: set[str] | tuple = (),
    perception: Perception = BOTH,
    given: Frame | None = None,
    **changes: object,
) -> Result:
    (result,) = perception([given or frame()], wanted, replace(OPTIONS, **changes))
    return result


def product(name: str, perception: Perception = BOTH, **changes: object) -> np.ndarray:
    return run({name}, perception, **changes).products[name]


@pytest.fixture(scope='module', autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks as small as these only lose by sharing their work out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def passes() -> Iterator[Counter]:
    """Count how often the backbone and the decoders run."""
    counts: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        return lambda *_: counts.update([name])

    parts = {'backbone': TINY.network.backbone, **dict(TINY.network.tasks.items())}
    hooks = [part.register_forward_hook(count(name)) for name, part in parts.items()]
    yield counts
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ('name', 'shape', 'kind'),
    [
        ('color', (3,), np.uint8),
        ('depth', (), np.float32),
        ('depth_color', (3,), np.uint8),
        ('labels', (), np.uint8),
        ('confidence', (), np.uint8),
        ('overlay', (3,), np.uint8),
        ('points', (8,), np.float32),
    ],
)
@pytest.mark.parametrize('decimation', [1, 2, 7])
def test_every_product_has_its_form(name: str, shape: tuple, kind: type, decimation: int):
    array = product(name, output_decimation=decimation)
    assert array.shape == (HEIGHT // decimation, WIDTH // decimation, *shape)
    assert array.dtype == kind
    assert array.flags.c_contiguous


def test_inverse_depth_has_its_form():
    relative = perceive(RELATIVE, None)
    array = product('inverse_depth', relative, output_decimation=2, scale_mode='none')
    assert (array.shape, array.dtype) == ((30, 40), np.float32)


def test_a_size_that_does_not_divide_is_rounded_down():
    small = frame(picture(50, 38), Camera(50, 38, 40.0, 40.0, 24.5, 18.5))
    result = run(METRIC, given=small, output_decimation=3)
    assert (result.width, result.height) == (16, 12)
    assert {array.shape[:2] for array in result.products.values()} == {(12, 16)}


def test_decimation_leaves_at_least_a_pixel():
    tiny = frame(picture(12, 8), None)
    assert run({'depth'}, given=tiny, output_decimation=16).products['depth'].shape == (1, 1)


def test_the_header_and_the_camera_name_go_through_untouched():
    given = frame()
    assert run(given=given).frame is given


@pytest.mark.parametrize(
    ('depth', 'segmentation', 'mode', 'wanted'),
    [
        (TINY, TINY, 'model', METRIC),
        (TINY, None, 'model', {'color', 'depth', 'depth_color', 'points'}),
        (None, TINY, 'model', {'color', *OF_LABELS}),
        (RELATIVE, None, 'none', {'color', 'inverse_depth'}),
        (RELATIVE, None, 'fixed', {*METRIC} - OF_LABELS | {'inverse_depth'}),
    ],
)
def test_networks_offer_what_they_can_give(
    depth: Trained | None, segmentation: Trained | None, mode: str, wanted: set[str]
):
    perception = perceive(depth, segmentation)
    assert perception.available(replace(OPTIONS, scale_mode=mode)) == wanted
    assert run(perception.products, perception, scale_mode=mode).products.keys() == wanted


def test_a_mode_can_change_to_any_other_so_all_products_are_offered_before():
    assert perceive(RELATIVE, None).products == METRIC - OF_LABELS | {'inverse_depth'}


@pytest.mark.parametrize('name', sorted(METRIC))
def test_only_the_product_asked_for_is_computed(name: str):
    assert set(run({name}).products) == {name}


def test_all_products_come_together():
    assert set(run(METRIC).products) == METRIC


def test_nothing_asked_is_nothing_run(passes: Counter):
    assert run().products == {}
    assert not passes


def test_one_network_for_both_tasks_runs_its_backbone_once(passes: Counter):
    run(METRIC)
    assert passes == {'backbone': 1, 'depth': 1, 'segmentation': 1}


def twin(**changes: object) -> Trained:
    """Copy dpt_tiny under another name; its labels are another network's."""
    entry = replace(TINY.checkpoint, **changes)
    return Trained('twin', entry, copy.deepcopy(TINY.network))


def nudged() -> Trained:
    """Copy dpt_tiny with the last bit of one weight of its backbone changed."""
    other = twin()
    parameters = other.network.backbone.named_parameters()
    bias = next(parameter for name, parameter in parameters if name.endswith('attn.proj.bias'))
    bias[0] = torch.nextafter(bias[0], torch.tensor(torch.inf))
    return other


def test_a_network_that_runs_shares_its_backbone_with_one_that_does_not_yet(passes: Counter):
    run({'depth', 'labels'}, perceive(TINY, load('dpt_tiny')))
    assert passes['backbone'] == 1


def test_two_networks_with_one_backbone_run_it_once(passes: Counter):
    both = run({'depth', 'labels'}, perceive(TINY, twin()))
    assert passes['backbone'] == 1
    alone = run({'depth', 'labels'})
    for name in ('depth', 'labels'):
        np.testing.assert_array_equal(both.products[name], alone.products[name])


@pytest.mark.parametrize(
    'other',
    [
        nudged(),
        twin(mean=(0.4, 0.5, 0.5)),
        twin(std=(0.4, 0.5, 0.5)),
        twin(color_max=2.0),
        twin(architecture=replace(TINY.checkpoint.architecture, positions='huggingface')),
    ],
    ids=['a bit', 'mean', 'std', 'color_max', 'positions'],
)
def test_what_two_backbones_do_not_share_is_run_for_each(other: Trained):
    own = []
    hook = other.network.backbone.register_forward_hook(lambda *_: own.append(True))
    run({'depth', 'labels'}, perceive(TINY, other))
    hook.remove()
    assert own


def test_one_backbone_at_two_sizes_runs_for_each():
    other, own = twin(resize=Resize(128, 96)), []
    other.network.backbone.register_forward_hook(lambda *_: own.append(True))
    run({'depth', 'labels'}, perceive(TINY, other, network_side=0))
    assert own == [True]
    run({'depth', 'labels'}, perceive(TINY, other, network_side=64))
    assert own == [True]


@pytest.mark.parametrize('change', [{'readout': 'add'}, {'decoder': 'dinov2'}], ids=str)
def test_decoders_of_one_backbone_may_differ(change: dict[str, str]):
    architecture = replace(TINY.checkpoint.architecture, **change)
    other, own = twin(architecture=architecture), []
    other.network.backbone.register_forward_hook(lambda *_: own.append(True))
    run({'depth', 'labels'}, perceive(TINY, other))
    assert not own


def test_labels_alone_do_not_run_the_depth_decoder(passes: Counter):
    run({'labels', 'confidence', 'overlay'})
    assert passes == {'backbone': 1, 'segmentation': 1}


def test_a_batch_runs_the_backbone_once(passes: Counter):
    BOTH([frame(), frame()], {'depth'}, OPTIONS)
    assert passes['backbone'] == 1


@pytest.mark.parametrize('others', [{'points'}, {'depth_color'}, {'labels'}, METRIC])
def test_depth_is_the_same_whatever_else_is_asked_for(others: set[str]):
    np.testing.assert_array_equal(run({'depth', *others}).products['depth'], product('depth'))


@pytest.mark.parametrize('others', [{'depth'}, {'overlay'}, METRIC])
def test_labels_are_the_same_whatever_else_is_asked_for(others: set[str]):
    np.testing.assert_array_equal(run({'labels', *others}).products['labels'], product('labels'))


def test_the_sky_has_no_depth():
    result = run({'depth', 'labels'})
    sky = result.products['labels'] == SKY
    assert 0 < sky.mean() < 1  # else the frame proves nothing
    np.testing.assert_array_equal(np.isposinf(result.products['depth']), sky)


def test_the_sky_has_no_depth_even_where_its_label_is_too_unsure_to_be_published():
    np.testing.assert_array_equal(
        product('depth', segmentation_min_confidence=1.0), product('depth')
    )


def test_a_network_without_segmentation_knows_no_sky():
    assert np.isfinite(product('depth', perceive(TINY, None))).all()


def crewed() -> Perception:
    """Give two threads a crew, as the node has it on a CPU."""
    device = torch.device('cpu')
    return perceive(TINY, TINY, runtime=open_runtime('eager', device, threads=2))


def test_a_crew_shares_a_batch_out(passes: Counter):
    crewed()([frame()] * 3, {'depth'}, OPTIONS)
    assert passes['backbone'] == 2


@pytest.mark.parametrize('given', [lambda: BOTH, crewed], ids=['together', 'by a crew'])
def test_a_batch_of_two_is_two_frames(given: Callable[[], Perception]):
    one, other = frame(), frame(picture(seed=1), None)
    both = given()([one, other], METRIC, OPTIONS)
    for each, result in zip((one, other), both, strict=True):
        alone = run(METRIC, given=each).products
        assert result.frame is each
        assert set(result.products) == set(alone)
        np.testing.assert_allclose(result.products['depth'], alone['depth'], rtol=1e-4)
        assert (result.products['labels'] == alone['labels']).mean() > 0.999


@pytest.fixture
def spoilt_memory() -> Iterator[None]:
    """Fill what PyTorch allocates with NaN, or with the largest integers."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # it fills by default then
    assert torch.empty(99).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize(
    'changes',
    [
        {'depth_edge_angle': 4.0},
        {'depth_encoding': '16UC1', 'output_decimation': 2},
        {'depth_invalid_value': 0.0, 'points_exclude_classes': 'floor'},
        {'points_clearing_distance': 9.0, 'segmentation_min_confidence': 0.6},
        {'scale_factor': 1.1, 'depth_steadiness': 0.5},
    ],
    ids=lambda changes: ', '.join(changes),
)
def test_nothing_is_read_before_it_is_written(
    changes: dict, threads: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)

    def second(camera: str) -> dict[str, np.ndarray]:
        given = replace(frame(), source=camera)
        return [run(METRIC, given=given, **changes) for _ in range(2)][-1].products

    wanted = second('of clean memory')
    request.getfixturevalue('spoilt_memory')
    found = second('of spoilt memory')
    assert set(found) == METRIC
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize('seed', range(6))
def test_products_are_the_same_wherever_the_rows_are_parted(
    seed: int, monkeypatch: pytest.MonkeyPatch
):
    random, evenly = np.random.default_rng(seed), bands._edges

    def anywhere(rows: int, threads: int, most: int | None) -> np.ndarray:
        if most is not None:
            return evenly(rows, threads, most)
        inside = random.integers(0, rows + 1, threads)  # and bands without rows
        return np.sort(np.array([0, *inside, rows], np.int64))

    wanted = run(METRIC, depth_edge_angle=4.0).products
    monkeypatch.setattr(bands, '_edges', anywhere)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2 + seed % 3)
    found = run(METRIC, depth_edge_angle=4.0).products
    assert set(found) == METRIC
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_points_come_only_for_calibrated_frames():
    result = run(METRIC, given=frame(camera=None))
    assert set(result.products) == METRIC - {'points'}
    assert result.camera is None


@pytest.mark.parametrize('decimation', [1, 2, 3])
def test_points_are_depth_times_the_ray_of_the_decimated_pixel(decimation: int):
    result = run({'depth', 'points'}, output_decimation=decimation)
    depth, points = result.products['depth'], result.products['points']
    v, u = np.indices(depth.shape)
    # A pixel of the maps covers this one of the image, edges kept.
    u = (u + 0.5) * WIDTH / (WIDTH // decimation) - 0.5
    v = (v + 0.5) * HEIGHT / (HEIGHT // decimation) - 0.5
    z = np.where(np.isfinite(depth), depth, np.nan)
    wanted = np.stack([(u - 41.0) / 70.0 * z, (v - 28.0) / 72.0 * z, z], axis=-1)
    np.testing.assert_allclose(points[..., :3], wanted, rtol=1e-5, atol=1e-6)


def test_points_carry_the_colors_of_the_image():
    bytes_ = product('points').view(np.uint8)
    np.testing.assert_array_equal(bytes_[..., 18:15:-1], picture())


def test_points_carry_labels_and_confidence():
    result = run({'points', 'labels', 'confidence'})
    points = result.products['points']
    np.testing.assert_array_equal(points[..., 5].view(np.uint32), result.products['labels'])
    sure = np.round(points[..., 6] * 255)
    np.testing.assert_array_equal(sure, result.products['confidence'])


def test_points_without_labels_have_empty_padding():
    assert not product('points', points_labels=False)[..., 5:].any()


def test_a_compact_cloud_is_the_valid_points_of_the_organized_one():
    organized, compact = product('points'), product('points', points_organized=False)
    valid = np.isfinite(organized[..., 2])
    assert 0 < valid.sum() < valid.size
    np.testing.assert_array_equal(compact, organized[valid])


def test_a_compact_cloud_of_nothing_is_empty():
    assert product('points', points_organized=False, depth_max=0.2).shape == (0, 8)


def test_millimetres_are_rounded_metres_and_invalid_is_zero():
    metres, millimetres = product('depth'), product('depth', depth_encoding='16UC1')
    assert millimetres.dtype == np.uint16
    wanted = np.where(np.isfinite(metres), np.round(metres.astype(np.float64) * 1000), 0)
    np.testing.assert_allclose(millimetres, wanted, atol=1)
    np.testing.assert_array_equal(millimetres == 0, ~np.isfinite(metres))


def test_millimetres_end_at_65534():
    share = product('depth', perceive(TINY, None)) / 20  # of dpt_tiny's twenty metres
    deep = perceive(trained(depth=BoundedDepth(65.5345 / float(np.median(share)))), None)
    metres = product('depth', deep, depth_max=1000.0).astype(np.float64)
    millimetres = product('depth', deep, depth_max=1000.0, depth_encoding='16UC1')
    assert (metres > 65.536).any() and (metres < 65.533).any()
    assert millimetres.max() <= 65534
    assert not millimetres[metres > 65.536].any()
    near = metres < 65.533
    np.testing.assert_allclose(millimetres[near], metres[near] * 1000, atol=1)


def test_an_invalid_value_replaces_unknown_and_sky_alike():
    depth = product('depth')
    middle = float(np.median(depth[np.isfinite(depth)]))
    plain = product('depth', depth_min=middle)
    filled = product('depth', depth_min=middle, depth_invalid_value=0.0)
    assert np.isinf(plain).any() and np.isnan(plain).any()
    np.testing.assert_array_equal(filled, np.where(np.isfinite(plain), plain, 0))


def test_depth_out_of_range_is_marked():
    plain = product('depth', perceive(TINY, None))
    near, far = np.percentile(plain, (25, 75))
    cut = product('depth', perceive(TINY, None), depth_min=float(near), depth_max=float(far))
    wanted = np.where(plain < near, np.nan, np.where(plain > far, np.inf, plain))
    np.testing.assert_array_equal(cut, wanted)


def test_an_invalid_value_does_not_reach_the_points():
    np.testing.assert_array_equal(product('points', depth_invalid_value=0.0), product('points'))


def test_with_full_confidence_demanded_nothing_is_labelled():
    result = run({'labels', 'overlay', 'points'}, segmentation_min_confidence=1.0)
    assert (result.products['labels'] == 255).all()
    assert (result.products['points'][..., 5].view(np.uint32) == 255).all()
    np.testing.assert_array_equal(result.products['overlay'], picture())


def test_labels_less_probable_than_the_limit_are_unlabelled():
    sure = product('points')[..., 6]
    limit = float(np.median(sure))
    labels = product('labels', segmentation_min_confidence=limit)
    np.testing.assert_array_equal(labels == 255, sure < limit)
    np.testing.assert_array_equal(labels[sure >= limit], product('labels')[sure >= limit])


def test_a_full_overlay_is_the_class_colors():
    colors = np.array(BOTH.labels.colors, np.uint8)[product('labels')]
    np.testing.assert_array_equal(product('overlay', segmentation_overlay_opacity=1.0), colors)


def test_an_overlay_of_no_opacity_is_the_image():
    np.testing.assert_array_equal(product('overlay', segmentation_overlay_opacity=0.0), picture())


def test_colored_depth_is_turbo_over_the_fixed_range_red_near():
    depth, color = product('depth'), product('depth_color', depth_color_max=12.0)
    valid = np.isfinite(depth)
    assert not color[~valid].any()
    steps = np.clip(np.floor(depth[valid] / 12.0 * 255 + 1e-4), 0, 255)
    turbo = cv2.applyColorMap((255 - steps).astype(np.uint8), cv2.COLORMAP_TURBO)[:, 0, ::-1]
    assert np.abs(color[valid].astype(int) - turbo).max() < 12  # a step may be rounded either way
    assert (color[valid] == turbo).mean() > 0.95


def test_an_image_is_averaged_when_decimated():
    pixels = picture(80, 60)
    wanted = pixels.reshape(30, 2, 40, 2, 3).mean(axis=(1, 3))
    overlay = product('overlay', output_decimation=2, segmentation_overlay_opacity=0.0)
    np.testing.assert_allclose(overlay, wanted, atol=0.5)


def test_one_color_stays_that_color_at_any_decimation():
    plain = np.full((38, 50, 3), (10, 128, 255), np.uint8)
    for decimation in (2, 3, 7):
        result = run(
            {'overlay'},
            given=frame(plain, None),
            output_decimation=decimation,
            segmentation_overlay_opacity=0.0,
        )
        assert (result.products['overlay'] == (10, 128, 255)).all()


@pytest.mark.filterwarnings('ignore:The given NumPy array is not writable')
def test_a_frame_that_must_not_be_written_is_read():
    pixels = picture()
    pixels.flags.writeable = False
    result = run({'depth'}, given=frame(pixels))
    np.testing.assert_array_equal(result.products['depth'], product('depth'))


def test_a_frame_with_padded_rows_is_read():
    padded = np.full((HEIGHT, WIDTH + 5, 3), 77, np.uint8)
    padded[:, :WIDTH] = picture()
    result = run(METRIC, given=frame(padded[:, :WIDTH]))
    alone = run(METRIC)
    for name in METRIC:
        np.testing.assert_array_equal(result.products[name], alone.products[name])


def test_the_frame_is_not_written_to():
    pixels = picture()
    run(METRIC, given=frame(pixels))
    np.testing.assert_array_equal(pixels, picture())


def test_results_are_the_callers_to_keep():
    first = run(METRIC).products
    kept = {name: array.copy() for name, array in first.items()}
    run(METRIC, given=frame(picture(seed=3)), depth_min=5.0)
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])
        array.fill(0)  # may be written to


def test_products_do_not_share_memory():
    for one, other in combinations(run(METRIC).products.values(), 2):
        assert not np.shares_memory(one, other)


def test_fixed_scale_turns_inverse_depth_into_metres():
    wanted, fixed = {'depth', 'inverse_depth'}, {'scale_factor': 0.2, 'scale_offset': 0.05}
    result = run(wanted, perceive(RELATIVE, None), scale_mode='fixed', **fixed)
    inverse = result.products['inverse_depth']
    np.testing.assert_allclose(result.products['depth'], 1 / (0.2 * inverse + 0.05), rtol=1e-5)


@pytest.mark.parametrize('restore', [Restore(), Restore('bilinear', align_corners=True)])
def test_depth_is_brought_to_the_image_as_the_authors_do(restore: Restore):
    weights = trained(depth=RelativeDepth(), restore=restore)
    entry = weights.checkpoint
    image = prepare(torch.from_numpy(picture())[None], (96, 64), entry.mean, entry.std)
    raw = weights.network(image)['depth'][:, None]
    mode, corners = restore.mode, restore.align_corners
    wanted = F.interpolate(raw, (HEIGHT, WIDTH), mode=mode, align_corners=corners)[0, 0]
    got = product('inverse_depth', perceive(weights, None), scale_mode='none')
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_shorter_side_of_the_network_is_as_asked_for():
    sizes = []
    hook = TINY.network.backbone.register_forward_hook(
        lambda _, arguments, __: sizes.append(tuple(arguments[0].shape[-2:]))
    )
    run({'depth'}, perceive(TINY, None, network_side=96))
    run({'depth'}, perceive(TINY, None, network_side=0))
    hook.remove()
    # 96/60 of 80x60 is 128x96; as trained, 192/60 of it is 256x192.
    assert sizes == [(96, 128), (192, 256)]


def test_a_network_is_asked_only_for_what_it_has():
    with pytest.raises(ValueError, match='dpt_tiny has no segmentation head: it does depth'):
        perceive(None, trained(labels=None))
    with pytest.raises(ValueError, match='dpt_tiny has no depth head: it does segmentation'):
        perceive(trained(depth=None), None)


def test_relative_weights_with_the_scale_of_the_model_are_refused():
    with pytest.raises(ValueError, match='gives relative depth'):
        perceive(RELATIVE, None).check(OPTIONS)


def test_warming_up_runs_everything(passes: Counter):
    BOTH.warm_up(64, 48, OPTIONS)
    assert passes == {'backbone': 1, 'depth': 1, 'segmentation': 1}


def test_every_stage_tells_its_time():
    seconds = run(METRIC).seconds
    stages = {'upload', 'preprocess', 'network', 'postprocess', 'cleanup', 'points', 'download'}
    assert set(seconds) == stages
    assert min(seconds.values()) > 0


def test_scores_are_those_of_the_network_for_images_as_they_are():
    images = torch.from_numpy(np.stack([picture(96, 64), picture(96, 64, seed=1)]))
    entry = TINY.checkpoint
    wanted = TINY.network(prepare(images, (96, 64), entry.mean, entry.std))['segmentation']
    scores = BOTH.scores(images.permute(0, 3, 1, 2).float())
    assert scores.shape == (2, len(BOTH.labels.names), 32, 48)
    torch.testing.assert_close(scores, wanted)


def test_what_floats_is_unknown_in_depth_and_points_alike():
    plain, strict = run({'depth', 'points'}), run({'depth', 'points'}, depth_edge_angle=45.0)
    depth = strict.products['depth']
    gone = np.isfinite(plain.products['depth']) & np.isnan(depth)
    rays = torch.from_numpy(CAMERA.rays()).permute(2, 0, 1)
    wanted = cut_flying(torch.from_numpy(plain.products['depth']), rays, 45.0, 2).numpy()
    assert gone.any()
    np.testing.assert_array_equal(depth, wanted)
    np.testing.assert_array_equal(np.isnan(strict.products['points'][gone][:, :3]), True)


def test_without_calibration_nothing_floats():
    given = frame(camera=None)
    (plain,) = BOTH([given], {'depth'}, OPTIONS)
    (strict,) = BOTH([given], {'depth'}, replace(OPTIONS, depth_edge_angle=45.0))
    np.testing.assert_array_equal(plain.products['depth'], strict.products['depth'])


CLASSES = [load_labels('worlds_10').names[i] for i in np.unique(product('labels')) if i != SKY]


@pytest.mark.parametrize('labels', [True, False])
def test_classes_excluded_become_no_points_and_keep_their_depth(labels: bool):
    excluded = f' {CLASSES[0]} ,{CLASSES[1]}'
    changed = {'points_labels': labels, 'points_exclude_classes': excluded}
    plain = run({'depth', 'labels', 'points'}, points_labels=labels)
    found = run({'depth', 'labels', 'points'}, **changed)
    ids = load_labels('worlds_10').find(*CLASSES[:2])
    gone = np.isin(plain.products['labels'], ids)
    assert 0 < gone.mean() < 1
    assert np.isnan(found.products['points'][gone][:, :3]).all()
    np.testing.assert_array_equal(found.products['points'][~gone], plain.products['points'][~gone])
    np.testing.assert_array_equal(found.products['depth'], plain.products['depth'])


def test_classes_named_alone_become_points():
    plain = run({'labels', 'points'})
    points = product('points', points_only_classes=CLASSES[0])
    (chosen,) = load_labels('worlds_10').find(CLASSES[0])
    stays = plain.products['labels'] == chosen
    assert 0 < stays.mean() < 1
    assert np.isnan(points[~stays][:, :3]).all()
    np.testing.assert_array_equal(points[stays], plain.products['points'][stays])


def test_a_class_named_in_both_is_excluded():
    names = {'points_only_classes': ','.join(CLASSES[:2]), 'points_exclude_classes': CLASSES[0]}
    both = product('points', **names)
    alone = product('points', points_only_classes=CLASSES[1])
    np.testing.assert_array_equal(both, alone)


def test_where_nothing_is_a_point_stands_only_to_be_cleared_to():
    plain = run({'depth', 'points'})
    cleared = run({'depth', 'points'}, points_clearing_distance=30.0)
    nothing = np.isposinf(plain.products['depth'])
    assert 0 < nothing.mean() < 1
    points = cleared.products['points']
    np.testing.assert_array_equal(points[nothing][:, 2], 30.0)
    np.testing.assert_array_equal(points[~nothing], plain.products['points'][~nothing])
    np.testing.assert_array_equal(cleared.products['depth'], plain.products['depth'])


def test_what_is_unknown_is_not_cleared():
    unknown = {'depth_min': 3.0, 'depth_max': 4.0, 'points_clearing_distance': 30.0}
    result = run({'depth', 'points'}, **unknown)
    nan = np.isnan(result.products['depth'])
    assert nan.any()
    np.testing.assert_array_equal(np.isnan(result.products['points'][..., 2]), nan)


def test_the_sky_of_excluded_classes_is_not_cleared():
    points = product('points', points_exclude_classes='sky', points_clearing_distance=30.0)
    assert np.nanmax(points[..., 2]) < 30.0


def test_the_image_at_the_size_of_the_maps_is_averaged(passes: Counter):
    np.testing.assert_array_equal(product('color'), picture())
    blocks = picture().reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(product('color', output_decimation=2), blocks, atol=0.51)
    assert not passes  # no network runs for it


def test_what_is_unlabelled_is_of_no_class():
    unsure = {'segmentation_min_confidence': 1.0}
    every = ','.join(load_labels('worlds_10').names)
    assert np.isnan(product('points', points_only_classes=every, **unsure)[..., :3]).all()
    kept = product('points', points_exclude_classes=every, **unsure)
    assert np.isfinite(kept[..., :3]).any()


def test_points_alone_run_the_labels_that_choose_them(passes: Counter):
    run({'points'}, perceive(trained(), TINY), points_exclude_classes=CLASSES[0])
    assert passes['segmentation'] == 1


@pytest.mark.parametrize('option', ['points_exclude_classes', 'points_only_classes'])
def test_a_class_that_nobody_knows_is_refused(option: str):
    with pytest.raises(
        ValueError, match=r'names dragon, which .* does not know; it knows .*floor'
    ):
        BOTH.check(replace(OPTIONS, **{option: 'floor, dragon'}))


def test_classes_without_labels_are_refused():
    with pytest.raises(ValueError, match=r'need labels: name a network in segmentation\.model'):
        perceive(TINY, None).check(replace(OPTIONS, points_exclude_classes='floor'))


TINY_ALONE = perceive(TINY, None)


def measured(depth: np.ndarray, seconds: float = 0.0) -> Reference:
    """Give every seventh pixel of a map as a depth sensor would."""
    sparse = np.full(depth.shape, np.nan, np.float32)
    sparse.flat[::7] = depth.flat[::7]
    return Reference(seconds, sparse)


def test_a_reference_makes_metres_of_relative_depth():
    relative = perceive(RELATIVE, None)
    fixed = run({'depth'}, relative, scale_mode='fixed', scale_factor=1.0, scale_offset=0.01)
    truth = fixed.products['depth']
    given = replace(frame(), references=[measured(truth)])
    result = run({'depth', 'points'}, relative, given, scale_mode='reference')
    np.testing.assert_allclose(result.products['depth'], truth, rtol=1e-3)
    assert result.scale.factor == pytest.approx(1.0, rel=1e-3)
    assert 'points' in result.products


def test_a_reference_corrects_metric_depth_by_a_factor():
    own = product('depth', TINY_ALONE)
    given = replace(frame(), references=[measured(1.1 * own)])
    result = run({'depth'}, TINY_ALONE, given, scale_mode='reference')
    np.testing.assert_allclose(result.products['depth'], 1.1 * own, rtol=1e-3)


def test_without_a_scale_there_are_no_metres_but_all_else_and_why():
    relative = perceive(RELATIVE, TINY)
    result = run(relative.products, relative, scale_mode='reference')
    assert set(result.products) == {'color', 'inverse_depth', *OF_LABELS} == set(result.available)
    assert result.scale.lost == 'no reference_depth has come'


def test_of_two_cameras_one_can_have_metres_and_the_other_none():
    relative = perceive(RELATIVE, None)
    changes = {'scale_mode': 'fixed', 'scale_factor': 1.0, 'scale_offset': 0.01}
    truth = run({'depth'}, relative, **changes).products['depth']
    seen = replace(frame(), references=[measured(truth)])
    blind = replace(frame(), source='rear')
    options = replace(OPTIONS, scale_mode='reference')
    first, second = relative([blind, seen], {'depth'}, options)
    assert not first.products
    np.testing.assert_allclose(second.products['depth'], truth, rtol=1e-3)


class Told(torch.nn.Module):
    """A network that says of any image what it was told to say."""

    def __init__(self, **tasks: torch.Tensor):
        super().__init__()
        self.tasks = tasks

    def forward(self, _: torch.Tensor, wanted: set[str]) -> dict[str, torch.Tensor]:
        return {task: self.tasks[task] for task in wanted}


def test_the_floor_of_a_drawn_world_makes_metres_of_relative_depth():
    shot = draw_shot(HELD_OUT[0], (120, 160))
    _, depth, labels = shoot(plan([shot]))
    scores = 9 * F.one_hot(labels[:, ::2, ::2].long(), 10).permute(0, 3, 1, 2).float()
    depths = replace(RELATIVE, network=Told(depth=(1 / depth - 0.1) / 0.02))
    classes = replace(TINY, network=Told(segmentation=scores))
    classes = replace(classes, checkpoint=replace(classes.checkpoint, std=(1.0, 1.0, 1.0)))
    image = np.zeros((120, 160, 3), np.uint8)
    pitch, roll = math.degrees(shot.pose.pitch), math.degrees(shot.pose.roll)
    result = run(
        {'depth'},
        perceive(depths, classes),
        frame(image, shot.camera),
        scale_mode='ground',
        scale_camera_height=shot.pose.position[2],
        scale_camera_pitch=pitch,
        scale_camera_roll=roll,
    )
    assert result.scale.factor == pytest.approx(0.02, rel=0.02)
    found, truth = result.products['depth'], depth[0].numpy()
    seen = np.isfinite(found) & np.isfinite(truth)
    assert seen.mean() > 0.5
    assert np.abs(found / truth - 1)[seen].mean() < 0.02


@pytest.mark.parametrize(
    ('segmentation', 'classes', 'complaint'),
    [
        (None, '', 'needs labels: name a network in segmentation.model'),
        (TINY, 'lava', 'scale.ground_classes names lava, which segmentation.model does not'),
    ],
)
def test_ground_that_no_network_knows_is_refused(
    segmentation: Trained | None, classes: str, complaint: str
):
    options = replace(OPTIONS, scale_mode='ground', scale_ground_classes=classes)
    with pytest.raises(ValueError, match=complaint):
        perceive(RELATIVE, segmentation).check(options)


def test_metres_are_corrected_for_the_lens_at_the_size_of_the_network():
    # The network sees 96x64 of 80x60: lengths are stretched by 1.2 and 16 / 15.
    seen = (CAMERA.fx * 1.2 + CAMERA.fy * 64 / 60) / 2
    lens = perceive(trained(focal=2 * seen), None)
    np.testing.assert_allclose(product('depth', lens), product('depth', TINY_ALONE) / 2)


def test_without_calibration_metres_are_those_of_the_weights():
    lens = perceive(trained(focal=500.0), None)
    found = run({'depth'}, lens, frame(camera=None)).products['depth']
    np.testing.assert_array_equal(found, product('depth', TINY_ALONE))


def test_depth_is_averaged_where_the_image_stays_and_only_if_wanted():
    perception = perceive(TINY, None)
    for share in (0.0, 0.5):
        before = run({'depth'}, perception, depth_steadiness=share).products['depth']
        shade = frame(picture() + (picture() < 250).astype(np.uint8))  # one step brighter
        after = run({'depth'}, perception, shade, depth_steadiness=share).products['depth']
        wanted = run({'depth'}, TINY_ALONE, shade).products['depth']
        if share:
            wanted = 1 / (0.5 / before + 0.5 / wanted)
        np.testing.assert_allclose(after, wanted, rtol=1e-5)


def test_steadiness_switched_off_forgets():
    perception = perceive(TINY, None)
    dark, light = frame(np.zeros_like(picture())), frame(np.full_like(picture(), 4))  # no change
    for given, share in ((dark, 0.5), (dark, 0.0), (light, 0.5)):
        found = run({'depth'}, perception, given, depth_steadiness=share).products['depth']
    wanted = run({'depth'}, TINY_ALONE, light).products['depth']
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize('spoiled', ['depth', 'segmentation'])
def test_an_image_of_which_nothing_is_believable_is_refused_and_leaves_no_trace(spoiled: str):
    def spoil(_: object, __: object, raw: dict) -> dict:
        raw[spoiled][-1] = torch.nan
        return raw

    perception, options = perceive(twin(focal=500.0), TINY), replace(OPTIONS, depth_steadiness=0.5)
    frames = [frame(), replace(frame(picture(seed=1)), source='rear')]
    for one in perception._networks.passes:
        hook = one.network._network.register_forward_hook(spoil)
    with pytest.raises(NetworkError, match=f'the network for {spoiled} gave no finite number'):
        perception(frames, {'depth', 'labels'}, options)
    hook.remove()
    found = perception(frames, {'depth', 'labels'}, options)
    wanted = perceive(twin(focal=500.0), TINY)(frames, {'depth', 'labels'}, options)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.products['depth'], other.products['depth'])
        assert one.scale == other.scale
        assert one.scale.notes


def test_what_metres_are_corrected_for_is_told_by_the_next_frame_if_one_is_lost():
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError('no room for the batch')

    perception = perceive(twin(focal=500.0), None)
    hook = perception._networks.passes[0].network._network.register_forward_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        perception([frame()], {'depth'}, OPTIONS)
    hook.remove()
    for notes in (1, 0):
        (found,) = perception([frame()], {'depth'}, OPTIONS)
        assert found.scale is not None and len(found.scale.notes) == notes


@pytest.mark.parametrize(
    'name', [n for n in vars(OPTIONS) if n.startswith('scale_') and n != 'scale_ground_classes']
)
def test_every_option_of_scale_reaches_it(name: str):
    value = vars(OPTIONS)[name]
    other = 'other' if isinstance(value, str) else value + 1
    changed = pipeline._settings(replace(OPTIONS, **{name: other}))
    before = vars(pipeline._settings(OPTIONS))
    assert [new for key, new in vars(changed).items() if new != before[key]] == [other]
