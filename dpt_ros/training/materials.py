"""
What surfaces look like: procedural textures, light, and what a camera makes of them.

One formula paints every surface: a grid of cells (tiles, planks, bricks, stripes) with joints,
cells of changing tint, grain over it and a band along the foot (a skirting board). Colors are
linear RGB in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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


NOISE = torch.from_numpy(np.pad(_tileable_noise(), (0, 1), mode='wrap'))  # the first repeated


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Look the noise up at (u, v), (B, H, W) float32, one repetition a unit; in [-1, 1]."""
    grid = torch.stack((u - u.floor(), v - v.floor()), dim=-1) * 2 - 1
    table = NOISE.to(u.device).expand(len(u), 1, -1, -1)
    return F.grid_sample(table, grid, padding_mode='border', align_corners=True)[:, 0]


def paint(materials: Tensor, u: Tensor, v: Tensor, foot: Tensor, texel: Tensor) -> Tensor:
    """
    Color surface points.

    :param materials: (B, H, W, 15) float32, `Material.row` of each point.
    :param u: (B, H, W) float32, place on the surface across, metres; `v` likewise along.
    :param foot: (B, H, W), height above the foot of the part, metres.
    :param texel: (B, H, W), metres that a pixel covers there; finer patterns fade out.
    :return: (B, H, W, 3) float32.
    """
    columns = materials[..., 6:].unbind(-1)
    across, along, bond, joint, checker, variation, grain, scale, band = columns
    row = (v / along).floor()
    u = u + bond * across * (row % 2)
    column = (u / across).floor()
    sharp = (0.6 * torch.minimum(across, along) / texel - 0.6).clamp(0, 1)
    in_cell = torch.minimum(u - column * across, v - row * along)
    second = checker * ((row + column) % 2) * sharp
    line = (in_cell < torch.maximum(joint, texel)) * (joint / texel).clamp(0, 1) * sharp
    second = torch.maximum(torch.maximum(second, line), (foot < band).float())[..., None]
    color = torch.lerp(materials[..., :3], materials[..., 3:6], second)
    tint = variation * sharp * noise(column * 0.37, row * 0.73)
    blur = (0.1 / (scale * texel)).clamp(0, 1)
    return color * (1 + tint + grain * blur * noise(u * scale, v * scale))[..., None]


def sky(direction: Sequence[Tensor], zenith: Tensor, clouds: Tensor, shift: Tensor) -> Tensor:
    """
    Color the sky.

    :param direction: x, y, z of the rays in the world, each (B, H, W).
    :param zenith: (B, 3), color straight up.
    :param clouds: (B,), their contrast.
    :param shift: (B,), moves the clouds.
    :return: (B, H, W, 3) float32.
    """
    x, y, z = direction
    up = (z / (x * x + y * y + z * z).sqrt()).clamp(0, 1)
    height = 0.25 / (up + 0.25)
    clouds, shift = clouds[:, None, None], shift[:, None, None]
    cover = clouds * (noise(x * height * 0.3 + shift, y * height * 0.3) + 0.2).clamp(0, 1)
    whitish = (height * 0.6 + cover).clamp(0, 1)[..., None]
    return torch.lerp(zenith[:, None, None], zenith.new_tensor((0.92, 0.94, 0.97)), whitish)


def soften(mask: Tensor) -> Tensor:
    """Blur the edges of a shadow mask (B, H, W) float32, over a hundredth of the width."""
    reach = max(1, mask.shape[2] // 128)
    return F.avg_pool2d(F.pad(mask, (reach,) * 4, mode='reflect'), 2 * reach + 1, stride=1)


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


@dataclass(frozen=True)
class Sensors:
    """The sensors of B pictures."""

    exposure: Tensor  # (B,)
    balance: Tensor  # (B, 3)
    kernel: Tensor  # (B, K), of the blur along either axis, K odd
    gamma: Tensor  # (B,)
    noise: Tensor  # (B,)

    def to(self, device: torch.device) -> 'Sensors':
        """Bring them to a device."""
        return Sensors(*(tensor.to(device) for tensor in vars(self).values()))


def gather(sensors: Sequence[Sensor], width: int) -> Sensors:
    """Lay sensors out for pictures of a width in pixels."""
    kernels = [_gaussian(sensor.blur * width / 256) for sensor in sensors]
    longest = max(map(len, kernels))
    padded = [np.pad(kernel, (longest - len(kernel)) // 2) for kernel in kernels]
    numbers = [[getattr(s, name) for s in sensors] for name in ('exposure', 'gamma', 'noise')]
    exposure, gamma, noise = torch.tensor(numbers)
    balance = torch.tensor([sensor.balance for sensor in sensors])
    kernel = torch.from_numpy(np.stack(padded).astype(np.float32))
    return Sensors(exposure, balance, kernel, gamma, noise)


def _gaussian(deviation: float) -> np.ndarray:
    """Return the weights of a blur, four deviations to each side."""
    return cv2.getGaussianKernel(round(8 * deviation + 1) | 1, deviation)[:, 0]


def expose(light: Tensor, sensors: Sensors, noise: Tensor) -> Tensor:
    """
    Take pictures, with automatic exposure.

    :param light: (B, H, W, 3) float32, linear.
    :param noise: (B, H, W, 3) float32 of deviation 1.
    :return: (B, H, W, 3) uint8, RGB.
    """
    exposure = sensors.exposure / light.mean(dim=(1, 2, 3)).clamp_min(0.05)
    light = light * (exposure[:, None] * sensors.balance)[:, None, None]
    picture = _blurred(light, sensors.kernel).clamp(0, 1)
    picture = picture ** (1 / sensors.gamma)[:, None, None, None]
    picture = picture + noise * sensors.noise[:, None, None, None]
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def _blurred(light: Tensor, kernel: Tensor) -> Tensor:
    """Blur each picture along both axes, its borders mirrored."""
    batch, height, width, colors = light.shape
    planes, reach = batch * colors, kernel.shape[1] // 2
    image = light.permute(0, 3, 1, 2).reshape(1, planes, height, width)
    weights = kernel.repeat_interleave(colors, dim=0)[:, None, None]  # (B * 3, 1, 1, K)
    image = F.conv2d(F.pad(image, (reach, reach, 0, 0), 'reflect'), weights, groups=planes)
    weights = weights.transpose(2, 3)
    image = F.conv2d(F.pad(image, (0, 0, reach, reach), 'reflect'), weights, groups=planes)
    return image.reshape(batch, colors, height, width).permute(0, 2, 3, 1)
