"""Sources of images: what was written by others comes out again, with its camera."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
import signal
from typing import Any

import cv2
from dpt_ros.perception.camera import Camera
from dpt_ros.tools.sources import drive, open_source, Shot
from dpt_ros.training.furnishing import furnish
from dpt_ros.training.worlds import clearance, HELD_OUT, place_camera
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

WIDTH, HEIGHT = 48, 32
STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types
PLUGINS = pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
HEADER = TYPES['std_msgs/msg/Header'](TYPES['builtin_interfaces/msg/Time'](1, 2), 'camera')
INFO = 'sensor_msgs/msg/CameraInfo'


@pytest.fixture(autouse=True)
def _no_endless_search() -> Iterator[None]:
    """Turn a source that looks for ever into a failure."""

    def give_up(*_: object) -> None:
        raise TimeoutError('the source looks for images for ever')

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 20.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


def colored(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (red, green, blue), np.uint8)


def first(source: str | Path, *intrinsics: float) -> Shot:
    return next(open_source(str(source), intrinsics or None))


def color_of(shot: Shot) -> list[int]:
    return shot.pixels[HEIGHT // 2, WIDTH // 2].tolist()


def write(file: Path, pixels: np.ndarray) -> None:
    assert cv2.imwrite(str(file), pixels[..., ::-1])


def image(pixels: np.ndarray, encoding: str = 'rgb8') -> Any:
    height, width = pixels.shape[:2]
    step = pixels[0].nbytes
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return TYPES['sensor_msgs/msg/Image'](HEADER, height, width, encoding, 0, step, data)


def compressed(pixels: np.ndarray) -> Any:
    _, data = cv2.imencode('.png', pixels[..., ::-1])
    return TYPES['sensor_msgs/msg/CompressedImage'](HEADER, 'png', data.reshape(-1))


def info(focal: float, width: int = WIDTH, height: int = HEIGHT) -> Any:
    roi = TYPES['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    k = np.array([focal, 0, 20, 0, focal + 1, 15, 0, 0, 1], float)
    r, p = np.eye(3).reshape(-1), np.zeros(12)
    d = np.array([0.1, 0.0, 0.0, 0.0, 0.0])
    return TYPES[INFO](HEADER, height, width, 'plumb_bob', d, k, r, p, 0, 0, roi)


def bag(
    folder: Path, plugin: StoragePlugin, rows: list[tuple[str, Any]], silent: tuple = ()
) -> Path:
    """Record messages a second apart; `silent` are topics and types without any."""
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        topics = {t: writer.add_connection(t, kind, typestore=STORE) for t, kind in silent}
        for second, (topic, message) in enumerate(rows):
            kind = message.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            data = STORE.serialize_cdr(message, kind)
            writer.write(topics[topic], second * 10**9, data)
    return folder


def test_a_folder_is_read_in_the_order_of_names_and_again(tmp_path: Path):
    write(tmp_path / '2.png', colored(0, 255, 0))
    write(tmp_path / '1.PNG', colored(255, 0, 0))
    write(tmp_path / '3.bmp', colored(0, 0, 255))
    (tmp_path / 'notes.txt').write_text('no image')
    shots = islice(open_source(str(tmp_path)), 4)
    assert [color_of(shot) for shot in shots] == [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 0, 0],
    ]


def test_a_folder_of_a_recording_leaves_out_depth_and_brings_its_camera(tmp_path: Path):
    write(tmp_path / 'frame-000000.color.jpg', colored(200, 100, 50))
    cv2.imwrite(str(tmp_path / 'frame-000000.depth.png'), np.ones((HEIGHT, WIDTH), np.uint16))
    (tmp_path / 'camera-intrinsics.txt').write_text('585 0 320\n0 586 240\n0 0 1\n')
    shots = list(islice(open_source(str(tmp_path)), 2))
    for shot in shots:
        np.testing.assert_allclose(color_of(shot), [200, 100, 50], atol=3)
        assert shot.camera == Camera(WIDTH, HEIGHT, 585, 586, 320, 240)


def test_a_folder_without_intrinsics_has_no_camera(tmp_path: Path):
    write(tmp_path / 'a.png', colored(1, 2, 3))
    assert first(tmp_path).camera is None


def test_intrinsics_given_win(tmp_path: Path):
    write(tmp_path / 'a.png', colored(1, 2, 3))
    (tmp_path / 'camera-intrinsics.txt').write_text('585 0 320\n0 586 240\n0 0 1\n')
    wanted = Camera(WIDTH, HEIGHT, 1, 2, 3, 4)
    assert first(tmp_path, 1, 2, 3, 4).camera == wanted


def test_a_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / 'notes.txt').write_text('no image')
    with pytest.raises(ValueError, match=rf'no images \(.*\.png.*\) in {tmp_path}'):
        first(tmp_path)


def test_a_file_that_is_no_image_is_named(tmp_path: Path):
    (tmp_path / 'a.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'a\.png is not an image that can be read'):
        first(tmp_path)


def test_a_video_is_read_in_order_and_again(tmp_path: Path):
    file = tmp_path / 'video.avi'
    codec = cv2.VideoWriter_fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(file), codec, 10.0, (WIDTH, HEIGHT))
    assert writer.isOpened()
    colors = [(220, 30, 30), (30, 200, 40), (20, 40, 210)]
    for color in colors:
        writer.write(np.ascontiguousarray(colored(*color)[..., ::-1]))
    writer.release()
    seen = [color_of(shot) for shot in islice(open_source(str(file)), 4)]
    np.testing.assert_allclose(seen, [*colors, colors[0]], atol=6)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path):
    file = tmp_path / 'a.mp4'
    file.write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r'a\.mp4 gives no images: is it a video'):
        first(file)


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match='/dev/video987 gives no images'):
        first('/dev/video987')


@PLUGINS
@pytest.mark.parametrize('make', [image, compressed])
def test_a_bag_brings_images_with_their_camera(
    tmp_path: Path, plugin: StoragePlugin, make: Callable[[np.ndarray], Any]
):
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    topic = '/camera/image_raw' if make is image else '/camera/image_raw/compressed'
    path = bag(
        tmp_path / 'bag', plugin, [('/camera/camera_info', info(50)), (topic, make(pixels))]
    )
    for shot in islice(open_source(str(path)), 2):  # the second time round too
        np.testing.assert_array_equal(shot.pixels, pixels)
        wanted = Camera(WIDTH, HEIGHT, 50, 51, 20, 15, 'plumb_bob', (0.1, 0.0, 0.0, 0.0, 0.0))
        assert shot.camera == wanted


@PLUGINS
def test_the_file_of_a_bag_will_do(tmp_path: Path, plugin: StoragePlugin):
    path = bag(tmp_path / 'bag', plugin, [('/image', image(colored(1, 2, 3)))])
    (file,) = (f for f in path.iterdir() if f.suffix in {'.mcap', '.db3'})
    assert color_of(first(file)) == [1, 2, 3]


def test_images_before_their_info_have_no_camera(tmp_path: Path):
    rows = [
        ('/camera/image_raw', image(colored(1, 2, 3))),
        ('/camera/camera_info', info(50)),
        ('/camera/image_raw', image(colored(4, 5, 6))),
    ]
    path = bag(tmp_path / 'bag', StoragePlugin.MCAP, rows)
    before, after = islice(open_source(str(path)), 2)
    assert before.camera is None
    assert after.camera.fx == 50


@pytest.mark.parametrize('others', [info(99), info(99, 640, 480)], ids=['same size', 'larger'])
def test_a_bag_of_two_cameras_keeps_them_apart(tmp_path: Path, others: Any):
    rows = [
        ('/color/camera_info', info(50)),
        ('/depth/camera_info', others),
        ('/color/image_raw', image(colored(1, 2, 3))),
        ('/infra/image_raw', image(colored(9, 9, 9))),
        ('/color/image_raw', image(colored(4, 5, 6))),
    ]
    path = bag(tmp_path / 'bag', StoragePlugin.MCAP, rows)
    shots = list(islice(open_source(str(path)), 2))
    assert [color_of(shot) for shot in shots] == [[1, 2, 3], [4, 5, 6]]
    assert [shot.camera.fx for shot in shots] == [50, 50]


def test_a_bag_without_an_image_topic_is_refused(tmp_path: Path):
    path = bag(tmp_path / 'bag', StoragePlugin.MCAP, [('/camera/camera_info', info(50))])
    with pytest.raises(ValueError, match=f'there are no images in {path}'):
        first(path)


def test_a_bag_whose_image_topic_is_silent_is_refused(tmp_path: Path):
    silent = (('/image', 'sensor_msgs/msg/Image'),)
    path = bag(tmp_path / 'bag', StoragePlugin.MCAP, [('/i', info(50))], silent)
    with pytest.raises(ValueError, match=f'there are no images in {path}'):
        first(path)


@pytest.mark.parametrize('name', ['bag.mcap', 'bag/metadata.yaml'])
def test_a_bag_that_is_broken_is_refused(tmp_path: Path, name: str):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text('nothing: of a bag\n')
    with pytest.raises(ValueError, match='bag'):
        first(file if name == 'bag.mcap' else file.parent)


def test_the_drawn_world_moves_and_has_a_camera():
    one, other = islice(open_source('world'), 2)
    assert (one.pixels.shape, one.pixels.dtype) == ((240, 320, 3), np.uint8)
    assert (one.camera.width, one.camera.height) == (320, 240)
    assert (one.pixels != other.pixels).any()


def test_the_drawn_world_tells_the_truth():
    shot = next(open_source('world'))
    assert (shot.depth.shape, shot.depth.dtype) == ((240, 320), np.float32)
    assert (shot.labels.shape, shot.labels.dtype) == ((240, 320), np.uint8)


def test_the_drawn_world_is_the_same_each_time():
    one, other = (next(open_source('world')) for _ in range(2))
    np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize('seed', range(95, 110))
def test_the_robot_moves_smoothly_and_keeps_clear(seed: int):
    rng = np.random.default_rng(HELD_OUT[seed])
    world = furnish(rng)
    start, _ = place_camera(world, (240, 320), rng)
    poses = list(islice(drive(world, start), 600))
    path = np.array([(*pose.position[:2], pose.yaw) for pose in poses])
    steps, turns = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1), np.diff(path[:, 2])
    assert poses[0] == start
    assert steps.max() < 0.031  # metres: walking pace at 15 Hz
    assert turns.max() < 0.041  # radians
    assert np.abs(np.diff(steps)).max() < 0.0065  # no jolts
    assert np.abs(np.diff(turns)).max() < 0.0085
    assert steps.sum() + turns.sum() > 5  # nor does it stand still
    assert clearance(world, path[:, :2]).min() > 0.25


def test_a_source_that_is_not_there_is_refused_at_once():
    with pytest.raises(ValueError, match="no source 'nowhere': give a folder of images, a video"):
        open_source('nowhere')
