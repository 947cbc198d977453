"""
Rays against boxes, vertical cylinders and ellipsoids: what is hit first, and where.

Everything is one of these three *parts*, floor, walls and ceiling too (thick boxes). A ray is
origin + t * direction; rays of a camera have a direction whose optical z is 1, so that t is the
depth. World frame (REP 103): z up, metres. Rays start outside of every part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from dpt_ros.perception.camera import Camera
import numpy as np

BOX, CYLINDER, ELLIPSOID = range(3)
NEAR = 0.05  # metres; a part that comes closer to the camera's plane is sought everywhere
_CORNERS = np.stack(np.meshgrid((-1, 1), (-1, 1), (-1, 1)), axis=-1).reshape(8, 3)
_TINY = 1e-12  # keeps 1 / direction finite

Rectangle = tuple[slice, slice]
Axes = Sequence[np.ndarray]  # x, y and z, each (H, W) or broadcastable to it


@dataclass(frozen=True)
class Parts:
    """N solids, each turned about the vertical through its center."""

    kind: np.ndarray  # (N,) int64: BOX, CYLINDER or ELLIPSOID
    label: np.ndarray  # (N,) int64, class id
    center: np.ndarray  # (N, 3) float64, metres
    half: np.ndarray  # (N, 3) float64, half of the extents before turning, metres
    yaw: np.ndarray  # (N,) float64, radians
    casts: np.ndarray  # (N,) bool, whether it throws a shadow

    def corners(self) -> np.ndarray:
        """Return the corners of the turned bounding boxes, (N, 8, 3), metres."""
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x, y, z = np.moveaxis(self.half[:, None] * _CORNERS, -1, 0)
        return np.stack((c * x - s * y, s * x + c * y, z), axis=-1) + self.center[:, None]


def cast(
    parts: Parts, rectangles: Sequence[Rectangle | None], origin: Axes, direction: Axes
) -> tuple[np.ndarray, np.ndarray]:
    """
    Find the first part that each ray hits.

    :param rectangles: for each part the rays that may hit it; None where none does.
    :param origin: of the rays, metres.
    :param direction: of the rays, each (H, W) float32.
    :return: t, (H, W) float32, +Inf where nothing is hit; index of the part, (H, W) int64,
        0 where nothing is hit.
    """
    shape = np.broadcast_shapes(*(a.shape for a in (*origin, *direction)))
    origin = [np.broadcast_to(a, shape) for a in origin]
    direction = [np.broadcast_to(a, shape) for a in direction]
    nearest, index = np.full(shape, np.inf, np.float32), np.zeros(shape, np.int64)
    for part, rectangle in enumerate(rectangles):
        if rectangle is None:
            continue
        t = _hit(parts, part, [a[rectangle] for a in origin], [a[rectangle] for a in direction])
        closer = t < nearest[rectangle]
        np.copyto(nearest[rectangle], t, where=closer)
        np.copyto(index[rectangle], part, where=closer)
    return nearest, index


def _hit(parts: Parts, part: int, origin: Axes, direction: Axes) -> np.ndarray:
    """Return t where each ray enters the part, +Inf where it does not."""
    o, d = to_local(parts, part, origin, direction)
    half = parts.half[part].astype(np.float32)
    o, d = ([a / h for a, h in zip(axes, half, strict=True)] for axes in (o, d))
    kind = parts.kind[part]
    if kind == BOX:
        spans = [_slab(o[axis], d[axis]) for axis in range(3)]
    elif kind == CYLINDER:
        spans = [_ball(o[:2], d[:2]), _slab(o[2], d[2])]
    else:
        spans = [_ball(o, d)]
    enter, leave = spans[0]
    for first, last in spans[1:]:
        enter, leave = np.maximum(enter, first), np.minimum(leave, last)
    return np.where((enter <= leave) & (enter > 0), enter, np.float32(np.inf))


def to_local(
    parts: Parts, part: int | np.ndarray, points: Axes, vectors: Axes
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Bring points and vectors into the frame of a part, or each into that of its own part."""
    c = np.cos(parts.yaw[part]).astype(np.float32)
    s = np.sin(parts.yaw[part]).astype(np.float32)
    center = np.moveaxis(parts.center.astype(np.float32)[part], -1, 0)
    x, y, z = (a - b for a, b in zip(points, center, strict=True))
    u, v, w = vectors
    return [c * x + s * y, c * y - s * x, z], [c * u + s * v, c * v - s * u, w]


def dot(a: Axes, b: Axes) -> np.ndarray:
    """Return the scalar products of vectors given by component."""
    return reduce(np.add, (x * y for x, y in zip(a, b, strict=True)))


def _slab(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where rays enter and leave |x| <= 1."""
    inverse = 1 / (d + np.float32(_TINY))
    middle, reach = -o * inverse, np.abs(inverse)
    return middle - reach, middle + reach


def _ball(o: Axes, d: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return where rays enter and leave the unit circle or ball; never: enter after leaving."""
    a = dot(d, d) + np.float32(_TINY)
    b = dot(o, d)
    # As |o - d b / a|^2, not b^2 - a c, which loses the small in the difference of the large.
    apart = sum((x - y * (b / a)) ** 2 for x, y in zip(o, d, strict=True))
    reach = np.sqrt(np.maximum((1 - apart) / a, 0))
    middle = -b / a
    missed = apart > 1
    return np.where(missed, np.inf, middle - reach), np.where(missed, -np.inf, middle + reach)


def in_image(
    parts: Parts, position: np.ndarray, rotation: np.ndarray, camera: Camera
) -> list[Rectangle | None]:
    """
    Bound each part in an image.

    :param position: (3,) of the camera in the world, metres.
    :param rotation: (3, 3), from the optical frame to the world.
    """
    optical = (parts.corners() - position) @ rotation  # (N, 8, 3)
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
    """Return the pixels between the corners (N, 8) of each part; None where there are none."""
    left, top = np.floor(u.min(axis=1)), np.floor(v.min(axis=1))
    right, bottom = np.ceil(u.max(axis=1)) + 1, np.ceil(v.max(axis=1)) + 1
    edges = np.stack((left, top, right, bottom), axis=1).clip(0, (width, height) * 2).astype(int)
    return [
        (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None
        for x0, y0, x1, y1 in edges.tolist()
    ]


def normals(parts: Parts, index: np.ndarray, local: Axes) -> list[np.ndarray]:
    """
    Return the outward normals at hits, in the frames of the parts.

    :param index: (H, W), the part of each hit.
    :param local: the hits, in the frames of their parts.
    :return: x, y, z, each (H, W), of length 1.
    """
    half = parts.half.astype(np.float32)[index]  # (H, W, 3)
    kind = parts.kind[index]
    unit = np.stack(local, axis=-1) / half
    size = np.abs(unit)
    side = (kind == CYLINDER) & (size[..., 2] < np.hypot(unit[..., 0], unit[..., 1]))
    flat = (kind == BOX) | ((kind == CYLINDER) & ~side)
    size[kind == CYLINDER, :2] = 0
    face = size.argmax(axis=-1)[..., None] == np.arange(3)
    normal = np.where(flat[..., None], np.sign(unit) * face, unit / half)
    normal[side, 2] = 0
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + _TINY
    return list(np.moveaxis(normal.astype(np.float32), -1, 0))
