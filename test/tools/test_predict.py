"""`dpt predict`: files read back by other means hold what perception computed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
import json
import math
from pathlib import Path
import re

import cv2
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.paint import millimetres
from dpt_ros.perception.pipeline import Frame, Perception, Result
from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.tools.cli import main
from dpt_ros.tools.predict import encode_ply, spread
from dpt_ros.zoo import store
from dpt_ros.zoo.checkpoints import CHECKPOINTS, RelativeDepth
from dpt_ros.zoo.labels import load_labels
import numpy as np
from PIL import Image
import pytest
from safetensors.torch import save_file
import torch

WIDTH, HEIGHT = 64, 48
INTRINSICS = (60.0, 61.0, 31.0, 24.5)
CAMERA = Camera(WIDTH, HEIGHT, *INTRINSICS)
LABELS = load_labels('worlds_10')
TINY = CHECKPOINTS['dpt_tiny']
INVERSE = {'a_inverse_depth.npy', 'a_inverse_depth.png'}
ALL = ('a.ply', 'a_depth.npy', 'a_depth.png', 'a_labels.png', 'a_overlay.png')


def pixels(seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def write(file: Path, seed: int = 0) -> Path:
    file.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(file), pixels(seed)[..., ::-1])
    return file


def write_video(file: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*'MJPG'), 10, (WIDTH, HEIGHT))
    for seed in range(count):
        writer.write(np.ascontiguousarray(pixels(seed)[..., ::-1]))
    writer.release()
    return file


def run(*arguments: object, model: str = 'dpt_tiny') -> None:
    main(['predict', '--device', 'cpu', '--model', model, *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture, *arguments: object, model: str = 'dpt_tiny') -> str:
    """Run what must fail, and return its one line."""
    with pytest.raises(SystemExit) as end:
        run(*arguments, model=model)
    assert end.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith('dpt: ')
    return line


def read_ply(file: Path) -> dict[str, np.ndarray]:
    """Read the vertices of a binary PLY as its specification has it."""
    head, _, body = file.read_bytes().partition(b'end_header\n')
    lines = head.decode('ascii').splitlines()
    assert lines[:2] == ['ply', 'format binary_little_endian 1.0']
    (count,) = (int(line.split()[2]) for line in lines if line.startswith('element vertex'))
    sizes = {'float': '<f4', 'uchar': '<u1', 'ushort': '<u2'}
    properties = [line.split()[1:] for line in lines if line.startswith('property')]
    rows = np.frombuffer(body, [(name, sizes[kind]) for kind, name in properties])
    assert len(rows) == count
    return {name: rows[name] for _, name in properties}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the command wrote of one image, with a camera."""
    place = tmp_path_factory.mktemp('predict')
    run(
        write(place / 'a.png'),
        '--output',
        place / 'out',
        '--camera',
        ','.join(map(str, INTRINSICS)),
    )
    return place / 'out'


@pytest.fixture(scope='module')
def result() -> Result:
    """Return what perception makes of the same image."""
    tiny = store.load('dpt_tiny')
    perception = Perception(tiny, tiny, device=torch.device('cpu'), dtype=torch.float32)
    chosen = replace(options(Parameters()), points_labels=True)
    frame = Frame('', None, pixels(), CAMERA)
    (result,) = perception([frame], perception.products, chosen)
    return result


def test_one_image_becomes_these_files(folder: Path):
    assert sorted(file.name for file in folder.iterdir()) == sorted(ALL)


def test_depth_is_in_metres_as_computed(folder: Path, result: Result):
    depth = np.load(folder / 'a_depth.npy')
    assert (depth.dtype, depth.shape) == (np.float32, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(depth, result.products['depth'])
    assert np.isfinite(depth).any()


def test_the_png_of_depth_is_in_millimetres(folder: Path, result: Result):
    image = cv2.imread(str(folder / 'a_depth.png'), cv2.IMREAD_UNCHANGED)
    assert (image.dtype, image.shape) == (np.uint16, (HEIGHT, WIDTH))
    depth = result.products['depth']
    known = np.isfinite(depth)
    np.testing.assert_array_equal(image == 0, ~known)
    np.testing.assert_allclose(image[known] * 1e-3, depth[known], atol=0.0005001)


@pytest.mark.parametrize(
    ('metres', 'wanted'),
    [(1.2344, 1234), (65.534, 65534), (65.535, 0), (1000, 0), (math.nan, 0), (math.inf, 0)],
)
def test_millimetres_end_where_16_bits_do(metres: float, wanted: int):
    assert millimetres(torch.full((1, 1), metres)).numpy() == wanted


def test_labels_are_class_ids_with_the_colors_of_the_classes(folder: Path, result: Result):
    with Image.open(folder / 'a_labels.png') as image:
        assert image.mode == 'P'
        np.testing.assert_array_equal(np.array(image), result.products['labels'])
        palette = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(palette[: len(LABELS.colors)], LABELS.colors)
    shown = cv2.imread(str(folder / 'a_labels.png'))[..., ::-1]
    np.testing.assert_array_equal(shown, np.array(LABELS.colors)[result.products['labels']])


def test_the_overlay_is_as_computed(folder: Path, result: Result):
    shown = cv2.imread(str(folder / 'a_overlay.png'), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(shown, result.products['overlay'])


def test_the_cloud_lies_on_the_rays_of_the_camera(folder: Path, result: Result):
    cloud = read_ply(folder / 'a.ply')
    assert list(cloud) == ['x', 'y', 'z', 'red', 'green', 'blue', 'label']
    depth = result.products['depth']
    v, u = np.nonzero(np.isfinite(depth))
    fx, fy, cx, cy = INTRINSICS
    z = depth[v, u]
    np.testing.assert_array_equal(cloud['z'], z)
    np.testing.assert_allclose(cloud['x'], z * (u - cx) / fx, atol=1e-5)
    np.testing.assert_allclose(cloud['y'], z * (v - cy) / fy, atol=1e-5)


def test_the_cloud_has_the_colors_and_labels_of_its_pixels(folder: Path, result: Result):
    cloud = read_ply(folder / 'a.ply')
    v, u = np.nonzero(np.isfinite(result.products['depth']))
    colors = np.stack([cloud['red'], cloud['green'], cloud['blue']], axis=-1)
    np.testing.assert_array_equal(colors, pixels()[v, u])
    np.testing.assert_array_equal(cloud['label'], result.products['labels'][v, u])


def test_points_that_are_unknown_are_left_out_of_a_cloud(tmp_path: Path):
    points = np.full((2, 3, 8), np.nan, np.float32)
    points[1, 2] = (1, 2, 3, 0, 0, 0, 0, 0)
    points[1, 2].view(np.uint32)[4] = 0x0A141E
    (tmp_path / 'a.ply').write_bytes(encode_ply(points, labelled=False))
    cloud = read_ply(tmp_path / 'a.ply')
    assert {name: values.tolist() for name, values in cloud.items()} == {
        'x': [1], 'y': [2], 'z': [3], 'red': [10], 'green': [20], 'blue': [30]
    }  # fmt: skip


def test_folders_and_videos_are_gone_through_once(tmp_path: Path, capsys: pytest.CaptureFixture):
    write(tmp_path / 'in/b.png', 1)
    write(tmp_path / 'in/a.jpg')
    write_video(tmp_path / 'in/c.avi', 2)
    (tmp_path / 'in/notes.txt').write_text('no image')
    output = tmp_path / 'out'
    run(tmp_path / 'in', '--output', output, '--json')
    told = json.loads(capsys.readouterr().out)
    assert [one['name'] for one in told] == ['a', 'b', 'c_000000', 'c_000001']
    assert [Path(one['source']).name for one in told] == ['a.jpg', 'b.png', 'c.avi', 'c.avi']
    assert {(one['width'], one['height']) for one in told} == {(WIDTH, HEIGHT)}
    named = {file for one in told for file in one['files'].values()}
    assert named == {str(file) for file in output.iterdir()}
    assert set(told[0]['files']) == {'depth', 'depth_png', 'labels', 'overlay'}
    first, second = (np.load(output / f'c_{number:06d}_depth.npy') for number in range(2))
    assert (first != second).any()


def test_a_summary_is_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    run(write(tmp_path / 'a.png'), '--output', tmp_path / 'out')
    said = capsys.readouterr()
    assert said.out == f'wrote 4 files of 1 images to {tmp_path / "out"}\n'
    assert not [line for line in said.err.splitlines() if line.startswith('dpt:')]


@pytest.fixture
def relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a network of relative depth alone, called 'relative', and the file of its weights."""
    entry = replace(
        TINY,
        depth=RelativeDepth(),
        labels=None,
        file='relative.safetensors',
        size=None,
        sha256=None,
    )
    monkeypatch.setitem(CHECKPOINTS, 'relative', entry)
    torch.manual_seed(0)
    network = store.build(entry).requires_grad_(False)
    network.tasks['depth'].head.out.bias += 5  # above what the last ReLU cuts off
    save_file(network.state_dict(), tmp_path / 'mine.safetensors')
    yield tmp_path / 'mine.safetensors'


def test_relative_depth_is_never_called_depth(tmp_path: Path, relative: Path):
    output = tmp_path / 'out'
    run(write(tmp_path / 'a.png'), '--output', output, '--weights', relative, model='relative')
    assert {file.name for file in output.iterdir()} == INVERSE
    trained = store.load('relative', str(relative))
    perception = Perception(trained, None, device=torch.device('cpu'), dtype=torch.float32)
    frame = Frame('', None, pixels(), None)
    (result,) = perception([frame], {'inverse_depth'}, options(Parameters()))
    found = np.load(output / 'a_inverse_depth.npy')
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, result.products['inverse_depth'])
    with Image.open(output / 'a_inverse_depth.png') as image:
        narrow = np.array(image)
        offset, scale = float(image.text['offset']), float(image.text['scale'])
    assert (narrow.dtype, narrow.min(), narrow.max()) == (np.uint16, 0, 65535)
    np.testing.assert_allclose(offset + scale * narrow, found, rtol=0, atol=0.501 * scale)


def test_inverse_depth_of_one_value_is_spread_too():
    pixels, notes = spread(np.full((2, 2), 3.5, np.float32))
    assert not pixels.any()
    assert float(notes['offset']) == 3.5


def test_labels_may_come_of_another_network(tmp_path: Path, relative: Path):
    relative.rename(tmp_path / 'relative.safetensors')
    output = tmp_path / 'out'
    others = ('--weights', tmp_path, '--segmentation-model', 'dpt_tiny', '--output', output)
    run(write(tmp_path / 'a.png'), *others, model='relative')
    assert {file.name for file in output.iterdir()} == {*INVERSE, 'a_labels.png', 'a_overlay.png'}


@pytest.mark.usefixtures('relative')
@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['nowhere.png'], 'there is no nowhere.png: give images, videos, or folders of them'),
        (['empty'], 'there are no images (.*) in empty'),
        (['a.png', '--weights', 'nowhere'], 'there are no weights at nowhere'),
        (['a.png', '--device', 'abacus'], "device must be 'auto', 'cpu'"),
        (['a.png', '--segmentation-model', 'relative'], 'the weights of relative are not at'),
        (['a.png', '--segmentation-model', 'x'], "no model is called 'x'; there are"),
        (['a.png', 'in/a.png'], 'the results of a.png and in/a.png would have one name'),
        (['in', '--output', 'in'], 'in has the images themselves: choose another folder'),
        (['broken.png'], 'broken.png is not an image that can be read'),
        (['broken.txt'], 'broken.txt is neither an image nor a video that can be read'),
        (['a.png', '--camera', '0,1,2,3'], 'a camera with focal lengths 0, 1 .* calibrate it'),
        (['a.png', '--output', 'a.png'], 'exists'),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: Sequence[str],
    words: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DPT_ROS_WEIGHTS', str(tmp_path))
    write(Path('a.png'))
    write(Path('in/a.png'))
    Path('empty').mkdir()
    Path('broken.png').write_bytes(b'no image')
    Path('broken.txt').write_bytes(b'no video')
    assert re.search(words.replace('(.*)', r'\(.*\)'), refused(capsys, *arguments))


def test_a_cloud_of_relative_depth_is_refused(
    tmp_path: Path, relative: Path, capsys: pytest.CaptureFixture
):
    arguments = (write(tmp_path / 'a.png'), '--camera', '1,2,3,4', '--weights', relative)
    line = refused(capsys, *arguments, '--output', tmp_path / 'out', model='relative')
    assert 'there is no cloud without metric depth: leave --camera out' in line
    assert not (tmp_path / 'out').exists()


def test_one_file_of_weights_for_two_networks_is_refused(
    tmp_path: Path, relative: Path, capsys: pytest.CaptureFixture
):
    arguments = (write(tmp_path / 'a.png'), '--segmentation-model', 'dpt_tiny')
    line = refused(capsys, *arguments, '--weights', relative, model='relative')
    assert f'{relative} is one file for the two networks relative and dpt_tiny' in line


def test_two_networks_for_labels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    arguments = (write(tmp_path / 'a.png'), '--segmentation-model', 'dpt_tiny')
    line = refused(capsys, *arguments, model='dpt_large_ade20k')
    assert 'dpt_large_ade20k gives labels and no depth, and dpt_tiny labels too' in line
