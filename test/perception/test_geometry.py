"""
From camera_info to cloud and back: lens, binning, region of interest and decimation together.

A plane is put before a camera whose lens is computed here, from the formulas of OpenCV's
documentation, and inverted by Newton's method. The network's answer is replaced by the depth of
that plane, and the cloud must lie on it and fall back on its own pixels.
"""

from collections.abc import Callable
from typing import Any

from dpt_ros.perception import networks, pipeline
from dpt_ros.perception.pipeline import Frame, Perception, Result
from dpt_ros.ros.messages import decode_camera, decode_info, encode_camera_info
from dpt_ros.ros.parameters import options, Parameters, read
from dpt_ros.zoo.store import load
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header
import torch

NORMAL, DISTANCE = np.array([0.12, -0.2, 0.97]), 4.0  # of the plane: NORMAL . point = DISTANCE
PERCEPTION = Perception(
    load('dpt_tiny'), None, device=torch.device('cpu'), dtype=torch.float32, network_side=32
)
# As published for real cameras, or of their size.
LENSES = {
    'pinhole': ('plumb_bob', [0.0] * 5),
    'plumb_bob': ('plumb_bob', [-0.28, 0.07, 0.0003, -0.0001, 0.01]),
    'rational_polynomial': (
        'rational_polynomial',
        [0.52, -2.65, 0.0006, -0.0003, 1.53, 0.40, -2.47, 1.46],
    ),
    'rational_polynomial, thin prism': (
        'rational_polynomial',
        [0.52, -2.65, 6e-4, -3e-4, 1.53, 0.40, -2.47, 1.46, 1e-3, -2e-3, 1e-3, 1e-3],
    ),
    'equidistant': ('equidistant', [-0.008, 0.04, -0.038, 0.006]),
}


def bend(distortion: str, d: list[float], xy: np.ndarray) -> np.ndarray:
    """Distort rays (..., 2), x / z and y / z, by OpenCV's published formulas."""
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    if distortion == 'equidistant':
        r = np.sqrt(r2)
        angle = np.arctan(r)
        bent = angle * (1 + sum(k * angle ** (2 * i + 2) for i, k in enumerate(d)))
        return xy * np.where(r > 1e-12, bent / np.maximum(r, 1e-12), 1.0)[..., None]
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = [*d, *[0.0] * (12 - len(d))]
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2**2
    v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2
    return np.stack([u, v], axis=-1)


def straighten(lens: Callable[[np.ndarray], np.ndarray], bent: np.ndarray) -> np.ndarray:
    """Invert a lens by Newton's method with differences for derivatives."""
    xy, step = bent.copy(), 1e-6
    for _ in range(30):
        jacobian = np.stack(
            [(lens(xy + step * e) - lens(xy - step * e)) / (2 * step) for e in np.eye(2)], axis=-1
        )
        xy = xy - np.linalg.solve(jacobian, (lens(xy) - bent)[..., None])[..., 0]
    assert np.abs(lens(xy) - bent).max() < 1e-12
    return xy


def info_of(
    lens: str = 'pinhole',
    sensor: tuple[int, int] = (160, 121),
    binning: tuple[int, int] = (1, 1),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> CameraInfo:
    """Describe a camera of some sensor; its rectified image has other numbers than the raw one."""
    model, d = LENSES[lens]
    width, height = sensor
    x, y = width / 2 + 1.3, height / 2 - 2.1
    return CameraInfo(
        width=width,
        height=height,
        distortion_model=model,
        d=d,
        k=[0.8 * width, 0.0, x, 0.0, 0.82 * width, y, 0.0, 0.0, 1.0],
        p=[0.7 * width, 0.0, x + 2, -9.0, 0.0, 0.71 * width, y - 1, 0.0, 0.0, 0.0, 1.0, 0.0],
        binning_x=binning[0],
        binning_y=binning[1],
        roi=RegionOfInterest(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3]),
    )


def image_size(info: CameraInfo) -> tuple[int, int]:
    """Return width and height of the image that a driver sends with an info."""
    width, height = info.roi.width or info.width, info.roi.height or info.height
    return width // max(info.binning_x, 1), height // max(info.binning_y, 1)


def sensor_pixels(info: CameraInfo, size: tuple[int, int]) -> np.ndarray:
    """Return where on the whole sensor the centers of maps of a size lie, (H, W, 2) pixels."""
    edges = [
        offset + np.arange(count + 1) * (pixels / count * max(binning, 1))
        for offset, pixels, count, binning in (
            (info.roi.x_offset, image_size(info)[0], size[0], info.binning_x),
            (info.roi.y_offset, image_size(info)[1], size[1], info.binning_y),
        )
    ]
    across, down = ((e[:-1] + e[1:]) / 2 - 0.5 for e in edges)  # pixel 0 reaches from -0.5 to 0.5
    return np.stack(np.meshgrid(across, down), axis=-1)


def true_rays(info: CameraInfo, use: str, pixels: np.ndarray) -> np.ndarray:
    """Return the rays (H, W, 3), z = 1, of pixels of the whole sensor."""
    fx, cx, fy, cy = np.array(info.k)[[0, 2, 4, 5]]
    if use == 'P':
        fx, cx, fy, cy = np.array(info.p)[[0, 2, 5, 6]]
    bent = (pixels - (cx, cy)) / (fx, fy)
    model, d = info.distortion_model, list(info.d)
    straight = bent
    if use == 'K' and any(d):
        straight = straighten(lambda xy: bend(model, d, xy), bent)
    return np.concatenate([straight, np.ones((*bent.shape[:2], 1))], axis=-1)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, CameraInfo]]:
    """Have the plane perceived by the real pipeline; return result and the info told with it."""

    def run(info: CameraInfo, use: str = 'K', decimation: int = 1) -> tuple[Result, CameraInfo]:
        width, height = image_size(info)
        size = max(1, width // decimation), max(1, height // decimation)
        rays = true_rays(info, use, sensor_pixels(info, size))
        depth = torch.from_numpy((DISTANCE / (rays @ NORMAL)).astype(np.float32))
        raw = {'raw depth': torch.zeros(1, 4, 4)}
        monkeypatch.setattr(networks.Networks, '_run', lambda *given: given[-1] | raw)
        monkeypatch.setattr(networks, 'depth_of_weights', lambda *_: depth[None].clone())
        calibration = decode_info(info)
        camera = decode_camera(calibration, width, height, use)
        frame = Frame('', None, np.zeros((height, width, 3), np.uint8), camera)
        chosen: dict[str, Any] = {'output.decimation': decimation, 'depth.edge_angle': 0.0}
        (result,) = PERCEPTION([frame], {'points'}, options(read(chosen)))
        assert (result.width, result.height) == size
        return result, encode_camera_info(Header(), calibration, (width, height), size)

    return run


@pytest.mark.parametrize('decimation', [1, 3])
@pytest.mark.parametrize('lens', LENSES)
def test_the_cloud_of_a_plane_lies_on_it_through_every_lens(look, lens: str, decimation: int):
    result, _ = look(info_of(lens), 'K', decimation)
    points = result.products['points'][..., :3].astype(float)
    np.testing.assert_allclose(points @ NORMAL, DISTANCE, rtol=1e-4)


GEOMETRIES = {
    'even': {'sensor': (160, 120)},
    'odd': {'sensor': (161, 119)},
    'binned': {'sensor': (322, 242), 'binning': (2, 2)},
    'binned, not dividing': {'sensor': (323, 244), 'binning': (2, 3)},
    'a region': {'sensor': (320, 240), 'roi': (37, 21, 150, 110)},
    'a region, binned': {'sensor': (641, 481), 'roi': (37, 21, 301, 203), 'binning': (2, 2)},
}


@pytest.mark.parametrize('use', ['K', 'P'])
@pytest.mark.parametrize('geometry', GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_the_cloud_falls_back_on_its_pixels_at_every_decimation(look, geometry: dict, use: str):
    for decimation in range(1, 17):
        result, told = look(info_of(**geometry), use, decimation)
        matrix = np.reshape(told.k, (3, 3)) if use == 'K' else np.reshape(told.p, (3, 4))[:, :3]
        projected = result.products['points'][..., :3].astype(float) @ matrix.T
        v, u = np.indices((told.height, told.width))
        np.testing.assert_allclose(projected[..., 0] / projected[..., 2], u, atol=1e-3)
        np.testing.assert_allclose(projected[..., 1] / projected[..., 2], v, atol=1e-3)


@pytest.mark.parametrize('geometry', GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_every_decimation_sees_the_plane_where_the_whole_sensor_does(look, geometry: dict):
    for decimation in range(1, 17):
        result, _ = look(info_of(**geometry), 'K', decimation)
        points = result.products['points'][..., :3].astype(float)
        np.testing.assert_allclose(points @ NORMAL, DISTANCE, rtol=1e-4)


@pytest.mark.parametrize('lens', LENSES)
def test_the_lens_that_is_told_brings_the_cloud_to_its_pixels(look, lens: str):
    result, told = look(info_of(lens, roi=(10, 6, 141, 101)), 'K', 3)
    points = result.products['points'][..., :3].astype(float)
    bent = bend(told.distortion_model, list(told.d), points[..., :2] / points[..., 2:])
    v, u = np.indices((told.height, told.width))
    np.testing.assert_allclose(bent[..., 0] * told.k[0] + told.k[2], u, atol=1e-3)
    np.testing.assert_allclose(bent[..., 1] * told.k[4] + told.k[5], v, atol=1e-3)


def test_rays_are_computed_once_for_a_camera_and_once_more_when_it_changes(
    monkeypatch: pytest.MonkeyPatch,
):
    calls, rays = [], pipeline.Camera.rays
    monkeypatch.setattr(pipeline.Camera, 'rays', lambda c: calls.append(c) or rays(c))
    pixels, chosen = np.zeros((120, 160, 3), np.uint8), options(Parameters())
    for lens in ('plumb_bob', 'plumb_bob', 'equidistant', 'plumb_bob', 'equidistant'):
        camera = decode_camera(decode_info(info_of(lens, (160, 120))), 160, 120, 'K')
        PERCEPTION([Frame('', None, pixels, camera)], {'points'}, chosen)
    assert [camera.distortion for camera in calls] == ['plumb_bob', 'equidistant']
