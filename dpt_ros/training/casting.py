"""
Rays against boxes, vertical cylinders and ellipsoids: what is hit first, and where.

Everything is one of these three *parts*, floor, walls and ceiling too (thick boxes). A ray is
origin + t * direction; rays of a camera have a direction whose optical z is 1, so that t is the
depth. World frame (REP 103): z up, metres. Rays start outside of every part.

Shapes: B worlds, N slots for parts in each, (H, W) rays. Points and vectors of rays are given by
component: x, y and z, each (B, H, W) float32 or (B, 1, 1) where all rays have it in common.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from dpt_ros.perception.camera import Camera
import numpy as np
import torch
from torch import Tensor

BOX, CYLINDER, ELLIPSOID = KINDS = range(3)
NEAR = 0.05  # metres; a part that comes closer to the camera's plane is sought everywhere
_CORNERS = np.stack(np.meshgrid((-1, 1), (-1, 1), (-1, 1)), axis=-1).reshape(8, 3)
_TINY = 1e-12  # keeps 1 / direction finite

Rectangle = tuple[slice, slice]
Axes = Sequence[Tensor]


@dataclass(frozen=True)
class Parts:
    """The solids of one world, n of them, each turned about the vertical through its center."""

    kind: np.ndarray  # (n,) int64: BOX, CYLINDER or ELLIPSOID
    label: np.ndarray  # (n,) int64, class id
    center: np.ndarray  # (n, 3) float64, metres
    half: np.ndarray  # (n, 3) float64, half of the extents before turning, metres
    yaw: np.ndarray  # (n,) float64, radians
    casts: np.ndarray  # (n,) bool, whether it throws a shadow

    def corners(self) -> np.ndarray:
        """Return the corners of the turned bounding boxes, (n, 8, 3), metres."""
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x, y, z = np.moveaxis(self.half[:, None] * _CORNERS, -1, 0)
        return np.stack((c * x - s * y, s * x + c * y, z), axis=-1) + self.center[:, None]


@dataclass(frozen=True)
class Scene:
    """The parts of all worlds; a slot holds parts of one kind, and nothing where they are few."""

    kind: Tensor  # (N,) int64 of the slots
    center: Tensor  # (B, N, 3) float32, metres
    half: Tensor  # (B, N, 3) float32, metres
    turn: Tensor  # (B, N, 2) float32, cosine and sine of the yaw

    def to(self, device: torch.device) -> 'Scene':
        """Bring it to a device."""
        return Scene(*(tensor.to(device) for tensor in vars(self).values()))


def arrange(worlds: Sequence[Parts], *, casting: bool = False) -> np.ndarray:
    """
    Give the parts of every world a slot.

    :param casting: only those that throw a shadow.
    :return: (B, N) int64, index of the part there, or -1.
    """
    columns = []
    for kind in KINDS:
        rows = [np.flatnonzero((p.kind == kind) & (p.casts | (not casting))) for p in worlds]
        most = max(map(len, rows))
        columns += [np.stack([np.pad(r, (0, most - len(r)), constant_values=-1) for r in rows])]
    return np.concatenate(columns, axis=1)


def build_scene(worlds: Sequence[Parts], slots: np.ndarray) -> Scene:
    """Lay the worlds out as `arrange` has it; an empty slot is far below, where no ray comes."""

    def stacked(rows: Iterable[np.ndarray], empty: float) -> Tensor:
        longer = (np.vstack((row, np.full_like(row[:1], empty))) for row in rows)
        chosen = [row[slot] for row, slot in zip(longer, slots, strict=True)]
        return torch.from_numpy(np.stack(chosen).astype(np.float32))

    turns = (np.stack((np.cos(parts.yaw), np.sin(parts.yaw)), axis=1) for parts in worlds)
    most = slots.argmax(axis=0)  # a world that has a part in the slot
    kinds = [worlds[b].kind[part] for b, part in zip(most, slots.max(axis=0), strict=True)]
    return Scene(
        torch.tensor(kinds, dtype=torch.int64),
        stacked((parts.center for parts in worlds), -1e6),
        stacked((parts.half for parts in worlds), 1.0),
        stacked(turns, 1.0),
    )


def unite(worlds: Sequence[Sequence[Rectangle | None]], slots: np.ndarray) -> list:
    """
    Find the rays that may hit the parts of a slot in any world.

    :param worlds: for each part of each world the rays that may hit it; None where none does.
    :return: a rectangle or None for each slot.
    """
    united: list[Rectangle | None] = []
    for column in slots.T:
        found = [
            rectangle
            for rectangles, part in zip(worlds, column, strict=True)
            if part >= 0 and (rectangle := rectangles[part]) is not None
        ]
        rows, columns = ([r[axis] for r in found] for axis in (0, 1))
        united.append((_cover(rows), _cover(columns)) if found else None)
    return united


def _cover(slices: Sequence[slice]) -> slice:
    return slice(min(s.start for s in slices), max(s.stop for s in slices))


def cast(
    scene: Scene, rectangles: Sequence[Rectangle | None], origin: Axes, direction: Axes
) -> tuple[Tensor, Tensor]:
    """
    Find the first part that each ray hits.

    :param rectangles: for each slot the rays that may hit it; None where none does.
    :param origin: of the rays, metres.
    :return: t, (B, H, W) float32, +Inf where nothing is hit; slot of the part, (B, H, W) int64, 0
        where nothing is hit.
    """
    shape = torch.broadcast_shapes(*(a.shape for a in (*origin, *direction)))
    nearest = torch.full(shape, torch.inf, device=scene.center.device)
    index = torch.zeros(shape, dtype=torch.int64, device=scene.center.device)
    for slot, (kind, rectangle) in enumerate(zip(scene.kind.tolist(), rectangles, strict=True)):
        if rectangle is None:
            continue
        rows, columns = rectangle
        o, d = ([_crop(a, rows, columns) for a in axes] for axes in (origin, direction))
        t = _hit(scene, slot, kind, o, d)
        near = nearest[:, rows, columns]
        index[:, rows, columns].masked_fill_(t < near, slot)
        torch.minimum(near, t, out=near)
    return nearest, index


def _crop(a: Tensor, rows: slice, columns: slice) -> Tensor:
    return a if a.shape[1:] == (1, 1) else a[:, rows, columns]


def _hit(scene: Scene, slot: int, kind: int, origin: Axes, direction: Axes) -> Tensor:
    """Return t where each ray enters the part of the slot, +Inf where it does not."""
    center, half, turn = (
        list(numbers[:, slot, :, None, None].unbind(1))
        for numbers in (scene.center, scene.half, scene.turn)
    )
    o, d = _turned([a - b for a, b in zip(origin, center, strict=True)], direction, *turn)
    o, d = ([a / h for a, h in zip(axes, half, strict=True)] for axes in (o, d))
    if kind == BOX:
        spans = [_slab(o[axis], d[axis]) for axis in range(3)]
    elif kind == CYLINDER:
        spans = [_ball(o[:2], d[:2]), _slab(o[2], d[2])]
    else:
        spans = [_ball(o, d)]
    enter = reduce(torch.maximum, (span[0] for span in spans))
    leave = reduce(torch.minimum, (span[1] for span in spans))
    return enter.masked_fill((enter > leave) | (enter <= 0), torch.inf)


def _turned(
    points: Axes, vectors: Axes, cosine: Tensor, sine: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Bring points and vectors into a frame turned about z."""
    (x, y, z), (u, v, w) = points, vectors
    return (
        [cosine * x + sine * y, cosine * y - sine * x, z],
        [cosine * u + sine * v, cosine * v - sine * u, w],
    )


def to_local(
    scene: Scene, index: Tensor, points: Axes, vectors: Axes
) -> tuple[list[Tensor], list[Tensor]]:
    """Bring points and vectors each into the frame of its part; `index` as `cast` returns it."""
    center, turn = pick(scene.center, index), pick(scene.turn, index)
    relative = [a - b for a, b in zip(points, center.unbind(-1), strict=True)]
    return _turned(relative, vectors, *turn.unbind(-1))


def pick(numbers: Tensor, index: Tensor) -> Tensor:
    """Look up (B, N, ...) by the slots (B, H, W): (B, H, W, ...)."""
    worlds = torch.arange(len(numbers), device=numbers.device)[:, None, None]
    return numbers.flatten(0, 1)[index + numbers.shape[1] * worlds]


def dot(a: Axes, b: Axes) -> Tensor:
    """Return the scalar products of vectors given by component."""
    return reduce(torch.add, (x * y for x, y in zip(a, b, strict=True)))


def _slab(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays enter and leave |x| <= 1."""
    inverse = 1 / (d + _TINY)
    middle, reach = -o * inverse, inverse.abs()
    return middle - reach, middle + reach


def _ball(o: Axes, d: Axes) -> tuple[Tensor, Tensor]:
    """Return where rays enter and leave the unit circle or ball; never: enter after leaving."""
    a = dot(d, d) + _TINY
    middle = -dot(o, d) / a
    # As |o + d middle|^2, not b^2 - a c, which loses the small in the difference of the large.
    apart = reduce(torch.add, ((x + y * middle) ** 2 for x, y in zip(o, d, strict=True)))
    reach = ((1 - apart) / a).clamp_min(0).sqrt()
    missed = apart > 1
    return (
        (middle - reach).masked_fill(missed, torch.inf),
        (middle + reach).masked_fill(missed, -torch.inf),
    )


def in_image(
    parts: Parts, position: np.ndarray, rotation: np.ndarray, camera: Camera
) -> list[Rectangle | None]:
    """
    Bound each part of a world in an image.

    :param position: (3,) of the camera in the world, metres.
    :param rotation: (3, 3), from the optical frame to the world.
    """
    optical = (parts.corners() - position) @ rotation  # (n, 8, 3)
    x, y, z = np.moveaxis(optical, -1, 0)
    safe = np.maximum(z, NEAR)
    u, v = camera.fx * x / safe + camera.cx, camera.fy * y / safe + camera.cy
    crossing = (z < NEAR).any(axis=1)
    everywhere = slice(0, camera.height), slice(0, camera.width)
    return [
        None if (z[n] < 0).all() else everywhere if crossing[n] else bounded
        for n, bounded in enumerate(bound(u, v, camera.width, camera.height))
    ]


def bound(u: np.ndarray, v: np.ndarray, width: int, height: int) -> list[Rectangle | None]:
    """Return the pixels between the corners (n, 8) of each part; None where there are none."""
    left, top = np.floor(u.min(axis=1)), np.floor(v.min(axis=1))
    right, bottom = np.ceil(u.max(axis=1)) + 1, np.ceil(v.max(axis=1)) + 1
    edges = np.stack((left, top, right, bottom), axis=1).clip(0, (width, height) * 2).astype(int)
    return [
        (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None
        for x0, y0, x1, y1 in edges.tolist()
    ]


def normals(scene: Scene, index: Tensor, local: Axes) -> list[Tensor]:
    """
    Return the outward normals at hits, in the frames of the parts.

    :param index: (B, H, W), the slot of each hit.
    :param local: the hits, in the frames of their parts.
    :return: x, y, z of length 1.
    """
    half, kind = pick(scene.half, index), scene.kind[index]
    unit = torch.stack(tuple(local), dim=-1) / half
    size = unit.abs()
    round_ = kind == CYLINDER
    side = round_ & (size[..., 2] < torch.hypot(unit[..., 0], unit[..., 1]))
    flat = (kind == BOX) | (round_ & ~side)
    size[..., :2].masked_fill_(round_[..., None], 0)
    face = size.argmax(dim=-1, keepdim=True) == torch.arange(3, device=size.device)
    normal = torch.where(flat[..., None], unit.sign() * face, unit / half)
    normal[..., 2].masked_fill_(side, 0)
    return list((normal / (normal.norm(dim=-1, keepdim=True) + _TINY)).unbind(-1))
