"""
Random worlds: a room, corridor or yard with things of real sizes and materials of real scales.

World frame (REP 103): z up, metres; the floor is z = 0 and its middle is the origin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from dpt_ros.training.casting import BOX, CYLINDER, ELLIPSOID, Parts
from dpt_ros.training.materials import Color, Material
from dpt_ros.zoo.labels import load_labels
import numpy as np

LABELS = 'worlds_10'  # a set of `zoo.labels`
FLOOR, WALL, CEILING, SKY, BOXES, CYLINDERS, SPHERES, TABLE, CHAIR, PERSON = range(10)
DENSITY = 0.6  # things per square metre, at most MOST
MOST = 14
SPACE = 0.15  # metres between things

Rng = np.random.Generator


class Solid(NamedTuple):
    """One part, before it is turned and moved to its place."""

    kind: int
    center: tuple[float, float, float]  # metres, from the thing's middle on the floor
    half: tuple[float, float, float]  # metres
    material: Material
    yaw: float = 0.0  # radians


@dataclass(frozen=True)
class World:
    """Everything that a camera could see, at rest."""

    parts: Parts
    materials: np.ndarray  # (N, 15) float32, `Material.row` of each part
    extent: tuple[float, float]  # of the floor, metres
    spots: np.ndarray  # (things, 3): x, y and radius of what stands on the floor, metres
    light: np.ndarray  # (3,), direction in which it shines, of length 1
    ambient: float  # share of the light that comes from everywhere
    fading: float  # 1 / metres at which the light is down to half
    sky: tuple[np.ndarray, float, float]  # see `materials.sky`

    sky_label = SKY


def furnish(rng: Rng) -> World:
    """Draw a world."""
    place = rng.choice(('room', 'corridor', 'yard'), p=(0.5, 0.2, 0.3))
    extent, solids, labels = PLACES[place](rng)
    outside = place == 'yard'
    casts = [False] * len(solids)
    spots = _spots(extent, rng)
    for x, y, radius in spots:
        label = int(rng.choice((BOXES, CYLINDERS, SPHERES, TABLE, CHAIR, PERSON)))
        thing, yaw = THINGS[label](radius, rng), rng.uniform(-np.pi, np.pi)
        solids += [_moved(solid, x, y, yaw) for solid in thing]
        labels += [label] * len(thing)
        casts += [True] * len(thing)
    parts = Parts(
        kind=np.array([s.kind for s in solids]),
        label=np.array(labels),
        center=np.array([s.center for s in solids]),
        half=np.array([s.half for s in solids]),
        yaw=np.array([s.yaw for s in solids]),
        casts=np.array(casts),
    )
    slant, around = rng.uniform(0.1, 1.0 if outside else 0.6), rng.uniform(-np.pi, np.pi)
    light = np.array([np.cos(around) * slant, np.sin(around) * slant, -1.0])
    return World(
        parts=parts,
        materials=np.array([s.material.row() for s in solids], np.float32),
        extent=extent,
        spots=spots,
        light=light / np.linalg.norm(light),
        ambient=float(rng.uniform(0.3, 0.75)),
        fading=0.0 if outside else float(rng.uniform(0, 0.12)),
        sky=(rng.uniform((0.15, 0.35, 0.6), (0.45, 0.6, 1.0)), rng.uniform(0, 0.9), rng.random()),
    )


def _spots(extent: tuple[float, float], rng: Rng) -> np.ndarray:
    """Scatter places for things over the floor, (n, 3): x, y and radius, none touching another."""
    wanted = min(MOST, rng.poisson(DENSITY * extent[0] * extent[1] * rng.uniform(0.3, 1)))
    spots = np.empty((0, 3))
    for _ in range(3 * wanted):
        radius = rng.uniform(0.2, 0.55)
        x, y = rng.uniform(-0.5, 0.5, 2) * (np.array(extent) - 2 * radius - 0.1)
        apart = np.hypot(spots[:, 0] - x, spots[:, 1] - y) - spots[:, 2] - radius
        if len(spots) < wanted and (apart > SPACE).all():
            spots = np.vstack((spots, (x, y, radius)))
    return spots


def _moved(solid: Solid, x: float, y: float, yaw: float) -> Solid:
    """Turn a part of a thing about the thing's middle and move it to (x, y)."""
    cx, cy, cz = solid.center
    c, s = np.cos(yaw), np.sin(yaw)
    return solid._replace(
        center=(x + c * cx - s * cy, y + s * cx + c * cy, cz), yaw=yaw + solid.yaw
    )


# Places ---------------------------------------------------------------------------------------


def _room(rng: Rng) -> tuple[tuple[float, float], list[Solid], list[int]]:
    extent = tuple(rng.uniform(3.0, 8.0, 2))
    solids, labels = _shell(extent, float(rng.uniform(2.3, 2.8)), _indoor_wall(rng), rng)
    if rng.random() < 0.4:  # a wall that juts in
        length = rng.uniform(0.8, 0.45 * extent[1])
        x = rng.uniform(-0.3, 0.3) * extent[0]
        half = (0.06, length / 2, solids[1].half[2])
        solids.append(Solid(BOX, (x, (extent[1] - length) / 2, half[2]), half, solids[1].material))
        labels.append(WALL)
    return extent, solids, labels


def _corridor(rng: Rng) -> tuple[tuple[float, float], list[Solid], list[int]]:
    extent = (rng.uniform(6.0, 14.0), rng.uniform(1.5, 2.6))
    solids, labels = _shell(extent, float(rng.uniform(2.2, 2.6)), _indoor_wall(rng), rng)
    return extent, solids, labels


def _yard(rng: Rng) -> tuple[tuple[float, float], list[Solid], list[int]]:
    extent = tuple(rng.uniform(5.0, 12.0, 2))
    brick = Material(
        _color(rng, 0.25, 0.7, 0.3),
        _color(rng, 0.4, 0.8, 0.1),
        (0.25, 0.075),
        0.5,
        joint=0.012,
        variation=rng.uniform(0.1, 0.35),
        grain=0.1,
        scale=1.0,
    )
    fence = Material(
        _color(rng, 0.2, 0.7, 0.4),
        _color(rng, 0.05, 0.2, 0.2),
        (0.12, 10.0),
        joint=0.012,
        variation=rng.uniform(0.1, 0.4),
        grain=0.15,
        scale=0.7,
    )
    high = float(rng.uniform(1.2, 3.5))
    solids, labels = _shell(extent, high, brick if rng.random() < 0.6 else fence, rng, open_=True)
    grass = Material(
        _color(rng, 0.2, 0.5, 0.3, (-0.05, 0.1, -0.1)),
        _color(rng, 0.3, 0.6, 0.2),
        grain=rng.uniform(0.2, 0.6),
        scale=rng.uniform(0.8, 1.6),
    )
    slabs = _tiles(rng, rng.choice((0.3, 0.4, 0.5)))
    solids[0] = solids[0]._replace(material=grass if rng.random() < 0.5 else slabs)
    return extent, solids, labels


PLACES: dict[str, Callable] = {'room': _room, 'corridor': _corridor, 'yard': _yard}


def _shell(
    extent: tuple[float, float], high: float, wall: Material, rng: Rng, open_: bool = False
) -> tuple[list[Solid], list[int]]:
    """Build floor, four walls with doors, and a ceiling unless `open_`."""
    x, y = extent[0] / 2, extent[1] / 2
    thick = 0.2
    solids = [Solid(BOX, (0, 0, -0.5), (x + 1, y + 1, 0.5), _floor(rng))]
    door = Material(_color(rng, 0.2, 0.8, 0.3), _color(rng, 0.2, 0.6, 0.2), band=0.0, grain=0.05)
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        along, off = ((0, y), x) if axis == 0 else ((x, 0), y)
        half = (thick, y + thick, high / 2) if axis == 0 else (x + thick, thick, high / 2)
        center = (sign * (off + thick), 0.0) if axis == 0 else (0.0, sign * (off + thick))
        solids.append(Solid(BOX, (*center, high / 2), half, wall))
        if rng.random() < 0.5 and high > 2.1:
            at = rng.uniform(-0.8, 0.8) * (max(along) - 0.5)
            half = (0.02, 0.45, 1.0) if axis == 0 else (0.45, 0.02, 1.0)
            center = (sign * off, at) if axis == 0 else (at, sign * off)
            solids.append(Solid(BOX, (*center, 1.0), half, door))
    labels = [FLOOR] + [WALL] * (len(solids) - 1)
    if not open_:
        light = _color(rng, 0.6, 0.95, 0.06)
        plaster = Material(light, _dim(light, 0.7), grain=0.04)
        panels = Material(light, _dim(light, 0.6), (0.6, 0.6), joint=0.02)
        ceiling = panels if rng.random() < 0.4 else plaster
        solids.append(Solid(BOX, (0, 0, high + 0.5), (x + 1, y + 1, 0.5), ceiling))
        labels.append(CEILING)
    return solids, labels


def _color(
    rng: Rng, low: float, high: float, spread: float, lean: tuple[float, ...] = (0, 0, 0)
) -> Color:
    """Draw a color: brightness between `low` and `high`, channels apart by `spread`."""
    channels = rng.uniform(low, high) + rng.uniform(-spread, spread, 3) + np.array(lean)
    r, g, b = channels.clip(0.02, 0.98).tolist()
    return r, g, b


def _dim(color: Color, share: float) -> Color:
    return share * color[0], share * color[1], share * color[2]


def _paint(rng: Rng) -> Material:
    """Draw the surface of a thing: plain, striped or checkered."""
    color, second = _color(rng, 0.1, 0.85, 0.4), _color(rng, 0.1, 0.85, 0.4)
    grain, scale = rng.uniform(0, 0.3), rng.uniform(0.5, 2)
    pattern = rng.random()
    if pattern < 0.6:
        return Material(color, second, grain=grain, scale=scale)
    period = (rng.uniform(0.08, 0.3), rng.uniform(0.08, 0.3) if pattern < 0.8 else 10.0)
    return Material(color, second, period, checker=rng.uniform(0.3, 1), grain=grain, scale=scale)


def _tiles(rng: Rng, side: float) -> Material:
    color = _color(rng, 0.25, 0.8, 0.12)
    shares = rng.uniform(0.3, 0.75, 3)
    joint = (color[0] * shares[0], color[1] * shares[1], color[2] * shares[2])
    checker = rng.uniform(0.2, 1) if rng.random() < 0.25 else 0.0
    return Material(
        color,
        joint,
        (side, side),
        joint=0.01,
        checker=checker,
        variation=rng.uniform(0, 0.2),
        grain=rng.uniform(0, 0.2),
        scale=rng.uniform(0.5, 2),
    )


def _floor(rng: Rng) -> Material:
    """Draw an indoor floor: tiles, planks or carpet."""
    pattern = rng.random()
    if pattern < 0.45:
        return _tiles(rng, rng.choice((0.3, 0.6)))
    if pattern < 0.8:
        wood = _color(rng, 0.2, 0.6, 0.05, (0.1, 0.0, -0.1))
        dark = _dim(wood, 0.45)
        return Material(
            wood, dark, (1.2, 0.14), 0.5, joint=0.006, variation=rng.uniform(0.15, 0.4), grain=0.12
        )
    plain = _color(rng, 0.15, 0.7, 0.2)
    return Material(plain, plain, grain=rng.uniform(0.1, 0.5), scale=rng.uniform(0.8, 2))


def _indoor_wall(rng: Rng) -> Material:
    """Draw a painted or papered wall with its skirting board."""
    color, board = _color(rng, 0.35, 0.9, 0.15), _color(rng, 0.1, 0.9, 0.1)
    grain = rng.uniform(0, 0.15)
    if rng.random() < 0.8:
        return Material(color, board, (50.0, 50.0), grain=grain, band=0.09)
    stripes = (0.2, 50.0)
    return Material(color, board, stripes, checker=rng.uniform(0.1, 0.5), grain=grain, band=0.09)


# Things ---------------------------------------------------------------------------------------


def _box(radius: float, rng: Rng) -> list[Solid]:
    half = (*(radius * rng.uniform(0.45, 0.7, 2)), rng.uniform(0.1, 0.6))
    return [Solid(BOX, (0, 0, half[2]), half, _paint(rng))]


def _cylinder(radius: float, rng: Rng) -> list[Solid]:
    wide, high = radius * rng.uniform(0.45, 0.9), rng.uniform(0.15, 0.6)
    return [Solid(CYLINDER, (0, 0, high), (wide, wide, high), _paint(rng))]


def _sphere(radius: float, rng: Rng) -> list[Solid]:
    r = radius * rng.uniform(0.5, 0.9)
    return [Solid(ELLIPSOID, (0, 0, r), (r, r, r), _paint(rng))]


def _table(radius: float, rng: Rng) -> list[Solid]:
    wood = _paint(rng)
    legs = wood if rng.random() < 0.5 else _paint(rng)
    x, y, high = radius * rng.uniform(0.75, 0.9), radius * rng.uniform(0.5, 0.7), 0.72
    if rng.random() < 0.2:  # round, on one foot
        top = Solid(CYLINDER, (0, 0, high - 0.02), (x, x, 0.02), wood)
        return [top, Solid(CYLINDER, (0, 0, high / 2), (0.05, 0.05, high / 2 - 0.02), legs)]
    top = Solid(BOX, (0, 0, high - 0.02), (x, y, 0.02), wood)
    return [top, *_legs(x - 0.04, y - 0.04, high - 0.04, 0.03, legs)]


def _chair(radius: float, rng: Rng) -> list[Solid]:  # noqa: ARG001
    paint = _paint(rng)
    legs = paint if rng.random() < 0.5 else _paint(rng)
    side, seat, back = 0.21, 0.45, rng.uniform(0.2, 0.26)
    return [
        Solid(BOX, (0, 0, seat - 0.02), (side, side, 0.02), paint),
        Solid(BOX, (-side + 0.02, 0, seat + back), (0.02, side, back), paint),
        *_legs(side - 0.02, side - 0.02, seat - 0.04, 0.02, legs),
    ]


def _legs(x: float, y: float, high: float, thick: float, material: Material) -> list[Solid]:
    half = (thick, thick, high / 2)
    corners = ((x, y), (x, -y), (-x, y), (-x, -y))
    return [Solid(BOX, (*corner, high / 2), half, material) for corner in corners]


def _person(radius: float, rng: Rng) -> list[Solid]:  # noqa: ARG001
    tall = rng.uniform(1.6, 1.85)
    trousers, shirt = _paint(rng), _paint(rng)
    tone = rng.uniform(0.15, 0.75)
    skin = (tone + 0.1, tone * 0.75 + 0.05, tone * 0.55 + 0.05)
    head = Material(skin, skin)
    hip, shoulder, stride = 0.48 * tall, 0.83 * tall, rng.uniform(0, 0.12)
    waist = (hip + shoulder) / 2
    return [
        Solid(CYLINDER, (stride, 0.09, hip / 2), (0.08, 0.08, hip / 2), trousers),
        Solid(CYLINDER, (-stride, -0.09, hip / 2), (0.08, 0.08, hip / 2), trousers),
        Solid(ELLIPSOID, (0, 0, waist), (0.13, 0.2, 0.62 * (shoulder - hip)), shirt),
        Solid(CYLINDER, (0, 0.23, waist), (0.045, 0.045, 0.45 * (shoulder - hip) + 0.1), shirt),
        Solid(CYLINDER, (0, -0.23, waist), (0.045, 0.045, 0.45 * (shoulder - hip) + 0.1), shirt),
        Solid(ELLIPSOID, (0, 0, 0.93 * tall), (0.1, 0.085, 0.07 * tall), head),
    ]


THINGS: dict[int, Callable[[float, Rng], list[Solid]]] = {
    BOXES: _box,
    CYLINDERS: _cylinder,
    SPHERES: _sphere,
    TABLE: _table,
    CHAIR: _chair,
    PERSON: _person,
}


def class_names() -> tuple[str, ...]:
    """Return the names of the classes, in the order of their indices."""
    return load_labels(LABELS).names
