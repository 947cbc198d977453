"""
Random rooms, corridors and yards as a wheeled robot's camera sees them, with exact ground truth.

A `World` is geometry, materials and light; `look` takes a picture of it from a `Pose`. Image i of
a data set is seed i and nothing else, so `HELD_OUT` can never be trained on. Sizes are those of
the real things (doors, tables, bricks, floor tiles), which is what lets metres be learned.

World frame (REP 103): z up, metres, floor at z = 0. Optical frame: x right, y down, z forward.

A `Plan` of any number of pictures is made on a CPU, `shoot` takes them together on its device.
Alone, a picture is sought only where its parts are, which is what a CPU is fast at: one core
draws a picture of 256x192 in about 25 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dpt_ros.perception.camera import Camera
from dpt_ros.training import materials
from dpt_ros.training.casting import (
    arrange,
    bound,
    build_scene,
    cast,
    dot,
    in_image,
    normals,
    pick,
    Rectangle,
    Scene,
    to_local,
    unite,
)
from dpt_ros.training.furnishing import furnish, WALL, World
from dpt_ros.training.materials import Sensor, Sensors
import numpy as np
import torch
from torch import Tensor

TRAINING = range(100_000_000)  # seeds
HELD_OUT = range(1_000_000_000, 1_000_000_512)
SIZE = (192, 256)  # rows and columns

HEIGHT = (0.3, 0.8)  # of the camera above the floor, metres
PITCH = (0.0, 25.0)  # downward, degrees
ROLL = 3.0  # either way, degrees
FIELD = (60.0, 90.0)  # of view, horizontal, degrees
CLEARANCE = 0.35  # metres between the camera and any thing

_SHADOW_SIDE, _SHADOW_REACH = 256, 6.5  # texels; metres around what the camera looks at
_DENSITY = _SHADOW_SIDE / (2 * _SHADOW_REACH)  # texels a metre


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
    return look(*draw_shot(seed, size))


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
    world: World, pose: Pose, camera: Camera, sensor: Sensor, rng: np.random.Generator
) -> View:
    """
    Take a picture.

    :param camera: without distortion.
    :param rng: of the noise.
    """
    taken = shoot(plan([Shot(world, pose, camera, sensor, rng)]))
    rgb, depth, labels = (pixels[0].numpy() for pixels in taken)
    return View(rgb, depth, labels, camera)


class Shot(NamedTuple):
    """A picture to be taken, see `look`."""

    world: World
    pose: Pose
    camera: Camera
    sensor: Sensor
    rng: np.random.Generator


def draw_shot(seed: int, size: tuple[int, int] = SIZE) -> Shot:
    """Draw the world, the camera and the picture that `seed` stands for; `size` is (H, W)."""
    rng = np.random.default_rng(seed)
    world = furnish(rng)
    pose, camera = place_camera(world, size, rng)
    return Shot(world, pose, camera, materials.draw_sensor(rng), rng)


@dataclass(frozen=True)
class Plan:
    """All that B pictures of one size follow from; computing with rays comes next."""

    scene: Scene
    casters: Scene  # what of it throws a shadow
    seen: list[Rectangle | None]  # for each slot the pixels where its parts may be
    shading: list[Rectangle | None]  # for each slot the texels of the shadow map likewise
    labels: Tensor  # (B, N) uint8, class ids
    paints: Tensor  # (B, N, 15) float32, `Material.row`
    position: Tensor  # (B, 3) float32, of the camera in the world, metres
    rotation: Tensor  # (B, 3, 3) float32, from the optical frame to the world
    focal: Tensor  # (B, 2) float32, fx and fy in pixels
    rays: Tensor  # (B, 2, H, W) float32, x and y where optical z is 1
    light: Tensor  # (B, 3) float32, direction in which it shines
    ambient: Tensor  # (B,) float32
    fading: Tensor  # (B,) float32, 1 / metres
    sky: Tensor  # (B, 5) float32: zenith, clouds, shift
    basis: Tensor  # (B, 3, 3) float32, columns: across and along the shadow map, and the light
    middle: Tensor  # (B, 3) float32, of the shadow map, along the basis, metres
    sensors: Sensors
    noise: Tensor  # (B, H, W, 3) float32, of deviation 1

    def to(self, device: torch.device) -> 'Plan':
        """Bring it to a device."""
        moved: list[Any] = [
            v if isinstance(v, list) else v.to(device) for v in vars(self).values()
        ]
        return Plan(*moved)


class Batch(NamedTuple):
    """Pictures and their ground truth."""

    rgb: Tensor  # (B, H, W, 3) uint8
    depth: Tensor  # (B, H, W) float32, metres along the optical z, +Inf for the sky
    labels: Tensor  # (B, H, W) uint8, class ids


def plan(shots: Sequence[Shot]) -> Plan:
    """Lay shots out; their images have one size."""
    worlds, poses, cameras, sensors, generators = zip(*shots, strict=True)
    parts = [world.parts for world in worlds]
    slots, casting = arrange(parts), arrange(parts, casting=True)
    rotations = [pose.rotation() for pose in poses]
    positions = [np.array(pose.position) for pose in poses]
    seen = [
        in_image(p, *where) for p, *where in zip(parts, positions, rotations, cameras, strict=True)
    ]
    maps = [_shadow_map(world, pose) for world, pose in zip(worlds, poses, strict=True)]
    camera = cameras[0]
    noise = [r.standard_normal((camera.height, camera.width, 3), np.float32) for r in generators]
    return Plan(
        scene=build_scene(parts, slots),
        casters=build_scene(parts, casting),
        seen=unite(seen, slots),
        shading=unite([rectangles for _, _, rectangles in maps], casting),
        labels=_in_slots([p.label for p in parts], slots).to(torch.uint8),
        paints=_in_slots([world.materials for world in worlds], slots),
        position=_stacked(positions),
        rotation=_stacked(rotations),
        focal=_stacked([(c.fx, c.fy) for c in cameras]),
        rays=_stacked([np.moveaxis(c.rays(), -1, 0) for c in cameras]),
        light=_stacked([world.light for world in worlds]),
        ambient=_stacked([world.ambient for world in worlds]),
        fading=_stacked([world.fading for world in worlds]),
        sky=_stacked([(*world.sky[0], *world.sky[1:]) for world in worlds]),
        basis=_stacked([basis for basis, _, _ in maps]),
        middle=_stacked([middle for _, middle, _ in maps]),
        sensors=materials.gather(sensors, camera.width),
        noise=_stacked(noise),
    )


def _stacked(rows: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _in_slots(rows: Sequence[np.ndarray], slots: np.ndarray) -> Tensor:
    """Arrange numbers of parts by slot; what an empty slot has does not matter."""
    return _stacked([row[slot] for row, slot in zip(rows, slots, strict=True)])


def _shadow_map(world: World, pose: Pose) -> tuple[np.ndarray, np.ndarray, list]:
    """Return basis and middle of the shadow map (see `Plan`), and its texels by part."""
    light = world.light
    side = np.cross(light, (0.31, 0.95, 0.0))
    side /= np.linalg.norm(side)
    basis = np.stack((side, np.cross(light, side), light), axis=1)
    ahead = np.array([np.cos(pose.yaw), np.sin(pose.yaw)]) * 0.6 * _SHADOW_REACH
    middle = np.array([*(np.array(pose.position[:2]) + ahead), 0.0]) @ basis
    corners = (world.parts.corners() @ basis - middle) * _DENSITY + _SHADOW_SIDE / 2
    rectangles = bound(corners[..., 0], corners[..., 1], _SHADOW_SIDE, _SHADOW_SIDE)
    return basis, middle, rectangles


@torch.no_grad()
def shoot(plan: Plan) -> Batch:
    """Take the pictures, on the device where the plan is."""
    x, y = plan.rays.unbind(1)
    turn = plan.rotation[..., None, None]
    direction = [turn[:, k, 0] * x + turn[:, k, 1] * y + turn[:, k, 2] for k in range(3)]
    origin = list(plan.position[..., None, None].unbind(1))
    depth, index = cast(plan.scene, plan.seen, origin, direction)
    seen = depth.isfinite()
    light = _shade(plan, depth.masked_fill(~seen, 1), index, origin, direction)
    if not seen.all():
        zenith, clouds, shift = plan.sky[:, :3], plan.sky[:, 3], plan.sky[:, 4]
        above = materials.sky(direction, zenith, clouds, shift)
        light = torch.where(seen[..., None], light, above)
    labels = pick(plan.labels, index).masked_fill_(~seen, World.sky_label)
    return Batch(materials.expose(light, plan.sensors, plan.noise), depth, labels)


def _shade(
    plan: Plan, depth: Tensor, index: Tensor, origin: Sequence[Tensor], direction: Sequence[Tensor]
) -> Tensor:
    """Return the light that each hit sends to the camera, (B, H, W, 3) float32."""
    hits = [o + depth * d for o, d in zip(origin, direction, strict=True)]
    local, inward = to_local(plan.scene, index, hits, direction)
    normal = normals(plan.scene, index, local)
    facing = dot(normal, inward).abs()
    length = dot(direction, direction).sqrt()
    texel = depth * length / (plan.focal[:, 0, None, None] * facing.clamp_min(0.08))
    horizontal = normal[2].abs() > 0.7
    across = torch.where(normal[0].abs() > normal[1].abs(), local[1], local[0])
    u = torch.where(horizontal, local[0], across)
    v = torch.where(horizontal, local[1], local[2])
    foot = local[2] + pick(plan.scene.half[..., 2], index)
    color = materials.paint(pick(plan.paints, index), u, v, foot, texel)

    c, s = pick(plan.scene.turn, index).unbind(-1)
    nx, ny = c * normal[0] - s * normal[1], s * normal[0] + c * normal[1]
    toward = (-plan.light[..., None, None]).unbind(1)
    lit = dot((nx, ny, normal[2]), toward).clamp_min(0) * _lit(plan, hits)
    share = plan.ambient[:, None, None]
    ambient = share * (1 + 0.25 * normal[2] + 0.12 * nx)
    fading = 1 / (1 + (plan.fading[:, None, None] * depth * length) ** 2)
    return color * ((ambient + (1 - share) * lit) * fading)[..., None]


def _lit(plan: Plan, hits: Sequence[Tensor]) -> Tensor:
    """Return how far each hit is out of the shadows, (B, H, W) float32 in [0, 1]."""
    steps = (torch.arange(_SHADOW_SIDE, device=plan.middle.device) - _SHADOW_SIDE / 2) / _DENSITY
    start = 30.0  # metres before the middle, toward the light
    middle, basis = plan.middle[..., None, None], plan.basis[..., None, None]
    place = middle[:, 0] + steps, middle[:, 1] + steps[:, None], middle[:, 2] - start
    origin = [dot(place, basis[:, k].unbind(1)) for k in range(3)]
    rays = list(plan.light[..., None, None].unbind(1))
    until, _ = cast(plan.casters, plan.shading, origin, rays)

    x, y, z = (dot(hits, basis[:, :, k].unbind(1)) - middle[:, k] for k in range(3))
    column, row = ((k * _DENSITY + _SHADOW_SIDE / 2 + 0.5).long() for k in (x, y))
    last = _SHADOW_SIDE - 1
    inside = (column >= 0) & (column <= last) & (row >= 0) & (row <= last)
    texel = row.clamp(0, last) * _SHADOW_SIDE + column.clamp(0, last)
    first = until.flatten(1).gather(1, texel.flatten(1)).view_as(texel)
    shadowed = inside & (first < z + (start - 0.12))
    return materials.soften((~shadowed).float())
