"""The solids of the worlds, against geometry worked out by hand."""

from dpt_ros.perception.camera import Camera
from dpt_ros.training.casting import (
    arrange,
    BOX,
    build_scene,
    cast,
    CYLINDER,
    dot,
    ELLIPSOID,
    in_image,
    normals,
    Parts,
    to_local,
    unite,
)
from dpt_ros.training.furnishing import furnish
from dpt_ros.training.worlds import place_camera, Pose
import numpy as np
import pytest
import torch

CAMERA = Camera(81, 61, 60.0, 60.0, 40.0, 30.0)  # pixel (40, 30) looks straight ahead


def solid(kind, center, half, yaw=0.0):
    return Parts(
        np.array([kind]),
        np.array([0]),
        np.array([center], float),
        np.array([half], float),
        np.array([yaw]),
        np.array([True]),
    )


def seen(parts, pose, camera=CAMERA, everywhere=False):
    """Cast the rays of a camera: depth and index of the part (H, W), and all that went in."""
    position, rotation = np.array(pose.position), pose.rotation()
    rays = np.dstack((camera.rays(), np.ones((camera.height, camera.width))))
    direction = torch.from_numpy((rays @ rotation.T).astype(np.float32)).unbind(-1)
    direction = [component[None] for component in direction]
    origin = [torch.full((1, 1, 1), p, dtype=torch.float32) for p in position]
    slots = arrange([parts])
    scene = build_scene([parts], slots)
    whole = [(slice(0, camera.height), slice(0, camera.width))] * len(parts.kind)
    rectangles = whole if everywhere else in_image(parts, position, rotation, camera)
    depth, slot = cast(scene, unite([rectangles], slots), origin, direction)
    return depth[0].numpy(), slots[0][slot[0]], (scene, depth, slot, origin, direction)


AHEAD = Pose((0.0, 0.0, 0.0), yaw=0.0)  # along x, level
X, Y = np.moveaxis(CAMERA.rays(), -1, 0)


def test_the_optical_frame_of_a_level_camera_is_right_down_forward():
    np.testing.assert_allclose(AHEAD.rotation(), [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-12)


def test_a_pose_rotates_and_pitch_looks_down_and_roll_turns_clockwise():
    rotation = Pose((0, 0, 0), 0.7, 0.3, 0.1).rotation()
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[2, 2] == pytest.approx(-np.sin(0.3))
    assert Pose((0, 0, 0), 0.0, 0.0, 0.1).rotation()[2, 0] < 0  # the camera's right sinks


def test_the_floor_is_a_plane():
    # Seen from h above, pitched by p, ray (x, y, 1) sinks by sin p + y cos p a metre of depth.
    floor, h, p = solid(BOX, (0, 0, -0.5), (500, 500, 0.5)), 0.5, np.radians(20)
    depth, _, _ = seen(floor, Pose((0.3, -2.0, h), yaw=1.0, pitch=p))
    sinks = np.sin(p) + Y * np.cos(p)
    hit = sinks > 0.01
    np.testing.assert_allclose(depth[hit], h / sinks[hit], rtol=2e-4)
    assert np.isinf(depth[sinks < 0]).all()


def test_a_sphere_is_a_sphere():
    # |t (x, y, 1) - (0, 0, D)| = r, solved for t.
    r, distance = 0.5, 3.0
    depth, _, _ = seen(solid(ELLIPSOID, (distance, 0, 0), (r, r, r)), AHEAD)
    square = 1 + X**2 + Y**2
    under = distance**2 - square * (distance**2 - r**2)
    expected = np.where(under > 0, (distance - np.sqrt(np.maximum(under, 0))) / square, np.inf)
    sure = np.abs(under) > 1e-3
    np.testing.assert_allclose(depth[sure], expected[sure], rtol=1e-4)
    assert depth[30, 40] == pytest.approx(distance - r)


def test_a_box_shows_its_face():
    depth, _, _ = seen(solid(BOX, (3.0, 0, 0), (1.0, 0.3, 0.2)), AHEAD)
    inside = (np.abs(X) < 0.3 / 2 - 1e-3) & (np.abs(Y) < 0.2 / 2 - 1e-3)
    np.testing.assert_allclose(depth[inside], 2.0, rtol=1e-5)
    outside = (np.abs(X) > 0.3 / 2 + 1e-3) | (np.abs(Y) > 0.2 / 2 + 1e-3)
    assert np.isinf(depth[outside]).all()


def test_a_turned_box_shows_its_edge():
    # Turned by 45 degrees its edge is nearest and its faces recede: t + |x| t = D - h sqrt 2.
    half, distance = 0.4, 3.0
    turned = solid(BOX, (distance, 0, 0), (half,) * 3, yaw=np.pi / 4)
    depth, _, _ = seen(turned, AHEAD)
    hit = np.isfinite(depth) & (np.abs(Y) < 0.1)
    edge = distance - half * np.sqrt(2)
    np.testing.assert_allclose(depth[hit], edge / (1 - np.abs(X[hit])), rtol=1e-4)
    assert hit.sum() > 50


def test_a_cylinder_stands_upright_and_has_a_lid():
    r, high = 0.3, 0.25
    cylinder = solid(CYLINDER, (2.0, 0, high), (r, r, high))
    depth, _, _ = seen(cylinder, Pose((0, 0, high), yaw=0.0))
    assert depth[30, 40] == pytest.approx(2.0 - r)
    assert depth[30 + 5, 40] == pytest.approx(2.0 - r)  # straight up and down its front
    above, _, _ = seen(cylinder, Pose((2.0, 0, 1.5), yaw=0.0, pitch=np.pi / 2))
    assert above[30, 40] == pytest.approx(1.5 - 2 * high)


def test_the_nearer_of_two_hides_the_other():
    near, far = solid(BOX, (2, 0, 0), (0.1,) * 3), solid(BOX, (4, 0, 0), (0.8,) * 3)
    both = Parts(
        *(np.concatenate((getattr(far, f), getattr(near, f))) for f in Parts.__dataclass_fields__)
    )
    depth, index, _ = seen(both, AHEAD)
    assert depth[30, 40] == pytest.approx(1.9) and index[30, 40] == 1
    assert depth[30, 46] == pytest.approx(3.2) and index[30, 46] == 0


@pytest.mark.parametrize('seed', range(6))
def test_bounds_in_the_image_cut_nothing_off(seed):
    rng = np.random.default_rng(seed)
    world = furnish(rng)
    pose, camera = place_camera(world, (48, 64), rng)
    bounded, whole = seen(world.parts, pose, camera), seen(world.parts, pose, camera, True)
    np.testing.assert_array_equal(bounded[0], whole[0])


def test_normals_have_length_1_and_face_the_camera():
    rng = np.random.default_rng(3)
    world = furnish(rng)
    pose, camera = place_camera(world, (48, 64), rng)
    _, _, (scene, depth, slot, origin, direction) = seen(world.parts, pose, camera)
    known = depth.isfinite()
    reach = depth.masked_fill(~known, 1)
    hits = [o + reach * d for o, d in zip(origin, direction, strict=True)]
    local, inward = to_local(scene, slot, hits, direction)
    normal = normals(scene, slot, local)
    np.testing.assert_allclose(dot(normal, normal)[known], 1, rtol=1e-5)
    assert (dot(normal, inward)[known] < 1e-2).float().mean() > 0.995  # rounding at the edges


def test_worlds_of_many_and_few_parts_share_slots_of_one_kind():
    worlds = [furnish(np.random.default_rng(seed)).parts for seed in range(5)]
    slots = arrange(worlds)
    scene = build_scene(worlds, slots)
    for parts, row in zip(worlds, slots, strict=True):
        assert sorted(row[row >= 0]) == list(range(len(parts.kind)))
        np.testing.assert_array_equal(scene.kind[row >= 0], parts.kind[row[row >= 0]])
    casting = arrange(worlds, casting=True)
    for parts, row in zip(worlds, casting, strict=True):
        assert sorted(row[row >= 0]) == list(np.flatnonzero(parts.casts))
