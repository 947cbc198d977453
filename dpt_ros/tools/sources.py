"""Where images come from when there is no robot: folders, videos, bags, cameras, a drawn world."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from dpt_ros.perception.camera import Camera
from dpt_ros.ros.messages import decode_camera, decode_compressed, decode_image, decode_info
from dpt_ros.training.furnishing import furnish, World
from dpt_ros.training.materials import draw_sensor
from dpt_ros.training.worlds import CLEARANCE, clearance, HELD_OUT, look, place_camera, Pose
import numpy as np

IMAGES = {'.jpg', '.jpeg', '.png', '.bmp'}
VIDEOS = {'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpg', '.webm'}
SIZE = (240, 320)  # rows and columns of the drawn world
WORLD = 135  # which of the worlds that training never saw
STEP, TURN = 0.03, 0.04  # metres and radians from one image to the next
GENTLENESS = 0.2  # of what its speeds lack, a robot makes up this part from image to image
CAUTION = 0.6  # metres ahead of the robot that must be free


@dataclass(frozen=True)
class Shot:
    """One image of a source."""

    pixels: np.ndarray  # (H, W, 3) uint8, RGB
    camera: Camera | None
    depth: np.ndarray | None = None  # (H, W) float32, metres, +Inf for the sky, where it is known
    labels: np.ndarray | None = None  # (H, W) uint8, classes of worlds_10, likewise


def open_source(source: str, intrinsics: Sequence[float] | None = None) -> Iterator[Shot]:
    """
    Open a source of images; all but live cameras begin again at their end.

    :param source: folder of images, video file, bag, /dev/videoN, or 'world'.
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


def parse_intrinsics(text: str) -> tuple[float, float, float, float]:
    """Read 'FX,FY,CX,CY', pixels."""
    try:
        fx, fy, cx, cy = map(float, text.split(','))
    except ValueError:
        raise ValueError(f"'{text}' is not four numbers FX,FY,CX,CY") from None
    return fx, fy, cx, cy


def list_files(inputs: Sequence[str]) -> list[Path]:
    """
    List the images and videos to go through once.

    :param inputs: files, and folders whose images and videos count in the order of their names.
    :raises ValueError: for what is not there, and a folder with neither.
    """
    files: list[Path] = []
    for path in (Path(text).expanduser() for text in inputs):
        if path.is_dir():
            files += _files_of(path, IMAGES | VIDEOS)
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f'there is no {path}: give images, videos, or folders of them')
    return files


def count_images(file: Path) -> int:
    """Return how many images a file holds, as far as it says so."""
    if file.suffix.lower() in IMAGES:
        return 1
    return max(0, int(cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FRAME_COUNT)))


def read_file(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """
    Read an image, or a video from its start to its end.

    :return: a name for each, the video's with the number of the image; (H, W, 3) uint8, RGB.
    :raises ValueError: for a file that is neither.
    """
    if file.suffix.lower() in IMAGES:
        yield file.stem, _read_image(file)
        return
    capture, seen = cv2.VideoCapture(str(file)), 0
    while (image := capture.read())[0]:
        yield f'{file.stem}_{seen:06d}', cv2.cvtColor(image[1], cv2.COLOR_BGR2RGB)
        seen += 1
    if not seen:
        raise ValueError(f'{file} is neither an image nor a video that can be read')


def _shots(source: str) -> Iterator[Shot]:
    path = Path(source).expanduser()
    if source == 'world':
        return _world()
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
        "'world'"
    )


def _folder(folder: Path) -> Iterator[Shot]:
    """Read images in the order of their names; 3x3 intrinsics in camera-intrinsics.txt count."""
    files = _files_of(folder, IMAGES)
    matrix_file = folder / 'camera-intrinsics.txt'
    matrix = np.loadtxt(matrix_file) if matrix_file.exists() else None
    while True:
        for file in files:
            pixels = _read_image(file)
            height, width = pixels.shape[:2]
            camera = None
            if matrix is not None:
                (fx, _, cx), (_, fy, cy) = matrix[:2]
                camera = Camera(width, height, fx, fy, cx, cy)
            yield Shot(pixels, camera)


def _files_of(folder: Path, suffixes: Set[str]) -> list[Path]:
    """List the files of a folder that have one of the suffixes; maps of depth do not count."""
    files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in suffixes]
    files = [f for f in files if '.depth.' not in f.name]
    if not files:
        raise ValueError(f'there are no images ({", ".join(sorted(suffixes))}) in {folder}')
    return files


def _read_image(file: Path) -> np.ndarray:
    """Read (H, W, 3) uint8, RGB."""
    pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'{file} is not an image that can be read')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


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
    from dpt_ros.tools.bags import deserialize, open_bag, read_messages

    decoders = {
        'sensor_msgs/msg/Image': decode_image,
        'sensor_msgs/msg/CompressedImage': decode_compressed,
    }
    with open_bag(path) as reader:
        images = [c for c in reader.connections if c.msgtype in decoders]
        if not images:
            raise ValueError(f'there are no images in {path}')
        chosen = [c for c in images if c.topic == images[0].topic]
        sibling = images[0].topic.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'
        infos = [c for c in reader.connections if c.topic == sibling]
        if not any(c.msgcount for c in chosen):
            raise ValueError(f'there are no images in {path}')
        while True:
            calibration, shown = None, 0
            for connection, _, data in read_messages(reader, chosen + infos):
                message = deserialize(reader, connection, data)
                if connection in infos:
                    calibration = decode_info(message)
                    continue
                pixels = decoders[connection.msgtype](message)
                height, width = pixels.shape[:2]
                shown += 1
                yield Shot(
                    pixels, decode_camera(calibration, width, height, 'K') if calibration else None
                )
            if not shown:  # whatever the index of the bag says
                raise ValueError(f'there are no images in {path}')


def _world() -> Iterator[Shot]:
    """Drive a robot through a world that training never saw, seen through its camera."""
    rng = np.random.default_rng(HELD_OUT[WORLD])
    world = furnish(rng)
    start, camera = place_camera(world, SIZE, rng)
    sensor = draw_sensor(rng)
    for pose in drive(world, start):
        view = look(world, pose, camera, sensor, rng)
        yield Shot(view.rgb, view.camera, view.depth, view.labels)


def drive(world: World, pose: Pose) -> Iterator[Pose]:
    """
    Drive on from a pose, image by image: ahead at walking pace, or turning where that is blocked.

    The robot changes between the two as one with mass does, a little with each image.
    """
    speed = turn = 0.0  # metres and radians an image
    while True:
        yield pose
        x, y, z = pose.position
        forward = np.array([np.cos(pose.yaw), np.sin(pose.yaw)])
        free = clearance(world, (x, y) + CAUTION * forward[None])[0] > CLEARANCE
        speed += GENTLENESS * ((STEP if free else 0.0) - speed)
        turn += GENTLENESS * ((0.0 if free else TURN) - turn)
        x, y = map(float, (x, y) + speed * forward)
        pose = replace(pose, position=(x, y, z), yaw=pose.yaw + turn)
