"""
Metres, labels and clouds of the real node, held against the truth of drawn worlds.

Images of worlds that training never saw go through a node with dpt_tiny on a real graph. The
network's own errors would hide a shift by one pixel, so each check looks where they cancel out:
at edges summed over all frames, at rays and colors, which no network makes, and at the same
network run by hand. `FAULTS` breaks one stage at a time to show which checks notice.

The figures beside the limits are what 12 other sets of 16 worlds gave, without a fault and, after
"against", with the least of the faults that the check is there for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest.mock import patch

import cv2
from dpt_ros.perception import bands, networks, products
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.scale import metres
from dpt_ros.ros import outputs, processor
from dpt_ros.training.furnishing import FLOOR, furnish
from dpt_ros.training.materials import draw_sensor
from dpt_ros.training.worlds import HELD_OUT, look, place_camera, Pose, View
from dpt_ros.zoo.store import load
from graph import Graph, image_of, info_of
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
import torch
from torch.nn import functional as F

pytestmark = pytest.mark.graph

WIDTH, HEIGHT, FOCAL = 320, 240, 220.0  # the network sees 256x192: all is resampled twice
CAMERA = Camera(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2 + 4, (HEIGHT - 1) / 2 - 3)
WORLDS = HELD_OUT[:16]
FEW = 2  # frames, for what no error of the network can hide
TOPICS = {
    'depth/image': Image,
    'depth/camera_info': CameraInfo,
    'segmentation/mask': Image,
    'points': PointCloud2,
}


@dataclass(frozen=True)
class Shot:
    """An image of a world, its truth, and what the node made of it."""

    seed: int
    view: View
    pose: Pose
    depth: np.ndarray  # (H, W) float32
    mask: np.ndarray  # (H, W) uint8
    points: np.ndarray  # (H, W, 8) float32
    info: CameraInfo


@pytest.fixture(scope='module')
def shoot(new_domain):
    """Send so many of the worlds through a node on a graph; what comes back is arrays."""
    graph = Graph(new_domain())
    try:
        graph.start_node()
        inboxes = {name: graph.listen(f'dpt/{name}', kind) for name, kind in TOPICS.items()}
        camera = graph.camera()
        info = info_of(WIDTH, HEIGHT, FOCAL)
        for matrix in (info.k, info.p):
            matrix[2], matrix[6 if matrix is info.p else 5] = CAMERA.cx, CAMERA.cy

        def send(seed: int) -> Shot:
            pose, view = scene(seed)
            since = info.header.stamp.sec  # what comes late from an earlier image is older
            pixels = (view.rgb, 'rgb8') if seed % 2 else (view.rgb[..., ::-1], 'bgr8')

            def answers():
                fresh = [
                    {m.header.stamp.sec: m for m in heard if m.header.stamp.sec > since}
                    for heard in inboxes.values()
                ]
                whole = set.intersection(*map(set, fresh))
                return whole and [messages[max(whole)] for messages in fresh]

            depth, its_info, mask, cloud = graph.shoot(camera, image_of(*pixels), info, answers)
            for heard in inboxes.values():
                heard.clear()
            return Shot(
                seed,
                view,
                pose,
                np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width),
                np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width),
                np.frombuffer(cloud.data, np.float32).reshape(cloud.height, cloud.width, 8),
                its_info,
            )

        yield lambda count: [send(seed) for seed in WORLDS[:count]]
    finally:
        graph.close()


@pytest.fixture(scope='module')
def shots(shoot):
    """Return every world, seen by the node as it is."""
    return shoot(len(WORLDS))


@cache
def scene(seed: int) -> tuple[Pose, View]:
    """Draw a held-out world through the one camera of these tests."""
    rng = np.random.default_rng(seed)
    world = furnish(rng)
    pose, _ = place_camera(world, (HEIGHT, WIDTH), rng)
    return pose, look(world, pose, CAMERA, draw_sensor(rng), rng)


def check_metres(shots: list[Shot]) -> None:
    errors = [np.abs(s.depth[seen(s)] / s.view.depth[seen(s)] - 1) for s in shots]
    assert np.mean([np.median(error) for error in errors]) < 0.25  # 0.10 to 0.17 against 0.5


def check_labels(shots: list[Shot]) -> None:
    assert np.mean([s.mask == s.view.labels for s in shots]) > 0.85  # 0.90 to 0.96


def check_floor(shots: list[Shot]) -> None:
    """Points of the floor, brought to the world by the pose, have a height of zero."""
    heights = []
    for s in shots:
        floor = seen(s) & (s.view.labels == FLOOR)
        if floor.mean() > 0.05:
            x, y, z = s.pose.rotation()[2]  # of the optical axes, the parts that point up
            points = s.points[floor]
            height = points[:, 0] * x + points[:, 1] * y + points[:, 2] * z + s.pose.position[2]
            heights.append(np.median(np.abs(height)))
    assert np.mean(heights) < 0.15  # metres; 0.05 to 0.10 against 0.24


def check_depth_across(shots: list[Shot]) -> None:
    assert abs(depth_offset(shots, axis=1)) < 0.4  # pixels; up to 0.08 against 0.73


def check_depth_down(shots: list[Shot]) -> None:
    assert abs(depth_offset(shots, axis=0)) < 0.4  # up to 0.15 against 0.57


def check_labels_across(shots: list[Shot]) -> None:
    assert abs(label_offset(shots, axis=1)) < 0.4  # up to 0.10 against 0.85


def check_labels_down(shots: list[Shot]) -> None:
    assert abs(label_offset(shots, axis=0)) < 0.4  # up to 0.18 against 0.65


def check_camera_info(shots: list[Shot]) -> None:
    for s in shots:
        k = [CAMERA.fx, 0.0, CAMERA.cx, 0.0, CAMERA.fy, CAMERA.cy, 0.0, 0.0, 1.0]
        np.testing.assert_allclose(s.info.k, k, rtol=1e-12)
        np.testing.assert_allclose(np.reshape(s.info.p, (3, 4))[:, :3].ravel(), k, rtol=1e-12)


def check_rays(shots: list[Shot]) -> None:
    """Point (u, v) of the cloud lies on the ray of its camera_info, at the depth of its pixel."""
    v, u = np.indices((HEIGHT, WIDTH))
    for s in shots:
        fx, _, cx, _, fy, cy, *_ = s.info.k
        finite = np.where(np.isfinite(s.depth), s.depth, np.nan)
        wanted = [finite * (u - cx) / fx, finite * (v - cy) / fy, finite]
        np.testing.assert_allclose(s.points[..., :3], np.stack(wanted, -1), rtol=1e-4, atol=1e-4)


def check_colors(shots: list[Shot]) -> None:
    for s in shots:
        bgr = np.ascontiguousarray(s.points[..., 4:5]).view(np.uint8)[..., :3]
        np.testing.assert_array_equal(bgr[..., ::-1], s.view.rgb)


def check_by_hand(shots: list[Shot]) -> None:
    """Depth and labels are those of the network, run here with OpenCV's cubic before it."""
    for s in shots[:FEW]:
        depth, labels = by_hand(s.seed)
        finite, sure = np.isfinite(s.depth), s.mask != 255
        assert finite.any()
        assert np.percentile(np.abs(s.depth / depth - 1)[finite], 95) < 1e-3
        assert np.mean((s.mask == labels)[sure]) > 0.999


@cache
def by_hand(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return depth (H, W) in metres and labels (H, W) of a world as dpt_tiny has them."""
    _, view = scene(seed)
    small = cv2.resize(view.rgb.astype(np.float32), (256, 192), interpolation=cv2.INTER_CUBIC)
    image = torch.from_numpy(small / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        raw = load('dpt_tiny').network(image)
    size, scores = (HEIGHT, WIDTH), raw['segmentation']
    depth = 20 * F.interpolate(raw['depth'][None], size, mode='bicubic')[0, 0]
    scores = F.interpolate(scores, scale_factor=2, mode='bilinear', align_corners=True)
    labels = F.interpolate(scores, size, mode='bicubic')[0].argmax(0)
    return depth.numpy(), labels.numpy()


CHECKS = {
    name.removeprefix('check_'): check
    for name, check in globals().copy().items()
    if name.startswith('check_')
}


def seen(shot: Shot) -> np.ndarray:
    """Return the pixels that see a thing and have a depth, (H, W) bool."""
    return np.isfinite(shot.depth) & np.isfinite(shot.view.depth)


def depth_offset(shots: list[Shot], axis: int) -> float:
    """Measure how far edges of depth lie behind those of the truth along an axis, in pixels."""
    maps = [(edges(s.depth), edges(s.view.depth)) for s in shots]
    return offset(lambda a, b: float(np.corrcoef(a.ravel(), b.ravel())[0, 1]), maps, axis)


def label_offset(shots: list[Shot], axis: int) -> float:
    """Measure how far borders of labels lie behind those of the truth along an axis, in pixels."""
    maps = [(s.mask, s.view.labels) for s in shots]
    return offset(lambda a, b: float(np.mean(a == b)), maps, axis)


def edges(depth: np.ndarray) -> np.ndarray:
    """Return the steepness of the logarithm of depth; from 20 % a pixel on, an edge is an edge."""
    steep = np.gradient(np.log(np.nan_to_num(depth, nan=0.1, posinf=20.0).clip(0.1, 20.0)))
    return np.hypot(*steep).clip(0, 0.2)


def offset(agreement: Callable[..., float], maps: list[Any], axis: int) -> float:
    """
    Find the shift between pairs of maps, where a parabola through their agreement has its top.

    Two pixels to either side: there errors in sharpness weigh least.
    """
    inner = (slice(8, -8), slice(8, -8))
    before, here, behind = (
        np.mean([agreement(np.roll(a, -by, axis)[inner], b[inner]) for a, b in maps])
        for by in (-2, 0, 2)
    )
    assert here > max(before, behind)
    return float((behind - before) / (2 * here - before - behind))


@pytest.mark.parametrize('check', CHECKS.values(), ids=CHECKS.keys())
def test_the_node_agrees_with_the_truth(shots: list[Shot], check: Callable[..., None]):
    check(shots)


@dataclass(frozen=True)
class Fault:
    """A stage that is wrong: what calls it, its name there, and how its result is spoilt."""

    module: Any
    stage: str
    spoil: Callable[..., Any]  # (stage, *arguments) -> result
    noticed: tuple[str, ...]  # by these of CHECKS, each by itself
    frames: int = FEW


def rolled(values: Any, rows: int, columns: int) -> Any:
    return torch.roll(values, (1, 1), (rows, columns))


def lifted(stage: Callable[..., Any], rays: Callable[..., Any]) -> Callable[..., Any]:
    return lambda depth, its, *rest, **named: stage(depth, rays(its), *rest, **named)


def seen_by(camera: Camera, zoom: float = 1.0, right: float = 0.0) -> Camera:
    return replace(camera, fx=zoom * camera.fx, fy=zoom * camera.fy, cx=camera.cx + right)


def told_by(info: CameraInfo, zoom: float = 1.0, right: float = 0.0) -> CameraInfo:
    info.k[0], info.k[4], info.k[2] = zoom * info.k[0], zoom * info.k[4], info.k[2] + right
    return info


DEPTH_EDGES, LABEL_EDGES = ('depth_across', 'depth_down'), ('labels_across', 'labels_down')
ALL, SIGNS = len(WORLDS), torch.tensor([[[1]], [[-1]]])  # of rays, x and y
FAULTS = {
    # one pixel
    'the image, as decoded': Fault(
        processor, 'decode_image', lambda f, *a: np.roll(f(*a), 1, 1), ('colors', 'by_hand')
    ),
    'the input of the network': Fault(
        networks,
        'feed',
        lambda f, *a: rolled(f(*a), 2, 3),
        (*DEPTH_EDGES, *LABEL_EDGES, 'by_hand'),
        ALL,
    ),
    'depth, brought back': Fault(
        metres, 'restore_size', lambda f, *a: rolled(f(*a), 1, 2), (*DEPTH_EDGES, 'by_hand'), ALL
    ),
    'labels, brought back': Fault(
        networks,
        'classify',
        lambda f, *a: tuple(rolled(values, 1, 2) for values in f(*a)),
        (*LABEL_EDGES, 'by_hand'),
        ALL,
    ),
    'rays of the cloud': Fault(
        products,
        'pack_points',
        lambda f, *a, **k: lifted(f, lambda rays: rolled(rays, 1, 2))(*a, **k),
        ('rays',),
    ),
    'depth of the cloud': Fault(
        products,
        'pack_points',
        lambda f, depth, *a, **k: f(rolled(depth, 0, 1), *a, **k),
        ('rays',),
    ),
    'colors of the cloud': Fault(
        products,
        'pack_points',
        lambda f, depth, rays, colors, *a, **k: f(depth, rays, rolled(colors, 0, 1), *a, **k),
        ('colors',),
    ),
    'the center of the camera': Fault(
        processor, 'decode_camera', lambda f, *a: seen_by(f(*a), right=1), ('rays',)
    ),
    'the center told': Fault(
        outputs,
        'encode_camera_info',
        lambda f, *a: told_by(f(*a), right=1),
        ('camera_info', 'rays'),
    ),
    # the order of channels
    'red for blue, as decoded': Fault(
        processor,
        'decode_image',
        lambda f, *a: np.ascontiguousarray(f(*a)[..., ::-1]),
        ('colors', 'by_hand'),
    ),
    'red for blue in the network': Fault(
        networks, 'feed', lambda f, pixels, *a: f(pixels.flip(-1), *a), ('by_hand',)
    ),
    'red for blue in the cloud': Fault(
        products,
        'pack_points',
        lambda f, depth, rays, colors, *a, **k: f(depth, rays, colors.flip(-1), *a, **k),
        ('colors',),
    ),
    # a factor of two
    'twice the metres': Fault(
        metres, 'metres_of_weights', lambda f, *a: f(*a) * 2, ('metres', 'floor', 'by_hand')
    ),
    'half the metres': Fault(
        metres, 'metres_of_weights', lambda f, *a: f(*a) / 2, ('metres', 'floor', 'by_hand')
    ),
    'twice the focal length': Fault(
        processor, 'decode_camera', lambda f, *a: seen_by(f(*a), zoom=2), ('rays', 'floor')
    ),
    'twice the focal length told': Fault(
        outputs,
        'encode_camera_info',
        lambda f, *a: told_by(f(*a), zoom=2),
        ('camera_info', 'rays'),
    ),
    # a sign
    'y of the cloud up': Fault(
        products,
        'pack_points',
        lambda f, *a, **k: lifted(f, lambda rays: rays * SIGNS)(*a, **k),
        ('rays', 'floor'),
    ),
    'x of the cloud left': Fault(
        products,
        'pack_points',
        lambda f, *a, **k: lifted(f, lambda rays: rays * -SIGNS)(*a, **k),
        ('rays',),
    ),
    'the image upside down': Fault(
        processor,
        'decode_image',
        lambda f, *a: np.ascontiguousarray(f(*a)[::-1]),
        ('labels', 'metres', 'colors', 'by_hand'),
    ),
}


def spoilt(fault: Fault) -> Callable[..., Any]:
    """Return the stage with its fault; what it gets and gives is written before it is spoilt."""
    stage = getattr(fault.module, fault.stage)

    def written(*arguments: Any, **named: Any) -> Any:
        result = stage(*arguments, **named)
        bands.catch_up()
        return result

    def wrong(*arguments: Any, **named: Any) -> Any:
        bands.catch_up()
        return fault.spoil(written, *arguments, **named)

    return wrong


@pytest.mark.parametrize('fault', FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_one_stage_is_noticed(shoot: Any, shots: list[Shot], fault: Fault):
    with patch.object(fault.module, fault.stage, spoilt(fault)):
        wrong = shoot(fault.frames)
    for name in fault.noticed:
        CHECKS[name](shots[: fault.frames])  # it is the fault that it notices
        with pytest.raises(AssertionError):
            CHECKS[name](wrong)


def test_a_camera_that_looks_up_and_not_down_is_noticed(shots: list[Shot]):
    turned = [replace(s, pose=replace(s.pose, pitch=-s.pose.pitch)) for s in shots]
    with pytest.raises(AssertionError):
        check_floor(turned)
