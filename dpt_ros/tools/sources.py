"""Where images come from when there is no robot: folders, videos, bags, cameras, a drawn scene."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import cv2
from dpt_ros.perception.camera import Camera
from dpt_ros.ros.messages import decode_camera, decode_compressed, decode_image
import numpy as np

IMAGES = {'.jpg', '.jpeg', '.png', '.bmp'}
SIZE = (640, 480)  # of the drawn scene


@dataclass(frozen=True)
class Shot:
    """One image of a source."""

    pixels: np.ndarray  # (H, W, 3) uint8, RGB
    camera: Camera | None


def open_source(source: str, intrinsics: Sequence[float] | None = None) -> Iterator[Shot]:
    """
    Open a source of images; all but live cameras begin again at their end.

    :param source: folder of images, video file, bag, /dev/videoN, or 'scene'.
    :param intrinsics: fx, fy, cx, cy in pixels, for sources without their own.
    :raises ValueError: for a source that holds no images.
    """
    shots = _shots(source)
    if intrinsics is None:
        return shots
    fx, fy, cx, cy = intrinsics
    return (
        replace(shot, camera=Camera(shot.pixels.shape[1], shot.pixels.shape[0], fx, fy, cx, cy))
        for shot in shots
    )


def _shots(source: str) -> Iterator[Shot]:
    path = Path(source).expanduser()
    if source == 'scene':
        return _scene()
    if source.startswith('/dev/video'):
        return _video(source, live=True)
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        return _folder(path)
    if path.is_dir() or path.suffix in {'.mcap', '.db3'}:
        return _bag(path)
    if path.is_file():
        return _video(source, live=False)
    raise ValueError(
        f"there is no source '{source}': give a folder of images, a video, a bag, /dev/videoN or "
        "'scene'"
    )


def _folder(folder: Path) -> Iterator[Shot]:
    """Read images in the order of their names; 3x3 intrinsics in camera-intrinsics.txt count."""
    files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in IMAGES]
    files = [f for f in files if '.depth.' not in f.name]
    if not files:
        raise ValueError(f'there are no images ({", ".join(sorted(IMAGES))}) in {folder}')
    matrix_file = folder / 'camera-intrinsics.txt'
    matrix = np.loadtxt(matrix_file) if matrix_file.exists() else None
    while True:
        for file in files:
            pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if pixels is None:
                raise ValueError(f'{file} is not an image that can be read')
            height, width = pixels.shape[:2]
            camera = None
            if matrix is not None:
                (fx, _, cx), (_, fy, cy) = matrix[:2]
                camera = Camera(width, height, fx, fy, cx, cy)
            yield Shot(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), camera)


def _video(source: str, live: bool) -> Iterator[Shot]:
    capture = cv2.VideoCapture(source)
    seen = 0
    while True:
        ok, pixels = capture.read()
        if ok:
            seen += 1
            yield Shot(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), None)
        elif live or not seen:
            raise ValueError(f'{source} gives no images: is it a video or camera, and free?')
        else:
            capture.set(cv2.CAP_PROP_POS_FRAMES, 0)


def _bag(path: Path) -> Iterator[Shot]:
    """Read the first image topic of a bag, with the camera_info that came before each image."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import get_typestore, Stores

    decoders = {
        'sensor_msgs/msg/Image': decode_image,
        'sensor_msgs/msg/CompressedImage': decode_compressed,
    }
    store = get_typestore(Stores.ROS2_HUMBLE)
    with AnyReader([path], default_typestore=store) as reader:
        images = [c for c in reader.connections if c.msgtype in decoders]
        if not images:
            raise ValueError(f'there are no images in {path}')
        chosen = [c for c in images if c.topic == images[0].topic]
        infos = [c for c in reader.connections if c.msgtype == 'sensor_msgs/msg/CameraInfo']
        while True:
            info = None
            for connection, _, data in reader.messages(connections=chosen + infos):
                message = reader.deserialize(data, connection.msgtype)
                if connection in infos:
                    info = message
                    continue
                pixels = decoders[connection.msgtype](message)
                height, width = pixels.shape[:2]
                yield Shot(pixels, decode_camera(info, width, height, 'K') if info else None)


def _scene() -> Iterator[Shot]:
    """Draw a tiled hall with a ball rolling to and fro, seen from a robot's height."""
    width, height = SIZE
    camera = Camera(width, height, 500.0, 500.0, (width - 1) / 2, (height - 1) / 2 - 60)
    x, y = np.moveaxis(camera.rays(), -1, 0)
    for step in count():
        forward = 0.03 * step  # metres driven
        depth, color = np.full(x.shape, 9.0, np.float32), np.full((*x.shape, 3), 175.0)
        color *= 1 - 0.1 * (np.floor(y * 9 / 0.5) % 2)[..., None]  # the end wall
        for surface, along, tint in (
            (0.6 / np.maximum(y, 1e-6), x, (150, 120, 95)),  # floor, 0.6 m below
            (-2.0 / np.minimum(y, -1e-6), x, (225, 222, 210)),  # ceiling
            (2.5 / np.maximum(np.abs(x), 1e-6), y, (120, 140, 165)),  # walls
        ):
            tiles = np.floor(surface + forward) + np.floor(along * surface + 100)
            nearer = (surface < depth)[..., None]
            color = np.where(nearer, np.array(tint) * (0.8 + 0.2 * (tiles % 2)[..., None]), color)
            depth = np.minimum(depth, surface)
        center, radius = np.array([1.2 * np.sin(0.08 * step), 0.2, 3.0]), 0.4
        toward = x * center[0] + y * center[1] + center[2]
        squared = x * x + y * y + 1
        under = toward**2 - squared * (center @ center - radius**2)
        ball = (toward - np.sqrt(np.maximum(under, 0))) / squared
        light = np.clip((center[1] - y * ball) / radius, -0.5, 1)[..., None]
        hit = ((under > 0) & (ball < depth))[..., None]
        color = np.where(hit, np.array([190, 60, 50]) * (0.75 + 0.25 * light), color)
        color *= np.clip(1.15 - depth / 18, 0, 1)[..., None]
        yield Shot(np.clip(color, 0, 255).astype(np.uint8), camera)
