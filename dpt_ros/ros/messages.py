"""
Messages to arrays (`decode_`) and arrays to messages (`encode_`).

Colors are decoded with NumPy and OpenCV; cv_bridge is asked only for encodings that are unknown
here. Every refusal is a ValueError that says what came, what is wanted and what to do. Sizes are
whatever a sender declares: they are held against the data, and against a limit, before any memory
is taken for them.
"""

from array import array
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from functools import cache, lru_cache
import sys
from typing import NamedTuple, TypeGuard

import cv2
from dpt_ros.perception.camera import Camera, DISTORTIONS
from dpt_ros.perception.points import FIELDS, LABEL_FIELDS, POINT_STEP
from dpt_ros.ros.headers import count_scans, most_pixels, picture_size
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

MAX_PIXELS = 25_000_000  # of an image; what the largest cameras of robots have
MOST_COEFFICIENTS = max(max(counts) for counts in DISTORTIONS.values())
LONGEST_NAME = 100  # of a distortion model
MAX_SCANS = 20  # of a JPEG; progressive ones have about ten, and each costs a pass over the pixels

# encoding -> channels, bytes a channel, OpenCV's conversion to RGB (None: it is RGB).
# Names of sensor_msgs/image_encodings.hpp; OpenCV names a Bayer pattern by its second row.
_PACKED: dict[str, tuple[int, int, int | None]] = {
    'rgb8': (3, 1, None),
    'rgba8': (4, 1, cv2.COLOR_RGBA2RGB),
    'bgr8': (3, 1, cv2.COLOR_BGR2RGB),
    'bgra8': (4, 1, cv2.COLOR_BGRA2RGB),
    'mono8': (1, 1, cv2.COLOR_GRAY2RGB),
    'rgb16': (3, 2, None),
    'rgba16': (4, 2, cv2.COLOR_RGBA2RGB),
    'bgr16': (3, 2, cv2.COLOR_BGR2RGB),
    'bgra16': (4, 2, cv2.COLOR_BGRA2RGB),
    'mono16': (1, 2, cv2.COLOR_GRAY2RGB),
    '8UC1': (1, 1, cv2.COLOR_GRAY2RGB),
    '8UC3': (3, 1, cv2.COLOR_BGR2RGB),
    '8UC4': (4, 1, cv2.COLOR_BGRA2RGB),
    '16UC1': (1, 2, cv2.COLOR_GRAY2RGB),
    '16UC3': (3, 2, cv2.COLOR_BGR2RGB),
    '16UC4': (4, 2, cv2.COLOR_BGRA2RGB),
    'bayer_rggb8': (1, 1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': (1, 1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, 1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': (1, 1, cv2.COLOR_BayerGB2RGB),
    'bayer_rggb16': (1, 2, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr16': (1, 2, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg16': (1, 2, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg16': (1, 2, cv2.COLOR_BayerGB2RGB),
    'yuv422': (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': (2, 1, cv2.COLOR_YUV2RGB_YUYV),
    'yuyv': (2, 1, cv2.COLOR_YUV2RGB_YUYV),
}
# Brightness first, then a plane of color pairs: rows of bytes per two rows of pixels.
_PLANAR = {'nv12': 3, 'nv21': 3, 'nv24': 6}
_DEFAULT_FIELDS = {'f4': PointField.FLOAT32, 'u4': PointField.UINT32}

# BT.601, limited range: R, G and B of (Y, U, V, 1), as OpenCV has it for its YUV formats.
_YUV = np.array(
    [
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
    ]
)


class Calibration(NamedTuple):
    """What camera_info says, for comparison with the last one, which mostly said the same."""

    whole: tuple[int, int]
    bins: tuple[int, int]  # pixels of the sensor in one, across and down
    roi: tuple[int, int, int, int]  # from where, and how large
    distortion: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]


def decode_image(image: Image, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """
    Read the pixels of an image of any color or mono encoding.

    :param max_pixels: beyond which an image is refused.
    :return: (height, width, 3) uint8, RGB; a view of the message where it is rgb8 already. 16-bit
        values are scaled by 255 / 65535, as cv_bridge does.
    :raises ValueError: for an encoding that is unknown or no picture, or data that do not fit.
    """
    _check_size(image.width, image.height, max_pixels)
    try:
        if image.encoding in _PACKED:
            return _decode_packed(image)
        if image.encoding in _PLANAR:
            return _decode_planar(image)
        return _decode_with_cv_bridge(image)
    except cv2.error as error:
        raise ValueError(
            f'an image of {image.width}x{image.height} {image.encoding} cannot be converted to '
            f'RGB: {error.err}; are its sides even, as this encoding needs?'
        ) from None


def is_rgb8(image: Image | CompressedImage) -> TypeGuard[Image]:
    """Return whether a message is what `encode_image` makes of RGB: its rows without gaps."""
    if not isinstance(image, Image) or image.encoding != 'rgb8':
        return False
    return image.step == 3 * image.width and len(image.data) == image.step * image.height


def decode_compressed(image: CompressedImage, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """
    Read the pixels of a JPEG or PNG.

    :param max_pixels: beyond which a picture is refused, by its header.
    :return: (height, width, 3) uint8, RGB.
    :raises ValueError: for what is neither, or was cut short.
    """
    data = np.frombuffer(image.data, np.uint8)
    content = data.tobytes()
    size, pixels = picture_size(content), None
    if size is not None:
        _check_size(*size, max_pixels)
        if size[0] * size[1] > most_pixels(content):
            raise ValueError(
                f'a picture of {size[0]}x{size[1]} cannot be of {data.size} bytes: it was cut '
                'short, or its header is damaged'
            )
        if (scans := count_scans(content)) > MAX_SCANS:
            raise ValueError(
                f'a JPEG of {scans} scans would take long and gain nothing: at most {MAX_SCANS} '
                'are read; is this a camera?'
            )
        with suppress(cv2.error):
            pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError(
            f'a compressed image of {data.size} bytes, format {_brief(image.format)}, is no whole '
            'JPEG or PNG; for depth or theora transports set image_transport: raw'
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def seconds_of(header: Header) -> float:
    """Return the stamp of a message in seconds."""
    return float(header.stamp.sec + 1e-9 * header.stamp.nanosec)


def decode_depth(image: Image, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """
    Read a map of depth.

    :param image: 32FC1 (metres) or 16UC1 (millimetres, 0 is not known); see REP 118.
    :param max_pixels: beyond which a map is refused.
    :return: (H, W) float32 metres, NaN where it is not known or not positive.
    """
    kinds = {'32FC1': ('f4', 1.0), '16UC1': ('u2', 0.001), 'mono16': ('u2', 0.001)}
    if image.encoding not in kinds:
        raise ValueError(
            f'cannot read depth of encoding {_brief(image.encoding)}: expected 32FC1 (metres) or '
            '16UC1 (millimetres); is this the topic of depth?'
        )
    _check_size(image.width, image.height, max_pixels)
    kind, unit = kinds[image.encoding]
    stored = np.dtype(('>' if image.is_bigendian else '<') + kind)
    rows = _rows(image, image.height, image.width * stored.itemsize)
    depth = np.ascontiguousarray(rows).view(stored).astype(np.float32) * np.float32(unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def decode_info(info: CameraInfo) -> Calibration:
    """
    Take down what camera_info says.

    :raises ValueError: for what is too long to be remembered.
    """
    if len(info.d) > MOST_COEFFICIENTS:
        raise ValueError(
            f'camera_info has {len(info.d)} coefficients of distortion, and no model more than '
            f'{MOST_COEFFICIENTS}: calibrate the camera'
        )
    if len(info.distortion_model) > LONGEST_NAME:
        raise ValueError(
            f'camera_info names the distortion model {_brief(info.distortion_model)}, of '
            f'{len(info.distortion_model)} characters: calibrate the camera'
        )
    roi = info.roi
    return Calibration(
        whole=(info.width, info.height),
        bins=(max(info.binning_x, 1), max(info.binning_y, 1)),
        roi=(roi.x_offset, roi.y_offset, roi.width, roi.height),
        distortion=info.distortion_model,
        d=tuple(info.d),
        k=tuple(info.k),
        r=tuple(info.r),
        p=tuple(info.p),
    )


@lru_cache(maxsize=32)
def decode_camera(calibration: Calibration, width: int, height: int, use: str) -> Camera | None:
    """
    Read the intrinsics of an image of width x height (REP 104).

    :param use: 'K' for an image as the lens draws it, 'P' for a rectified one.
    :return: the camera of that image, binning and region of interest applied; None if the info
        says that it is not calibrated (K[0] = 0).
    :raises ValueError: for an info that belongs to another size of image or makes no sense.
    """
    if not np.isfinite([*calibration.k, *calibration.p, *calibration.r, *calibration.d]).all():
        raise ValueError('camera_info has numbers that are not finite: calibrate the camera')
    matrix = calibration.k if use == 'K' else _left_of(calibration.p)
    if matrix[0] == 0:
        return None
    part = (calibration.roi[2] or calibration.whole[0], calibration.roi[3] or calibration.whole[1])
    bins = calibration.bins
    if (part[0] // bins[0], part[1] // bins[1]) != (width, height):
        raise ValueError(
            f'camera_info is of {part[0] // bins[0]}x{part[1] // bins[1]} pixels but the image of '
            f'{width}x{height}: remap camera_info to the one published beside this image'
        )
    lens = use == 'K' and any(calibration.d)
    camera = Camera(
        width=calibration.whole[0],
        height=calibration.whole[1],
        fx=float(matrix[0]),
        fy=float(matrix[4]),
        cx=float(matrix[2]),
        cy=float(matrix[5]),
        distortion=calibration.distortion if lens else '',
        coefficients=tuple(map(float, calibration.d)) if lens else (),
    )
    binned = (width * bins[0], height * bins[1])  # what does not fill a bin is cut off
    return camera.cropped(*calibration.roi[:2], *binned).resized(width, height)


def rectified(calibration: Calibration) -> Calibration:
    """
    Describe the rectified image of a camera as a camera without a lens.

    Consumers that look at K alone, as nvblox does, then see it as those do that look at P.
    """
    upright = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
    k = tuple(_left_of(calibration.p))
    return calibration._replace(distortion='plumb_bob', d=(0.0,) * 5, k=k, r=upright)


def encode_image(
    header: Header, pixels: np.ndarray, encoding: str, last: Image | None = None
) -> Image:
    """
    Wrap an array as an image.

    :param pixels: (H, W) or (H, W, channels), of the encoding's type.
    :param last: an image that nobody needs any more; it is filled again, which spares its memory.
    """
    height, width = pixels.shape[:2]
    image = Image() if last is None else last
    image.header = header
    image.height, image.width = height, width
    image.encoding = encoding
    image.is_bigendian = int(sys.byteorder == 'big')
    image.step = pixels.nbytes // height
    _fill(image, pixels)
    return image


def encode_points(
    header: Header, points: np.ndarray, labels: bool, last: PointCloud2 | None = None
) -> PointCloud2:
    """
    Wrap packed points as depth_image_proc lays them out.

    :param points: (H, W, 8) organized or (N, 8) float32, `perception.points.pack_points`.
    :param labels: whether label and confidence stand in the padding.
    :param last: a cloud that nobody needs any more; it is filled again.
    """
    cloud = PointCloud2() if last is None else last
    cloud.header = header
    cloud.height, cloud.width = points.shape[:2] if points.ndim == 3 else (1, points.shape[0])
    cloud.fields = _fields(labels)
    cloud.is_bigendian = sys.byteorder == 'big'
    cloud.point_step = POINT_STEP
    cloud.row_step = POINT_STEP * cloud.width
    cloud.is_dense = points.ndim == 2
    _fill(cloud, points)
    return cloud


@cache
def _fields(labels: bool) -> list[PointField]:
    layout = FIELDS | LABEL_FIELDS if labels else FIELDS
    return [
        PointField(name=name, offset=offset, datatype=_DEFAULT_FIELDS[kind], count=1)
        for name, (offset, kind) in layout.items()
    ]


def encode_camera_info(
    header: Header, calibration: Calibration, image: tuple[int, int], size: tuple[int, int]
) -> CameraInfo:
    """
    Describe the camera of maps made from an image.

    :param calibration: of the image.
    :param image: width and height of the image.
    :param size: width and height of the maps.
    :return: K and P of the maps themselves, so binning and region of interest are unset; D and R
        are the image's. What was not calibrated stays so.
    """
    described = copy(_info_of_maps(calibration, image, size))
    described.header = header
    return described


@lru_cache(maxsize=32)
def _info_of_maps(
    calibration: Calibration, image: tuple[int, int], size: tuple[int, int]
) -> CameraInfo:
    """Do that, without a header."""
    k, p = list(calibration.k), list(calibration.p)
    across = size[0] / image[0] / calibration.bins[0]
    down = size[1] / image[1] / calibration.bins[1]

    def center(x: float, y: float) -> tuple[float, float]:
        x, y = x - calibration.roi[0], y - calibration.roi[1]
        return (x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5

    if k[0]:
        x, y = center(k[2], k[5])
        k = [k[0] * across, k[1] * across, x, 0.0, k[4] * down, y, 0.0, 0.0, 1.0]
    if p[0]:
        x, y = center(p[2], p[6])
        p = [p[0] * across, p[1] * across, x, p[3] * across, 0.0, p[5] * down, y, p[7] * down]
        p += [0.0, 0.0, 1.0, calibration.p[11]]
    return CameraInfo(
        width=size[0],
        height=size[1],
        distortion_model=calibration.distortion,
        d=calibration.d,
        k=k,
        r=calibration.r,
        p=p,
    )


def _decode_packed(image: Image) -> np.ndarray:
    channels, depth, conversion = _PACKED[image.encoding]
    rows = _rows(image, image.height, image.width * channels * depth)
    kind = np.dtype('u1') if depth == 1 else np.dtype('>u2' if image.is_bigendian else '<u2')
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
    if depth == 1:
        pixels = rows.reshape(shape)  # still a view: only the rows are apart
    else:
        pixels = np.ascontiguousarray(rows).view(kind).reshape(shape)
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def _decode_planar(image: Image) -> np.ndarray:
    halves = _PLANAR[image.encoding]
    if image.encoding == 'nv24':
        rows = _rows(image, image.height * halves // 2, image.width)
        luma, chroma = np.split(rows, [image.height])
        pairs = np.lib.stride_tricks.as_strided(  # of twice the step, as V4L2 has it
            chroma, (image.height, image.width, 2), (2 * image.step, 2, 1)
        )
        return cv2.transform(np.dstack((luma, pairs)), _YUV)
    if image.width % 2 or image.height % 2:
        raise ValueError(
            f'an image of {image.width}x{image.height} cannot be {image.encoding}, which has one '
            'color for two by two pixels: both sides must be even'
        )
    rows = _rows(image, image.height * halves // 2, image.width)
    code = cv2.COLOR_YUV2RGB_NV12 if image.encoding == 'nv12' else cv2.COLOR_YUV2RGB_NV21
    return cv2.cvtColor(rows, code)


def _decode_with_cv_bridge(image: Image) -> np.ndarray:
    """Leave an encoding that is unknown here to cv_bridge, where that is installed."""
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        known = ', '.join([*_PACKED, *_PLANAR])
        raise ValueError(
            f'cannot read an image of encoding {_brief(image.encoding)}: expected one of {known}; '
            'convert it first, e.g. with image_proc, or install cv_bridge for more encodings'
        ) from None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(image, 'rgb8'))
    except (CvBridgeError, KeyError, TypeError) as error:
        raise ValueError(
            f'cannot read an image of encoding {_brief(image.encoding)}, and cv_bridge cannot '
            f'either ({error}): convert it first, e.g. with image_proc'
        ) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a declared size that no image has, or that is too large to be served."""
    if not width or not height:
        raise ValueError(f'an image of {width}x{height} has no pixels')
    if width * height > max_pixels:
        raise ValueError(
            f'an image of {width}x{height} has more than the {max_pixels} pixels allowed: feed a '
            'smaller one, or raise limits.max_pixels'
        )


def _brief(text: str) -> str:
    """Quote what came from outside: short, and no character that could disturb a log."""
    return repr(text if len(text) <= 40 else f'{text[:37]}...')


def _rows(image: Image, rows: int, used: int) -> np.ndarray:
    """View the data as (rows, used) uint8, padding at the end of each row left out."""
    if image.step < used:
        raise ValueError(
            f'an image of {image.width}x{image.height} {image.encoding} needs rows of {used} '
            f'bytes but says step {image.step}: the driver fills the message wrongly'
        )
    needed = image.step * (rows - 1) + used
    if len(image.data) < needed:
        raise ValueError(
            f'an image of {image.width}x{image.height} {image.encoding}, step {image.step}, '
            f'needs {needed} bytes but carries {len(image.data)}: it was cut short'
        )
    data = np.frombuffer(image.data, np.uint8)
    return np.ndarray((rows, used), np.uint8, data, strides=(image.step, 1))


def _left_of(projection: Sequence[float]) -> list[float]:
    """Return the left 3x3 of P, (3, 4) in a row: the K of the rectified image."""
    return [projection[i] for i in (0, 1, 2, 4, 5, 6, 8, 9, 10)]


def _fill(message: Image | PointCloud2, values: np.ndarray) -> None:
    """
    Write an array into the data of a message: one copy, into memory that is there if it fits.

    None if it is that very memory. Assigning bytes to the field would look at them one by one.
    """
    if len(message.data) != values.nbytes:
        data = array('B')
        if values.size:
            data.frombytes(np.ascontiguousarray(values).data.cast('B'))
        message.data = data
    elif values.size:
        there = np.frombuffer(message.data, values.dtype).reshape(values.shape)
        if not np.may_share_memory(there, values):
            np.copyto(there, values)
