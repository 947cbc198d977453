"""
Messages against what others write and read.

Images are encoded here by hand, from the definitions of sensor_msgs/image_encodings and BT.601;
clouds are read back with the `pointcloud2` of PyPI; bytes with the CDR reader of `rosbags`.
"""

from array import array
from collections.abc import Callable
import importlib.util
import struct
from typing import Any

import cv2
from dpt_ros.perception.points import pack_points
from dpt_ros.ros import messages
from dpt_ros.ros.messages import (
    Calibration,
    decode_camera,
    decode_compressed,
    decode_depth,
    decode_image,
    decode_info,
    encode_camera_info,
    encode_image,
    encode_points,
    rectified,
)
import numpy as np
from pointcloud2 import read_points
import pytest
from rclpy.serialization import serialize_message
from rosbags.typesys import get_typestore, Stores
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
import torch

WIDTH, HEIGHT = 14, 10
HEADER = Header(frame_id='camera_optical_frame')
HEADER.stamp.sec, HEADER.stamp.nanosec = 1700000000, 123456789
STORE = get_typestore(Stores.ROS2_HUMBLE)
NO_CV_BRIDGE = pytest.mark.skipif(
    importlib.util.find_spec('cv_bridge') is not None, reason='cv_bridge reads more encodings'
)

random = np.random.default_rng(0)
RGB = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GRAY = np.repeat(RGB[..., :1], 3, axis=2)
ALPHA = random.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
BGR, RGBA = RGB[..., ::-1], np.concatenate([RGB, ALPHA], axis=2)
BGRA = np.concatenate([BGR, ALPHA], axis=2)
# Formats with fewer color samples than pixels see only what they can hold: 2x2 pixels of a color.
BLOCKS = RGB[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
FLAT = np.full_like(RGB, (200, 90, 30))


def wide(values: np.ndarray) -> np.ndarray:
    """Stretch 0..255 over 16 bits, a little off, such that rounding finds the way back."""
    off = np.resize(np.arange(-120, 120, 7), values.shape)  # of the 257 steps between two values
    return np.clip(values * 257.0 + off, 0, 65535).astype(np.uint16)


def mosaic(pattern: str, rgb: np.ndarray) -> np.ndarray:
    """Look at an image through a Bayer filter: `pattern` is its first four, row by row."""
    seen = np.empty(rgb.shape[:2], rgb.dtype)
    for place, color in enumerate(pattern):
        row, column = divmod(place, 2)
        seen[row::2, column::2] = rgb[row::2, column::2, 'rgb'.index(color)]
    return seen


def yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert by ITU-R BT.601, limited range, to three planes."""
    r, g, b = np.moveaxis(rgb / 255.0, -1, 0)
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u = 128 - 37.797 * r - 74.203 * g + 112.0 * b
    v = 128 + 112.0 * r - 93.786 * g - 18.214 * b
    y, u, v = (np.round(plane).astype(np.uint8) for plane in (y, u, v))
    return y, u, v


def packed_yuv(order: str) -> np.ndarray:
    """Interleave two pixels as four bytes in the order of a FOURCC, such as 'uyvy'."""
    y, u, v = yuv(BLOCKS)
    parts = {'u': u[:, ::2], 'v': v[:, ::2]}
    brightness = [y[:, ::2], y[:, 1::2]]
    planes = [parts[letter] if letter != 'y' else brightness.pop(0) for letter in order]
    return np.stack(planes, axis=-1).reshape(HEIGHT, -1)


def planes(order: str, step: int, subsampled: bool) -> bytes:
    """Lay out brightness, then pairs of color, in rows of `step` bytes (V4L2's NV formats)."""
    rgb = BLOCKS if subsampled else RGB
    y, u, v = yuv(rgb)
    every = 2 if subsampled else 1
    pairs = {'u': u[::every, ::every], 'v': v[::every, ::every]}
    color = np.stack([pairs[letter] for letter in order], axis=-1).reshape(HEIGHT // every, -1)
    # A row of NV24's colors has twice the bytes of a row of brightness, and so has its step.
    color_step = step if subsampled else 2 * step
    return padded(y, step) + padded(color, color_step)


def padded(rows: np.ndarray, step: int) -> bytes:
    """Lengthen each row to `step` bytes with what is no picture."""
    data = rows.reshape(len(rows), -1).view(np.uint8)
    out = np.full((len(rows), step), 0xA5, np.uint8)
    out[:, : data.shape[1]] = data
    return out.tobytes()


# encoding -> the values of its message, what it shows, and how far rounding may take that.
PACKED: dict[str, tuple[np.ndarray, np.ndarray, int]] = {
    'rgb8': (RGB, RGB, 0),
    'rgba8': (RGBA, RGB, 0),
    'bgr8': (BGR, RGB, 0),
    'bgra8': (BGRA, RGB, 0),
    'mono8': (GRAY[..., 0], GRAY, 0),
    'rgb16': (wide(RGB), RGB, 0),
    'rgba16': (wide(RGBA), RGB, 0),
    'bgr16': (wide(BGR), RGB, 0),
    'bgra16': (wide(BGRA), RGB, 0),
    'mono16': (wide(GRAY[..., 0]), GRAY, 0),
    '8UC1': (GRAY[..., 0], GRAY, 0),
    '8UC3': (BGR, RGB, 0),
    '8UC4': (BGRA, RGB, 0),
    '16UC1': (wide(GRAY[..., 0]), GRAY, 0),
    '16UC3': (wide(BGR), RGB, 0),
    '16UC4': (wide(BGRA), RGB, 0),
    **{
        f'bayer_{pattern}{bits}': (stretch(mosaic(pattern, FLAT)), FLAT, 0)
        for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')
        for bits, stretch in ((8, np.uint8), (16, wide))
    },
    'yuv422': (packed_yuv('uyvy'), BLOCKS, 4),
    'uyvy': (packed_yuv('uyvy'), BLOCKS, 4),
    'yuv422_yuy2': (packed_yuv('yuyv'), BLOCKS, 4),
    'yuyv': (packed_yuv('yuyv'), BLOCKS, 4),
}
PLANAR: dict[str, tuple[Callable[[int], bytes], np.ndarray, int]] = {
    'nv12': (lambda step: planes('uv', step, True), BLOCKS, 4),
    'nv21': (lambda step: planes('vu', step, True), BLOCKS, 4),
    'nv24': (lambda step: planes('uv', step, False), RGB, 4),
}


def image(encoding: str, data: bytes, step: int, big: bool = False) -> Image:
    return Image(
        header=HEADER,
        width=WIDTH,
        height=HEIGHT,
        encoding=encoding,
        is_bigendian=int(big),
        step=step,
        data=array('B', data),
    )


def packed_image(encoding: str, padding: int = 0, big: bool = False) -> Image:
    values = np.ascontiguousarray(PACKED[encoding][0])
    if values.itemsize == 2:
        values = values.astype('>u2' if big else '<u2')
    step = values.nbytes // HEIGHT + padding
    return image(encoding, padded(values, step), step, big)


def checked(message: Any) -> None:
    """Have every field looked at, as ROS_PYTHON_CHECK_FIELDS=1 does."""
    message._check_fields = True
    for field in message.get_fields_and_field_types():
        value = getattr(message, field)
        setattr(message, field, value)


def test_every_encoding_that_is_read_is_tested():
    assert set(PACKED) == set(messages._PACKED)
    assert set(PLANAR) == set(messages._PLANAR)


@pytest.mark.parametrize('padding', [0, 5, 6])
@pytest.mark.parametrize('encoding', PACKED)
def test_packed_pixels_are_read_as_they_look(encoding: str, padding: int):
    _, wanted, rounding = PACKED[encoding]
    pixels = decode_image(packed_image(encoding, padding))
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_allclose(pixels.astype(int), wanted, atol=rounding)


@pytest.mark.skipif(
    importlib.util.find_spec('cv_bridge') is None, reason='comes with ROS, not as a wheel'
)
@pytest.mark.parametrize(
    'encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'rgb16', 'bgr16', 'mono16']
)
def test_cv_bridge_sees_the_same_picture(encoding: str):
    from cv_bridge import CvBridge

    message = packed_image(encoding, padding=24)  # whole pixels, else cv_bridge misreads rows
    seen = CvBridge().imgmsg_to_cv2(message, 'rgb8').astype(int)
    np.testing.assert_allclose(decode_image(message), seen, atol=1)


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', [name for name in PACKED if '16' in name])
def test_big_endian_pixels_are_read_as_they_look(encoding: str, padding: int):
    pixels = decode_image(packed_image(encoding, padding, big=True))
    np.testing.assert_array_equal(pixels, PACKED[encoding][1])


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', 'bayer_rggb8', 'yuv422'])
def test_endianness_means_nothing_to_bytes(encoding: str):
    plain, marked = packed_image(encoding), packed_image(encoding)
    marked.is_bigendian = 1
    np.testing.assert_array_equal(decode_image(marked), decode_image(plain))


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', PLANAR)
def test_planes_are_read_as_they_look(encoding: str, padding: int):
    layout, wanted, rounding = PLANAR[encoding]
    pixels = decode_image(image(encoding, layout(WIDTH + padding), WIDTH + padding))
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_allclose(pixels.astype(int), wanted, atol=rounding)


@pytest.mark.parametrize('encoding', [name for name in PACKED if 'bayer' in name])
def test_a_gradient_survives_the_mosaic(encoding: str):
    v, u = np.indices((HEIGHT, WIDTH))
    rgb = np.stack([10 * u + 40, 12 * v + 30, 200 - 8 * u], axis=-1).astype(np.uint8)
    seen = mosaic(encoding[6:10], rgb)
    values = seen if encoding.endswith('8') else wide(seen)
    step = values.nbytes // HEIGHT
    pixels = decode_image(image(encoding, values.tobytes(), step)).astype(int)
    np.testing.assert_allclose(pixels[2:-2, 2:-2], rgb[2:-2, 2:-2], atol=2)


@pytest.mark.parametrize(
    ('value', 'wanted'), [(0, 0), (128, 0), (129, 1), (32896, 128), (65406, 254), (65535, 255)]
)
def test_16_bits_are_rounded_to_8(value: int, wanted: int):
    pixels = np.full((HEIGHT, WIDTH), value, '<u2')
    assert (decode_image(image('mono16', pixels.tobytes(), 2 * WIDTH)) == wanted).all()


@pytest.mark.parametrize('padding', [0, 5])
def test_an_rgb8_image_is_not_copied(padding: int):
    message = packed_image('rgb8', padding)
    assert np.shares_memory(decode_image(message), np.frombuffer(message.data, np.uint8))


def test_padding_of_the_last_row_may_be_missing():
    message = packed_image('rgb8', 6)
    message.data = message.data[:-6]
    np.testing.assert_array_equal(decode_image(message), RGB)


def test_bytes_after_the_image_do_not_matter():
    message = packed_image('bgr8')
    message.data.extend(bytes(100))
    np.testing.assert_array_equal(decode_image(message), RGB)


@pytest.mark.parametrize('encoding', ['mono8', 'rgb8', 'bgr16', 'nv24'])
def test_an_image_of_one_pixel_is_read(encoding: str):
    data = array('B', bytes(6))
    step = 1 if encoding == 'nv24' else 6
    message = Image(width=1, height=1, encoding=encoding, step=step, data=data)
    assert decode_image(message).shape == (1, 1, 3)


def test_an_image_of_another_reader_is_read():
    # rosbags gives NumPy arrays that must not be written to.
    message = STORE.deserialize_cdr(serialize_message(packed_image('bgr8', 5)), IMAGE_TYPE)
    np.testing.assert_array_equal(decode_image(message), RGB)


IMAGE_TYPE = 'sensor_msgs/msg/Image'


def change(encoding: str = 'rgb8', **fields: Any) -> Image:
    """Give an image with something wrong in it."""
    message = image(encoding, bytes(WIDTH * HEIGHT * 8), WIDTH * 8)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ('message', 'complaint'),
    [
        (change(width=0), r'an image of 0x10 has no pixels'),
        (change('nv12', height=0), r'an image of 14x0 has no pixels'),
        (
            change(step=41),
            r'14x10 rgb8 needs rows of 42 bytes but says step 41: the driver fills the message',
        ),
        (change('rgba16', step=WIDTH * 4), r'14x10 rgba16 needs rows of 112 bytes .* step 56'),
        (change('nv12', step=13), r'14x10 nv12 needs rows of 14 bytes but says step 13'),
        (
            change(step=42, data=array('B', bytes(419))),
            r'14x10 rgb8, step 42, needs 420 bytes but carries 419: it was cut short',
        ),
        (change(data=array('B')), r'14x10 rgb8, step 112, needs 1050 bytes but carries 0'),
        (
            change('nv21', step=14, data=array('B', bytes(209))),
            r'14x10 nv21, step 14, needs 210 bytes but carries 209',
        ),
        (
            change('nv24', step=14, data=array('B', bytes(419))),
            r'14x10 nv24, step 14, needs 420 bytes but carries 419',
        ),
        (change('nv12', width=13), r'13x10 cannot be nv12.*two by two.*both sides must be even'),
        (change('nv21', height=9), r'14x9 cannot be nv21.*two by two.*both sides must be even'),
        (change('yuv422', width=13), r'13x10 yuv422 cannot be converted to RGB.*sides even'),
        (change('yuyv', width=13), r'13x10 yuyv cannot be converted to RGB.*sides even'),
    ],
)
def test_an_image_that_does_not_hold_is_refused(message: Image, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        decode_image(message)


@NO_CV_BRIDGE
@pytest.mark.parametrize('encoding', ['32FC1', 'RGB8', '', 'jpeg', '8UC2', 'yuv420'])
def test_an_unknown_encoding_is_refused_with_all_that_are_known(encoding: str):
    with pytest.raises(ValueError, match=f"cannot read an image of encoding '{encoding}'") as why:
        decode_image(change(encoding))
    assert all(name in str(why.value) for name in [*PACKED, *PLANAR])
    assert 'image_proc' in str(why.value) and 'cv_bridge' in str(why.value)


def compressed(extension: str, pixels: np.ndarray) -> CompressedImage:
    """Compress RGB pixels with OpenCV."""
    _, data = cv2.imencode(extension, pixels[..., ::-1])
    return CompressedImage(format=extension[1:], data=array('B', data.tobytes()))


def test_a_png_is_read_exactly():
    np.testing.assert_array_equal(decode_compressed(compressed('.png', RGB)), RGB)


def test_a_jpeg_is_read_with_its_colors_in_order():
    pixels = decode_compressed(compressed('.jpg', FLAT)).astype(int)
    np.testing.assert_allclose(pixels, FLAT, atol=4)


def test_a_gray_jpeg_becomes_three_channels():
    _, data = cv2.imencode('.jpg', np.full((8, 8), 77, np.uint8))
    message = CompressedImage(format='mono8; jpeg compressed ', data=array('B', data.tobytes()))
    assert (np.abs(decode_compressed(message).astype(int) - 77) <= 1).all()


def test_a_jpeg_is_not_turned_as_a_photograph_would_be():
    # The pixels of a camera lie as its camera_info says, whatever EXIF tells a viewer.
    data = compressed('.jpg', FLAT).data.tobytes()
    turned = b'MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    exif = b'Exif\0\0' + turned
    data = data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + data[2:]
    message = CompressedImage(format='jpeg', data=array('B', data))
    assert decode_compressed(message).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
def test_a_truncated_picture_is_refused(extension: str):
    message = compressed(extension, random.integers(0, 256, (64, 64, 3), np.uint8))
    message.data = message.data[: len(message.data) // 2]
    with pytest.raises(ValueError, match=f'{len(message.data)} bytes.*is no whole JPEG or PNG'):
        decode_compressed(message)


def test_an_empty_picture_is_refused():
    with pytest.raises(ValueError, match=r"of 0 bytes, format 'jpeg', is no whole JPEG or PNG"):
        decode_compressed(CompressedImage(format='jpeg'))


def test_a_depth_image_of_a_transport_is_refused_with_the_way_out():
    message = CompressedImage(format='32FC1; compressedDepth', data=array('B', bytes(200)))
    with pytest.raises(ValueError, match=r'compressedDepth.*set image_transport: raw'):
        decode_compressed(message)


# The test camera: a raw image of 640x480 whose rectified one has other numbers and a baseline.
K = [500.0, 0.0, 310.0, 0.0, 510.0, 250.0, 0.0, 0.0, 1.0]
P = [450.0, 0.0, 315.0, -45.0, 0.0, 460.0, 245.0, 23.0, 0.0, 0.0, 1.0, 0.5]
D = [-0.2, 0.05, 0.001, -0.001, 0.0]
R = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0]
POINT = np.array([0.3, -0.2, 2.0])


def info(**fields: Any) -> CameraInfo:
    values = {'width': 640, 'height': 480, 'distortion_model': 'plumb_bob'}
    return CameraInfo(**{**values, 'd': D, 'k': K, 'r': R, 'p': P, **fields})


def calibration(**fields: Any) -> Calibration:
    return decode_info(info(**fields))


def by_k(message: CameraInfo) -> np.ndarray:
    u, v, w = np.reshape(message.k, (3, 3)) @ POINT
    return np.array([u / w, v / w])


def by_p(message: CameraInfo) -> np.ndarray:
    u, v, w = np.reshape(message.p, (3, 4)) @ [*POINT, 0.0 if message.p[11] else 1.0]
    return np.array([u / w, v / w])


def test_a_raw_image_obeys_k_and_its_lens():
    camera = decode_camera(calibration(), 640, 480, 'K')
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 310, 250)
    assert (camera.width, camera.height) == (640, 480)
    assert (camera.distortion, camera.coefficients) == ('plumb_bob', tuple(D))


def test_a_rectified_image_obeys_p_and_has_no_lens():
    camera = decode_camera(calibration(), 640, 480, 'P')
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (450, 460, 315, 245)
    assert (camera.distortion, camera.coefficients) == ('', ())


def test_the_info_of_a_rectified_image_says_the_same_in_k_and_p():
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=320, height=240)
    given = calibration(roi=roi, binning_x=2, binning_y=2)
    told = rectified(given)
    checked(encode_camera_info(HEADER, told, (160, 120), (160, 120)))
    np.testing.assert_array_equal(np.reshape(told.k, (3, 3)), np.reshape(P, (3, 4))[:, :3])
    np.testing.assert_array_equal(np.reshape(told.r, (3, 3)), np.eye(3))
    assert not any(told.d)
    assert list(told.p) == P
    assert decode_camera(told, 160, 120, 'K') == decode_camera(given, 160, 120, 'P')


def test_a_camera_without_p_has_no_rectified_image():
    assert decode_camera(rectified(calibration(p=[0.0] * 12)), 640, 480, 'K') is None


@pytest.mark.parametrize('model', ['', 'thin_prism'])
def test_a_lens_without_distortion_needs_no_model(model: str):
    camera = decode_camera(calibration(distortion_model=model, d=[0.0] * 5), 640, 480, 'K')
    assert camera.distortion == ''


def test_a_lens_of_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match=r"'thin_prism' is not one of plumb_bob, .*rectified"):
        decode_camera(calibration(distortion_model='thin_prism'), 640, 480, 'K')


def test_a_lens_without_a_model_is_refused():
    with pytest.raises(ValueError, match='distortion'):
        decode_camera(calibration(distortion_model=''), 640, 480, 'K')


@pytest.mark.parametrize(('use', 'field'), [('K', 'k'), ('P', 'p')])
def test_what_is_not_calibrated_is_no_camera(use: str, field: str):
    blank = {'k': [0.0] * 9, 'p': [0.0] * 12}[field]
    assert decode_camera(calibration(**{field: blank}), 640, 480, use) is None


@pytest.mark.parametrize(('use', 'field'), [('P', 'k'), ('K', 'p')])
def test_a_camera_needs_only_the_matrix_that_it_uses(use: str, field: str):
    blank = {'k': [0.0] * 9, 'p': [0.0] * 12}[field]
    assert decode_camera(calibration(**{field: blank}), 640, 480, use) is not None


@pytest.mark.parametrize('use', ['K', 'P'])
def test_binning_halves_the_image_edge_to_edge(use: str):
    camera = decode_camera(calibration(binning_x=2, binning_y=4), 320, 120, use)
    whole = decode_camera(calibration(), 640, 480, use)
    x, y = (whole.cx + 0.5) / 2 - 0.5, (whole.cy + 0.5) / 4 - 0.5
    wanted = [whole.fx / 2, whole.fy / 4, x, y]
    np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy], wanted)


def test_a_region_of_interest_moves_the_center():
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=320, height=240)
    camera = decode_camera(calibration(roi=roi), 320, 240, 'K')
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 210, 200)


def test_a_region_of_interest_is_cut_before_it_is_binned():
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=320, height=240)
    camera = decode_camera(calibration(roi=roi, binning_x=2, binning_y=2), 160, 120, 'K')
    wanted = [250, 255, (210 + 0.5) / 2 - 0.5, (200 + 0.5) / 2 - 0.5]
    np.testing.assert_allclose([camera.fx, camera.fy, camera.cx, camera.cy], wanted)


@pytest.mark.parametrize(
    ('message', 'size'),
    [
        (info(), '640x480'),
        (info(binning_x=2, binning_y=2), '320x240'),
        (info(roi=RegionOfInterest(width=100, height=80)), '100x80'),
    ],
)
def test_an_info_of_another_image_is_refused(message: CameraInfo, size: str):
    complaint = f'camera_info is of {size} pixels but the image of 64x48: remap camera_info'
    with pytest.raises(ValueError, match=complaint):
        decode_camera(decode_info(message), 64, 48, 'K')


def test_an_info_of_no_sense_is_refused():
    with pytest.raises(ValueError, match=r'focal lengths 500, 0 .*sees nothing'):
        decode_camera(
            calibration(k=[500.0, 0.0, 310.0, 0.0, 0.0, 250.0, 0.0, 0.0, 1.0]), 640, 480, 'K'
        )


@pytest.mark.parametrize(
    ('pixels', 'encoding', 'step'),
    [
        (RGB, 'rgb8', 3 * WIDTH),
        (GRAY[..., 0], 'mono8', WIDTH),
        (np.arange(140, dtype=np.uint16).reshape(10, 14) * 400, '16UC1', 2 * WIDTH),
        (np.linspace(-1, 1, 140, dtype=np.float32).reshape(10, 14), '32FC1', 4 * WIDTH),
    ],
)
def test_an_image_carries_its_array(pixels: np.ndarray, encoding: str, step: int):
    message = encode_image(HEADER, pixels, encoding)
    checked(message)
    assert message.header is HEADER
    assert (message.width, message.height) == (WIDTH, HEIGHT)
    assert (message.encoding, message.step, message.is_bigendian) == (encoding, step, 0)
    assert bytes(message.data) == pixels.tobytes()
    read = STORE.deserialize_cdr(serialize_message(message), IMAGE_TYPE)
    assert bytes(read.data) == pixels.tobytes()
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (1700000000, 123456789)
    assert read.header.frame_id == 'camera_optical_frame'


def test_an_array_with_gaps_is_closed_up():
    message = encode_image(HEADER, RGB[::2, ::2, ::-1], 'bgr8')
    assert (message.width, message.height, message.step) == (7, 5, 21)
    np.testing.assert_array_equal(decode_image(message), RGB[::2, ::2])


def test_data_is_of_the_type_that_rosidl_does_not_look_through():
    assert isinstance(encode_image(HEADER, RGB, 'rgb8').data, array)


def cloud_points(height: int, width: int) -> np.ndarray:
    depth = torch.linspace(1, 5, height * width).reshape(height, width)
    rays = torch.linspace(-1, 1, 2 * height * width).reshape(2, height, width)
    labels = torch.arange(height * width).reshape(height, width)
    colors = torch.from_numpy(RGB[:height, :width].copy())
    return pack_points(depth, rays, colors, labels, depth / 5).numpy()


def fields_of(message: Any) -> dict[str, tuple[int, int, int]]:
    return {field.name: (field.offset, field.datatype, field.count) for field in message.fields}


# depth_image_proc's setPointCloud2FieldsByString(2, "xyz", "rgb"); 7 is FLOAT32, 6 UINT32.
XYZRGB = {'x': (0, 7, 1), 'y': (4, 7, 1), 'z': (8, 7, 1), 'rgb': (16, 7, 1)}


def test_a_cloud_has_the_layout_of_depth_image_proc():
    message = encode_points(HEADER, cloud_points(4, 5), labels=False)
    checked(message)
    assert message.header is HEADER
    assert fields_of(message) == XYZRGB
    assert (message.height, message.width) == (4, 5)
    assert (message.point_step, message.row_step) == (32, 160)
    assert (message.is_bigendian, message.is_dense) == (False, False)
    assert len(message.data) == 640


def test_label_and_confidence_are_two_fields_more():
    message = encode_points(HEADER, cloud_points(4, 5), labels=True)
    assert fields_of(message) == {**XYZRGB, 'label': (20, 6, 1), 'confidence': (24, 7, 1)}


def test_a_cloud_is_read_by_another_reader():
    points = cloud_points(4, 5)
    read = read_points(encode_points(HEADER, points, labels=True)).reshape(4, 5)
    for index, name in enumerate(('x', 'y', 'z')):
        np.testing.assert_array_equal(read[name], points[..., index])
    np.testing.assert_array_equal(read['label'], np.arange(20).reshape(4, 5))
    np.testing.assert_array_equal(read['confidence'], points[..., 2] / np.float32(5))
    color = np.ascontiguousarray(read['rgb']).view(np.uint32)
    np.testing.assert_array_equal(color >> 16, RGB[:4, :5, 0])
    np.testing.assert_array_equal(color >> 8 & 255, RGB[:4, :5, 1])
    np.testing.assert_array_equal(color & 255, RGB[:4, :5, 2])


def test_a_compact_cloud_is_one_row_without_gaps():
    message = encode_points(HEADER, cloud_points(4, 5).reshape(-1, 8)[:7], labels=True)
    checked(message)
    assert (message.height, message.width, message.row_step) == (1, 7, 224)
    assert message.is_dense is True
    assert len(read_points(message)) == 7


def test_a_compact_cloud_may_be_empty():
    message = encode_points(HEADER, np.zeros((0, 8), np.float32), labels=True)
    checked(message)
    assert (message.height, message.width, message.row_step) == (1, 0, 0)
    assert len(message.data) == 0


def test_a_cloud_survives_the_wire():
    points = cloud_points(4, 5)
    message = encode_points(HEADER, points, labels=True)
    read = STORE.deserialize_cdr(serialize_message(message), 'sensor_msgs/msg/PointCloud2')
    assert bytes(read.data) == points.tobytes()
    assert fields_of(read) == fields_of(message)
    assert (read.height, read.width, read.point_step, read.row_step) == (4, 5, 32, 160)


SIZES = [(640, 480), (320, 240), (213, 160)]


@pytest.mark.parametrize('size', SIZES)
def test_a_point_falls_on_the_same_place_of_image_and_map(size: tuple[int, int]):
    given, made = info(), encode_camera_info(HEADER, calibration(), (640, 480), size)
    scale = np.array(size) / (640, 480)
    np.testing.assert_allclose(by_k(made), (by_k(given) + 0.5) * scale - 0.5)
    np.testing.assert_allclose(by_p(made), (by_p(given) + 0.5) * scale - 0.5)


def test_the_baseline_is_scaled_with_the_focal_length():
    made = encode_camera_info(HEADER, calibration(), (640, 480), (320, 120))
    # Tx = -fx B: the baseline B = 0.1 m stays.
    assert -made.p[3] / made.p[0] == pytest.approx(0.1)
    assert made.p[7] / made.p[5] == pytest.approx(23 / 460)
    assert (made.p[3], made.p[7], made.p[11]) == (-22.5, 5.75, 0.5)


@pytest.mark.parametrize('binning', [1, 2])
def test_binning_and_region_of_interest_are_in_the_matrices(binning: int):
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=320, height=240)
    given = info(roi=roi, binning_x=binning, binning_y=binning)
    image_size = (320 // binning, 240 // binning)
    made = encode_camera_info(HEADER, decode_info(given), image_size, (80, 60))
    for project in (by_k, by_p):
        wanted = (project(given) - (100, 50) + 0.5) / 4 - 0.5
        np.testing.assert_allclose(project(made), wanted)
    assert (made.binning_x, made.binning_y) == (0, 0)
    assert made.roi == RegionOfInterest()


def test_the_info_of_maps_as_large_as_the_image_is_the_image_s():
    made = encode_camera_info(HEADER, calibration(), (640, 480), (640, 480))
    checked(made)
    np.testing.assert_allclose(made.k, K)
    np.testing.assert_allclose(made.p, P)


def test_the_info_of_maps_has_their_size_and_the_header_given():
    made = encode_camera_info(HEADER, calibration(), (640, 480), (213, 160))
    checked(made)
    assert (made.width, made.height) == (213, 160)
    assert made.header is HEADER


@pytest.mark.parametrize('use', ['K', 'P'])
def test_an_info_that_would_fill_the_memory_is_refused(use: str):
    with pytest.raises(ValueError, match='15 coefficients'):
        decode_camera(calibration(d=[0.0] * 15), 640, 480, use)
    with pytest.raises(ValueError, match='of 1000 characters'):
        decode_camera(calibration(d=[], distortion_model=1000 * 'x'), 640, 480, use)


def test_each_info_of_the_same_maps_has_a_header_of_its_own():
    other = Header(frame_id='another')
    made = [
        encode_camera_info(each, calibration(), (640, 480), (320, 240)) for each in (HEADER, other)
    ]
    assert made[0].header is HEADER and made[1].header is other
    made[1].header = HEADER
    assert made[0] == made[1]


def test_the_lens_and_the_rotation_stay():
    made = encode_camera_info(HEADER, calibration(), (640, 480), (320, 240))
    assert (list(made.d), made.distortion_model) == (D, 'plumb_bob')
    assert list(made.r) == R


def test_the_info_of_the_image_is_not_changed():
    given = info()
    encode_camera_info(HEADER, decode_info(given), (640, 480), (320, 240))
    assert given == info()


@pytest.mark.parametrize('size', [(640, 480), (0, 0)])
def test_what_is_not_calibrated_stays_so(size: tuple[int, int]):
    blank = CameraInfo(width=size[0], height=size[1])
    made = encode_camera_info(HEADER, decode_info(blank), (640, 480), (320, 240))
    checked(made)
    assert not any(made.k) and not any(made.p)
    assert (made.width, made.height) == (320, 240)


def test_a_missing_p_does_not_spoil_k():
    made = encode_camera_info(HEADER, calibration(p=[0.0] * 12), (640, 480), (320, 240))
    assert made.k[0] == 250
    assert not any(made.p)


@pytest.mark.parametrize(
    'spoiled',
    [
        {'p': [450.0, 0.0, 315.0, 0.0, 0.0, 0.0, 245.0, 0.0, 0.0, 0.0, 1.0, 0.0]},
        {'k': [0.0] * 9, 'width': 1280, 'height': 960},
    ],
    ids=['P without fy', 'no K, and P of another size'],
)
def test_a_matrix_that_the_image_does_not_use_costs_no_frame(spoiled: dict):
    # decode_camera lets these pass, so nothing else may refuse them and take depth along.
    message = info(**spoiled)
    told = decode_info(message)
    decode_camera(told, 640, 480, 'K')
    encode_camera_info(HEADER, told, (640, 480), (320, 240))


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('encoding', ['32FC1', '16UC1', 'mono16'])
def test_depth_is_read_in_metres_whatever_its_encoding(encoding: str, big: bool):
    metres = np.array([[0.5, 1.25, 0], [2, 65.535, 3]])
    kind = 'f4' if encoding == '32FC1' else 'u2'
    stored = (metres if kind == 'f4' else metres * 1000).round(4).astype(f'{"<>"[big]}{kind}')
    rows = np.pad(stored.view(np.uint8).reshape(2, -1), ((0, 0), (0, 5)))  # padded rows
    message = Image(
        height=2, width=3, encoding=encoding, is_bigendian=int(big), step=rows.shape[1]
    )
    message.data = array('B', rows.tobytes())
    depth = decode_depth(message)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, np.where(metres > 0, metres, np.nan), rtol=1e-6)


def test_depth_that_is_not_positive_and_finite_is_not_known():
    stored = np.array([[np.inf, -np.inf, np.nan, -1, 0, 2]], '<f4')
    message = Image(
        height=1, width=6, encoding='32FC1', step=24, data=array('B', stored.tobytes())
    )
    np.testing.assert_array_equal(decode_depth(message), [[np.nan] * 5 + [2]])


def test_colors_are_not_taken_for_depth():
    message = Image(height=1, width=1, encoding='rgb8', step=3, data=array('B', bytes(3)))
    with pytest.raises(ValueError, match="depth of encoding 'rgb8': expected 32FC1"):
        decode_depth(message)


def test_an_image_filled_again_is_as_a_new_one():
    pixels = np.arange(60, dtype=np.float32).reshape(5, 12)
    image = encode_image(HEADER, pixels, '32FC1')
    data = image.data
    again = encode_image(Header(frame_id='other'), pixels + 1, '32FC1', image)
    assert again is image
    assert again.data is data  # the same memory
    assert again == encode_image(Header(frame_id='other'), pixels + 1, '32FC1')


@pytest.mark.parametrize('shape', [(2, 3), (7, 9), (5, 13)])
def test_an_image_filled_again_takes_any_size_and_type(shape: tuple[int, int]):
    image = encode_image(HEADER, np.ones((5, 12), np.float32), '32FC1')
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    assert encode_image(HEADER, pixels, '16UC1', image) == encode_image(HEADER, pixels, '16UC1')


def test_a_cloud_filled_again_is_as_a_new_one():
    points = np.arange(96, dtype=np.float32).reshape(3, 4, 8)
    for other in (points + 1, points.reshape(12, 8), points[0, :2], points[0, :0]):
        cloud = encode_points(HEADER, points, labels=True)
        again = encode_points(HEADER, other, labels=False, last=cloud)
        assert again is cloud
        assert again == encode_points(HEADER, other, labels=False)
        assert again.data.tobytes() == other.tobytes()


def test_pixels_that_are_no_block_of_memory_are_written_row_by_row():
    wide = np.arange(60, dtype=np.uint8).reshape(5, 12)
    image = encode_image(HEADER, wide[:, :7], 'mono8')
    assert image.data.tobytes() == wide[:, :7].tobytes()
    again = encode_image(HEADER, wide[:, 5:], 'mono8', image)
    assert again.data.tobytes() == wide[:, 5:].tobytes()
