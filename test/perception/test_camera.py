"""Rays: a pinhole by hand, lenses against OpenCV's projection, pixels kept where they look."""

from dataclasses import replace

import cv2
from dpt_ros.perception.camera import Camera
import numpy as np
import pytest

PINHOLE = Camera(640, 480, 500.0, 400.0, 310.0, 250.0)
POINT = np.array([0.3, -0.2, 2.0])  # metres, optical frame
# Coefficients as published for real cameras, or of their size.
LENSES = {
    'plumb_bob of a webcam': ('plumb_bob', (0.08, -0.2, 0.001, -0.0008, 0.1)),
    'plumb_bob of four': ('plumb_bob', (-0.28, 0.07, 0.0003, -0.0001)),
    'rational_polynomial of 8': (
        'rational_polynomial',
        (0.52, -2.65, 0.0006, -0.0003, 1.53, 0.40, -2.47, 1.46),
    ),
    'rational_polynomial of 12': (
        'rational_polynomial',
        (0.52, -2.65, 0.0006, -0.0003, 1.53, 0.40, -2.47, 1.46, 1e-3, -2e-3, 1e-3, 1e-3),
    ),
    'rational_polynomial of 14': (
        'rational_polynomial',
        (0.1, -0.2, 1e-3, -1e-3, 0.05, 0.1, -0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, -0.02),
    ),
    'equidistant': ('equidistant', (-0.008, 0.04, -0.038, 0.006)),
}


def pixel(camera: Camera, point: np.ndarray) -> np.ndarray:
    """Project by the pinhole formula, in pixels."""
    x, y, z = point
    return np.array([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy])


def project(camera: Camera, rays: np.ndarray) -> np.ndarray:
    """Project (..., 2) rays by OpenCV; (..., 2) pixels."""
    points = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1)
    points, still = points.reshape(-1, 1, 3).astype(np.float64), np.zeros(3)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    lens = np.array(camera.coefficients)
    if camera.distortion == 'equidistant':
        pixels, _ = cv2.fisheye.projectPoints(points, still, still, matrix, lens)
    else:
        pixels, _ = cv2.projectPoints(points, still, still, matrix, lens)
    return pixels.reshape(rays.shape)


def pixels_of(camera: Camera) -> np.ndarray:
    v, u = np.indices((camera.height, camera.width))
    return np.stack([u, v], axis=-1)


def test_rays_of_a_pinhole_are_its_formula():
    rays = PINHOLE.rays()
    assert (rays.shape, rays.dtype) == ((480, 640, 2), np.float32)
    np.testing.assert_allclose(rays[0, 0], [-310 / 500, -250 / 400], rtol=1e-6)
    np.testing.assert_allclose(rays[479, 639], [329 / 500, 229 / 400], rtol=1e-6)


def test_the_center_looks_straight_ahead():
    np.testing.assert_array_equal(PINHOLE.rays()[250, 310], [0, 0])


def test_x_points_right_and_y_down():
    rays = PINHOLE.rays()
    assert (np.diff(rays[..., 0], axis=1) > 0).all()
    assert (np.diff(rays[..., 1], axis=0) > 0).all()


@pytest.mark.parametrize('size', [(320, 240), (213, 160), (1280, 960), (100, 300)])
def test_resizing_keeps_the_edges_of_the_view(size: tuple[int, int]):
    resized = PINHOLE.resized(*size)
    for before, after in (((-0.5, -0.5), (-0.5, -0.5)), ((639.5, 479.5), np.subtract(size, 0.5))):
        point = np.array([(before[0] - 310) / 500, (before[1] - 250) / 400, 1.0])
        np.testing.assert_allclose(pixel(resized, point), after, atol=1e-9)


def test_a_point_moves_with_its_pixel_when_resized():
    u, v = pixel(PINHOLE, POINT)
    # Every second border between pixels stays: 2x2 pixels become the one in their middle.
    wanted = [(u + 0.5) / 2 - 0.5, (v + 0.5) / 2 - 0.5]
    np.testing.assert_allclose(pixel(PINHOLE.resized(320, 240), POINT), wanted)


def test_the_ray_of_a_merged_pixel_is_the_mean_of_its_four():
    rays = PINHOLE.rays().reshape(240, 2, 320, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(PINHOLE.resized(320, 240).rays(), rays, atol=1e-6)


def test_resizing_there_and_back_changes_nothing():
    back = PINHOLE.resized(213, 77).resized(640, 480)
    np.testing.assert_allclose(
        [back.fx, back.fy, back.cx, back.cy], [500, 400, 310, 250], rtol=1e-12
    )


def test_cropping_cuts_the_rays():
    part = PINHOLE.cropped(100, 50, 320, 200)
    assert (part.width, part.height) == (320, 200)
    np.testing.assert_allclose(part.rays(), PINHOLE.rays()[50:250, 100:420], atol=1e-6)


def test_a_resized_lens_bends_as_before():
    lens = replace(PINHOLE, distortion='plumb_bob', coefficients=(-0.28, 0.07, 3e-4, -1e-4, 0.0))
    rays = lens.rays().reshape(240, 2, 320, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(lens.resized(320, 240).rays(), rays, atol=1e-4)


@pytest.mark.parametrize(('distortion', 'coefficients'), LENSES.values(), ids=LENSES.keys())
def test_rays_of_a_lens_project_back_to_their_pixels(
    distortion: str, coefficients: tuple[float, ...]
):
    focal = 330.0 if distortion == 'equidistant' else 605.0
    camera = Camera(640, 480, focal, focal * 1.01, 321.3, 242.8, distortion, coefficients)
    np.testing.assert_allclose(project(camera, camera.rays()), pixels_of(camera), atol=1e-3)


def test_zero_coefficients_are_a_pinhole():
    lens = replace(PINHOLE, distortion='plumb_bob', coefficients=(0.0,) * 5)
    np.testing.assert_array_equal(lens.rays(), PINHOLE.rays())


@pytest.mark.parametrize(
    'camera',
    [
        pytest.param(
            Camera(640, 480, 140.0, 140.0, 319.5, 239.5, 'equidistant', (0.01, 0.0, 0.0, 0.0)),
            id='a fisheye sees behind itself',
        ),
        pytest.param(
            Camera(640, 480, 300.0, 300.0, 319.5, 239.5, 'plumb_bob', (-0.35, 0.08, 0, 0, 0)),
            id='a polynomial folds back',
        ),
    ],
)
def test_a_pixel_that_the_lens_model_cannot_explain_has_no_ray(camera: Camera):
    rays = camera.rays()
    known = np.isfinite(rays).all(axis=-1)
    assert known.mean() > 0.3
    np.testing.assert_allclose(project(camera, rays[known]), pixels_of(camera)[known], atol=0.1)


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        ({'fx': 0.0}, r'focal lengths 0, 400 and center 310, 250 sees nothing.*calibrate it'),
        ({'fy': -1.0}, r'focal lengths 500, -1 .*lengths must be positive'),
        ({'fx': np.nan}, r'focal lengths nan'),
        ({'fx': np.inf}, r'focal lengths inf.*all numbers finite'),
        ({'cx': np.inf}, r'center inf, 250.*all numbers finite'),
        ({'cy': np.nan}, r'center 310, nan.*all numbers finite'),
        (
            {'distortion': 'thin_prism', 'coefficients': (0.1,) * 5},
            r"'thin_prism' is not one of plumb_bob, rational_polynomial, equidistant: .*rectified",
        ),
        (
            {'distortion': 'plumb_bob', 'coefficients': (0.1,) * 3},
            r'plumb_bob takes 4 or 5 coefficients, got 3',
        ),
        (
            {'distortion': 'rational_polynomial', 'coefficients': (0.1,) * 5},
            r'rational_polynomial takes 8 or 12 or 14 coefficients, got 5',
        ),
        (
            {'distortion': 'equidistant', 'coefficients': ()},
            r'equidistant takes 4 coefficients, got 0',
        ),
        ({'distortion': 'plumb_bob', 'coefficients': (np.nan,) * 5}, r'finite'),
        ({'distortion': '', 'coefficients': (0.1, 0.2)}, r'distortion model'),
    ],
)
def test_what_is_no_camera_is_refused(change: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        replace(PINHOLE, **change)
