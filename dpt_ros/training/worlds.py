"""
Random rooms, corridors and yards as a wheeled robot's camera sees them, with exact ground truth.

A `World` is geometry, materials and light; `look` takes a picture of it from a `Pose`. Image i of
a data set is seed i and nothing else, so `HELD_OUT` can never be trained on. Sizes are those of
the real things (doors, tables, bricks, floor tiles), which is what lets metres be learned.

World frame (REP 103): z up, metres, floor at z = 0. Optical frame: x right, y down, z forward.
Written for CPU cores: an image takes one of them about 20 ms at 256x192, and as many processes
as there are cores feed a GPU.
"""

from dataclasses import dataclass

from dpt_ros.perception.camera import Camera
from dpt_ros.training import materials
from dpt_ros.training.casting import bound, cast, dot, in_image, normals, Parts, to_local
from dpt_ros.training.furnishing import furnish, WALL, World
import numpy as np

TRAINING = range(100_000_000)  # seeds
HELD_OUT = range(1_000_000_000, 1_000_000_512)
SIZE = (192, 256)  # rows and columns

HEIGHT = (0.3, 0.8)  # of the camera above the floor, metres
PITCH = (0.0, 25.0)  # downward, degrees
ROLL = 3.0  # either way, degrees
FIELD = (60.0, 90.0)  # of view, horizontal, degrees
CLEARANCE = 0.35  # metres between the camera and any thing

_SHADOW_SIDE, _SHADOW_REACH = 256, 6.5  # texels; metres around what the camera looks at


@dataclass(frozen=True)
class Pose:
    """Where the camera is and where it looks."""

    position: tuple[float, float, float]  # metres
    yaw: float  # radians, about z, from x
    pitch: float = 0.0  # radians, downward
    roll: float = 0.0  # radians, clockwise

    def rotation(self) -> np.ndarray:
        """Return the (3, 3) rotation from the optical frame to the world."""
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        forward = np.array([cy * cp, sy * cp, -sp])
        right = np.array([sy, -cy, 0.0])
        down = np.cross(forward, right)
        return np.stack((cr * right + sr * down, cr * down - sr * right, forward), axis=1)


@dataclass(frozen=True)
class View:
    """A picture and its ground truth."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32, metres along the optical z, +Inf for the sky
    labels: np.ndarray  # (H, W) uint8, indices of the label set worlds_10
    camera: Camera


def render(seed: int, size: tuple[int, int] = SIZE) -> View:
    """Draw the world, the camera and the picture that `seed` stands for; `size` is (H, W)."""
    rng = np.random.default_rng(seed)
    world = furnish(rng)
    pose, camera = place_camera(world, size, rng)
    return look(world, pose, camera, materials.draw_sensor(rng), rng)


def place_camera(
    world: World, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Pose, Camera]:
    """Put a robot's camera of (H, W) = `size` at a free spot, mostly facing something."""
    rows, columns = size
    focal = columns / 2 / np.tan(np.radians(rng.uniform(*FIELD)) / 2)
    shift = rng.uniform(-0.02, 0.02, 2) * columns
    center = ((columns - 1) / 2 + shift[0], (rows - 1) / 2 + shift[1])
    camera = Camera(columns, rows, float(focal), float(focal), float(center[0]), float(center[1]))
    x, y = _free_spot(world, rng)
    yaw = rng.uniform(-np.pi, np.pi)
    if len(world.spots) and rng.random() < 0.7:
        away = world.spots[rng.integers(len(world.spots)), :2] - (x, y)
        yaw = np.arctan2(away[1], away[0]) + rng.uniform(-0.5, 0.5)
    elif rng.random() < 0.7:  # not into the nearest wall
        yaw = np.arctan2(-y, -x) + rng.uniform(-0.8, 0.8)
    pitch, roll = np.radians(rng.uniform(*PITCH)), np.radians(rng.uniform(-ROLL, ROLL))
    return Pose((x, y, rng.uniform(*HEIGHT)), float(yaw), float(pitch), float(roll)), camera


def _free_spot(world: World, rng: np.random.Generator) -> tuple[float, float]:
    """Return x and y with clearance, or the freest of the spots tried."""
    tried = rng.uniform(-0.5, 0.5, (24, 2)) * (np.array(world.extent) - 2 * CLEARANCE)
    gap = clearance(world, tried)
    free = np.flatnonzero(gap > 0.99 * CLEARANCE)
    x, y = tried[free[0] if len(free) else gap.argmax()]
    return float(x), float(y)


def clearance(world: World, places: np.ndarray) -> np.ndarray:
    """
    Measure how far places are from the nearest wall or thing.

    :param places: (N, 2), x and y in metres.
    :return: (N,) metres; negative inside.
    """
    walls = world.parts.label == WALL
    beside = np.abs(places[:, None] - world.parts.center[walls, :2]) - world.parts.half[walls, :2]
    gaps = [beside.max(axis=-1)]
    if len(world.spots):
        away = np.linalg.norm(places[:, None] - world.spots[:, :2], axis=-1)
        gaps.append(away - world.spots[:, 2])
    return np.concatenate(gaps, axis=1).min(axis=1)


def look(
    world: World, pose: Pose, camera: Camera, sensor: materials.Sensor, rng: np.random.Generator
) -> View:
    """
    Take a picture.

    :param camera: without distortion.
    :param rng: of the noise.
    """
    position, rotation = np.array(pose.position), pose.rotation()
    x, y = np.moveaxis(camera.rays(), -1, 0)
    r = rotation.astype(np.float32)
    direction = [r[axis, 0] * x + r[axis, 1] * y + r[axis, 2] for axis in range(3)]
    origin = [np.full((1, 1), p, np.float32) for p in position]
    rectangles = in_image(world.parts, position, rotation, camera)
    depth, index = cast(world.parts, rectangles, origin, direction)
    seen = np.isfinite(depth)
    light = _shade(world, np.where(seen, depth, 1), index, origin, direction, pose, camera)
    if not seen.all():
        light[~seen] = materials.sky(direction, *world.sky)[~seen]
    labels = np.where(seen, world.parts.label[index], world.sky_label).astype(np.uint8)
    return View(materials.expose(light, sensor, rng), depth, labels, camera)


def _shade(
    world: World,
    depth: np.ndarray,
    index: np.ndarray,
    origin: list[np.ndarray],
    direction: list[np.ndarray],
    pose: Pose,
    camera: Camera,
) -> np.ndarray:
    """Return the light that each hit sends to the camera, (H, W, 3) float32."""
    parts = world.parts
    hits = [o + depth * d for o, d in zip(origin, direction, strict=True)]
    local, inward = to_local(parts, index, hits, direction)
    normal = normals(parts, index, local)
    facing = np.abs(dot(normal, inward))
    length = np.sqrt(dot(direction, direction))
    texel = depth * length / (camera.fx * np.maximum(facing, 0.08))
    horizontal = np.abs(normal[2]) > 0.7
    across = np.where(np.abs(normal[0]) > np.abs(normal[1]), local[1], local[0])
    u, v = np.where(horizontal, local[0], across), np.where(horizontal, local[1], local[2])
    half = parts.half.astype(np.float32)[index, 2]
    color = materials.paint(world.materials[index], u, v, local[2] + half, texel)

    yaw = parts.yaw[index].astype(np.float32)
    c, s = np.cos(yaw), np.sin(yaw)
    nx, ny = c * normal[0] - s * normal[1], s * normal[0] + c * normal[1]
    toward = -world.light.astype(np.float32)
    lambert = np.maximum(nx * toward[0] + ny * toward[1] + normal[2] * toward[2], 0)
    lit = lambert * _lit(parts, hits, world.light, pose)
    ambient = world.ambient * (1 + 0.25 * normal[2] + 0.12 * nx)
    fading = 1 / (1 + (world.fading * depth * length) ** 2)
    return color * ((ambient + (1 - world.ambient) * lit) * fading)[..., None]


def _lit(parts: Parts, hits: list[np.ndarray], light: np.ndarray, pose: Pose) -> np.ndarray:
    """Return how far each hit is out of the shadows, (H, W) float32 in [0, 1], by shadow map."""
    side = np.cross(light, (0.31, 0.95, 0.0))
    side /= np.linalg.norm(side)
    basis = np.stack((side, np.cross(light, side), light), axis=1)  # (3, 3), columns
    ahead = np.array([np.cos(pose.yaw), np.sin(pose.yaw)]) * 0.6 * _SHADOW_REACH
    middle = np.array([*(np.array(pose.position[:2]) + ahead), 0.0]) @ basis
    density = _SHADOW_SIDE / (2 * _SHADOW_REACH)

    corners = (parts.corners() @ basis - middle) * density + _SHADOW_SIDE / 2
    rectangles = bound(corners[..., 0], corners[..., 1], _SHADOW_SIDE, _SHADOW_SIDE)
    casters = [r if casts else None for r, casts in zip(rectangles, parts.casts, strict=True)]
    steps = (np.arange(_SHADOW_SIDE) - _SHADOW_SIDE / 2) / density
    start = 30.0  # metres before the middle, toward the light
    a, b = (middle[0] + steps)[None, :, None], (middle[1] + steps)[:, None, None]
    plane = a * basis[:, 0] + b * basis[:, 1] + (middle[2] - start) * basis[:, 2]  # (S, S, 3)
    origin = list(np.moveaxis(plane.astype(np.float32), -1, 0))
    rays = [np.full((1, 1), component, np.float32) for component in light]
    until, _ = cast(parts, casters, origin, rays)

    x, y, z = (
        dot(hits, axis) - np.float32(offset)
        for axis, offset in zip(basis.T.astype(np.float32), middle, strict=True)
    )
    at = [(k * density + _SHADOW_SIDE / 2 + 0.5).astype(np.int64) for k in (x, y)]
    inside = (at[0] >= 0) & (at[0] < _SHADOW_SIDE) & (at[1] >= 0) & (at[1] < _SHADOW_SIDE)
    first = until[at[1].clip(0, _SHADOW_SIDE - 1), at[0].clip(0, _SHADOW_SIDE - 1)]
    shadowed = inside & (first < z + np.float32(start - 0.12))
    return materials.soften(1 - shadowed.astype(np.float32))
