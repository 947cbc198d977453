"""
What surfaces look like: procedural textures, light, and what a camera makes of them.

One formula paints every surface: a grid of cells (tiles, planks, bricks, stripes) with joints,
cells of changing tint, grain over it and a band along the foot (a skirting board). Colors are
linear RGB in [0, 1].
"""

from dataclasses import astuple, dataclass

import cv2
import numpy as np

_NOISE_SIDE = 256  # texels


Color = tuple[float, float, float]  # R, G, B


@dataclass(frozen=True)
class Material:
    """How a surface is painted; lengths in metres, contrasts as shares of 1."""

    color: Color
    second: Color  # of joints, of every other cell, of the band
    period: tuple[float, float] = (1.0, 1.0)  # of the grid, across and along
    bond: float = 0.0  # shift of every other row, in periods
    joint: float = 0.0  # width of the joints
    checker: float = 0.0  # how far every other cell goes toward the second color
    variation: float = 0.0  # of brightness from cell to cell
    grain: float = 0.0  # of brightness within a cell
    scale: float = 1.0  # of the grain: repetitions a metre
    band: float = 0.0  # height of the band along the foot

    def row(self) -> list[float]:
        """Lay the numbers out in the order that `paint` reads them."""
        return [*self.color, *self.second, *self.period, *astuple(self)[3:]]


def _tileable_noise() -> np.ndarray:
    """Draw four octaves of value noise that repeats, (side, side) float32 in [-1, 1]."""
    rng, total = np.random.default_rng(0), np.zeros((_NOISE_SIDE, _NOISE_SIDE), np.float32)
    for cells in (8, 16, 32, 64):
        tile = np.tile(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), (3, 3))
        wide = cv2.resize(tile, (3 * _NOISE_SIDE, 3 * _NOISE_SIDE), interpolation=cv2.INTER_CUBIC)
        total += wide[_NOISE_SIDE:-_NOISE_SIDE, _NOISE_SIDE:-_NOISE_SIDE] * (8 / cells) ** 0.5
    return total / np.abs(total).max()


NOISE = _tileable_noise()


def noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Look the noise up at (u, v), (H, W) float32, one repetition a unit; in [-1, 1]."""
    side = np.float32(_NOISE_SIDE)
    x, y = (u - np.floor(u)) * side, (v - np.floor(v)) * side
    return cv2.remap(NOISE, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def paint(
    materials: np.ndarray, u: np.ndarray, v: np.ndarray, foot: np.ndarray, texel: np.ndarray
) -> np.ndarray:
    """
    Color surface points.

    :param materials: (H, W, 15) float32, `Material.row` of each point.
    :param u: (H, W) float32, place on the surface across, metres; `v` likewise along.
    :param foot: (H, W), height above the foot of the part, metres.
    :param texel: (H, W), metres that a pixel covers there; finer patterns fade out.
    :return: (H, W, 3) float32.
    """
    columns = np.moveaxis(materials[..., 6:], -1, 0)
    across, along, bond, joint, checker, variation, grain, scale, band = columns
    row = np.floor(v / along)
    u = u + bond * across * (row % 2)
    column = np.floor(u / across)
    sharp = np.clip(0.6 * np.minimum(across, along) / texel - 0.6, 0, 1)
    in_cell = np.minimum(u - column * across, v - row * along)
    second = checker * ((row + column) % 2) * sharp
    line = (in_cell < np.maximum(joint, texel)) * np.clip(joint / texel, 0, 1) * sharp
    second = np.maximum(np.maximum(second, line), foot < band)[..., None]
    color = materials[..., :3] * (1 - second) + materials[..., 3:6] * second
    tint = variation * sharp * noise(column * np.float32(0.37), row * np.float32(0.73))
    blur = np.clip(0.1 / (scale * texel), 0, 1)
    return color * (1 + tint + grain * blur * noise(u * scale, v * scale))[..., None]


def sky(
    direction: list[np.ndarray], zenith: np.ndarray, clouds: float, shift: float
) -> np.ndarray:
    """
    Color the sky.

    :param direction: x, y, z of the rays in the world, each (H, W).
    :param zenith: (3,), color straight up.
    :param clouds: their contrast.
    :param shift: moves the clouds.
    :return: (H, W, 3) float32.
    """
    x, y, z = direction
    up = np.clip(z / np.sqrt(x * x + y * y + z * z), 0, 1)
    height = np.float32(0.25) / (up + np.float32(0.25))
    cover = clouds * np.clip(noise(x * height * 0.3 + shift, y * height * 0.3) + 0.2, 0, 1)
    whitish = np.clip(height * 0.6 + cover, 0, 1)[..., None]
    return (zenith * (1 - whitish) + np.array([0.92, 0.94, 0.97]) * whitish).astype(np.float32)


def soften(mask: np.ndarray) -> np.ndarray:
    """Blur the edges of a shadow mask (H, W) float32, over a hundredth of the width."""
    reach = 2 * max(1, mask.shape[1] // 128) + 1
    return cv2.blur(mask, (reach, reach))


@dataclass(frozen=True)
class Sensor:
    """What a camera makes of the light."""

    exposure: float  # mean of the linear picture
    balance: Color  # gains of R, G and B
    blur: float  # deviation, pixels at a width of 256
    gamma: float  # of the tone curve
    noise: float  # deviation, share of white


def draw_sensor(rng: np.random.Generator) -> Sensor:
    """Draw a camera."""
    r, g, b = rng.uniform(0.92, 1.08, 3).tolist()
    return Sensor(
        exposure=rng.uniform(0.3, 0.65),
        balance=(r, g, b),
        blur=rng.uniform(0.2, 0.9),
        gamma=rng.uniform(1.2, 2.2),
        noise=rng.uniform(0, 0.025),
    )


def expose(light: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    """
    Take the picture, with automatic exposure.

    :param light: (H, W, 3) float32, linear.
    :param rng: of the noise.
    :return: (H, W, 3) uint8, RGB.
    """
    exposure = sensor.exposure / max(float(light.mean()), 0.05)
    light = light * (exposure * np.array(sensor.balance, np.float32))
    light = cv2.GaussianBlur(light, (0, 0), sensor.blur * light.shape[1] / 256)
    picture = np.clip(light, 0, 1) ** np.float32(1 / sensor.gamma)
    picture += rng.standard_normal(light.shape, np.float32) * np.float32(sensor.noise)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
