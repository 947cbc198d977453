"""Data sets in the forms that people have them, as small as they get."""

from pathlib import Path

import cv2
from dpt_ros.evaluation.datasets import DataSet, DATASETS, open_dataset
import numpy as np
import pytest

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
DRIVE = '2011_09_26/2011_09_26_drive_0002_sync'


def color(file: Path, rgb: np.ndarray = RGB) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.ascontiguousarray(rgb[..., ::-1]))


def depth(file: Path, *values: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    stored = np.zeros(RGB.shape[:2], np.uint16)
    stored[0, : len(values)] = values
    assert cv2.imwrite(str(file), stored)


def samples(dataset: DataSet) -> list:
    return [dataset.read(item) for item in dataset.items]


def test_nyu_of_bts_is_in_millimetres(tmp_path: Path):
    for name, value in (('kitchen/{}_00002', 2500), ('bath/{}_00001', 1500)):
        color(tmp_path / f'{name.format("rgb")}.jpg')
        depth(tmp_path / f'{name.format("sync_depth")}.png', value, 0, 65535)
    color(tmp_path / 'bath/rgb_00003.jpg')  # without depth
    one, two = samples(open_dataset('nyu', tmp_path))
    np.testing.assert_allclose(one.depth[0, :3], [1.5, np.inf, np.inf], rtol=1e-6)
    assert two.depth[0, 0] == 2.5 and two.rgb.shape == RGB.shape


def test_nyu_as_published_is_read_by_its_split(tmp_path: Path):
    h5py, io = pytest.importorskip('h5py'), pytest.importorskip('scipy.io')
    images, raw = np.zeros((3, 3, 6, 4), np.uint8), np.zeros((3, 6, 4), np.float32)
    images[1], raw[1] = RGB.T, np.arange(24).reshape(6, 4)
    with h5py.File(tmp_path / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'], file['rawDepths'], file['depths'] = images, raw, raw + 9
    io.savemat(tmp_path / 'splits.mat', {'testNdxs': [[2], [3]], 'trainNdxs': [[1]]})
    dataset = open_dataset('nyu', tmp_path)
    assert dataset.items == [2, 3]  # counted from 1
    first = dataset.read(2)
    np.testing.assert_array_equal(first.rgb, RGB)
    np.testing.assert_array_equal(first.depth, np.arange(24).reshape(6, 4).T)


@pytest.mark.parametrize('raw', ['raw/', ''])
@pytest.mark.parametrize(
    'annotated', ['data_depth_annotated/val/', 'data_depth_annotated/', 'gt/']
)
@pytest.mark.parametrize('end', ['png', 'jpg'])
def test_kitti_is_found_by_its_list(tmp_path: Path, raw: str, annotated: str, end: str):
    color(tmp_path / f'{raw}{DRIVE}/image_02/data/0000000069.{end}')
    truth = '2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png'
    depth(tmp_path / annotated / truth, 256, 640, 0)
    split = tmp_path / 'list.txt'
    split.write_text(
        f'{DRIVE}/image_02/data/0000000069.png {truth} 721.5377\n'
        f'{DRIVE}/image_02/data/0000000070.png None 721.5377\n\n'
    )
    dataset = open_dataset('kitti', tmp_path, split)
    assert dataset.without_truth == 1
    (one,) = samples(dataset)
    np.testing.assert_array_equal(one.depth[0, :3], [1, 2.5, np.inf])


def test_classes_of_ade20k_begin_at_one(tmp_path: Path):
    color(tmp_path / 'images/validation/ADE_val_1.jpg')
    labels = np.array([[0, 1, 2, 150]], np.uint8).repeat(4, axis=0)
    (tmp_path / 'annotations/validation').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'annotations/validation/ADE_val_1.png'), labels)
    dataset = open_dataset('ade20k', tmp_path)
    (one,) = samples(dataset)
    assert one.labels[0].tolist() == [255, 0, 1, 149]
    assert dataset.labels == 'ade20k_150' and not dataset.has_depth and dataset.multiscale


def test_a_recording_is_pairs_beside_each_other(tmp_path: Path):
    for number in (10, 9):
        color(tmp_path / f'frame-{number:06d}.color.jpg')
        depth(tmp_path / f'frame-{number:06d}.depth.png', 100 * number)
    assert [round(s.depth[0, 0], 6) for s in samples(open_dataset('folder', tmp_path))] == [0.9, 1]


def test_a_recording_is_pairs_by_name_in_two_folders(tmp_path: Path):
    color(tmp_path / 'rgb/a.png')
    depth(tmp_path / 'depth/a.png', 2000)
    color(tmp_path / 'rgb/b.jpg')
    np.save(tmp_path / 'depth/b.npy', np.array([[3.5, 0, np.nan, -1, 2, 1]] * 4))
    a, b = samples(open_dataset('folder', tmp_path))
    assert a.depth[0, 0] == 2
    np.testing.assert_array_equal(a.rgb, RGB)
    np.testing.assert_array_equal(b.depth[0], [3.5, np.inf, np.inf, np.inf, 2, 1])


def test_worlds_are_those_never_trained_on():
    dataset = open_dataset('worlds').first(1)
    (one,) = samples(dataset)
    assert dataset.items == range(1_000_000_000, 1_000_000_001)
    assert one.depth.shape == one.labels.shape == (192, 256)
    assert len(open_dataset('worlds').items) == 512


@pytest.mark.parametrize(
    ('name', 'told'),
    [
        ('nyu', 'nyu_depth_v2_labeled.mat'),
        ('ade20k', r'images/validation/\*\.jpg'),
        ('folder', r'NAME\.color\.jpg'),
        ('kitti', '--split FILE'),
        ('moon', f'there are {", ".join(DATASETS)}'),
    ],
)
def test_an_empty_folder_says_what_belongs_there(tmp_path: Path, name: str, told: str):
    with pytest.raises(ValueError, match=told):
        open_dataset(name, tmp_path)


def test_a_root_is_asked_for_and_must_be_there(tmp_path: Path):
    with pytest.raises(ValueError, match='nyu takes --root DIR'):
        open_dataset('nyu')
    with pytest.raises(ValueError, match=r'there is no folder .*nowhere'):
        open_dataset('folder', tmp_path / 'nowhere')


@pytest.mark.parametrize(
    ('line', 'told'),
    [
        (f'{DRIVE}/image_02/data/0000000070.png', 'none is in'),
        ('cat.png', "'cat.png' of the list is no image of KITTI"),
    ],
)
def test_a_list_that_leads_nowhere_is_refused(tmp_path: Path, line: str, told: str):
    (tmp_path / 'list.txt').write_text(line)
    with pytest.raises(ValueError, match=told):
        open_dataset('kitti', tmp_path, tmp_path / 'list.txt')


def test_depth_without_its_image_is_refused(tmp_path: Path):
    depth(tmp_path / 'gt/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/1.png', 256)
    (tmp_path / 'list.txt').write_text(f'{DRIVE}/image_02/data/1.png')
    with pytest.raises(ValueError, match=r'there is no .*1.png, though its depth is there'):
        open_dataset('kitti', tmp_path, tmp_path / 'list.txt')


def test_depth_of_another_size_is_refused(tmp_path: Path):
    color(tmp_path / 'rgb/a.png', RGB[:2])
    depth(tmp_path / 'depth/a.png', 1000)
    dataset = open_dataset('folder', tmp_path)
    with pytest.raises(ValueError, match=r'6x2 pixels and .* 6x4: bring depth into the view'):
        dataset.read(dataset.items[0])


@pytest.mark.parametrize('kind', [np.uint8, None])
def test_depth_that_is_no_16_bit_image_is_refused(tmp_path: Path, kind: type | None):
    color(tmp_path / 'rgb/a.png')
    (tmp_path / 'depth').mkdir()
    (tmp_path / 'depth/a.png').write_bytes(b'')
    if kind:
        cv2.imwrite(str(tmp_path / 'depth/a.png'), np.zeros((4, 6), kind))
    dataset = open_dataset('folder', tmp_path)
    with pytest.raises(ValueError, match='it must be a PNG of 16 bits'):
        dataset.read(dataset.items[0])


def test_an_image_without_depth_is_refused(tmp_path: Path):
    color(tmp_path / 'rgb/a.png')
    with pytest.raises(ValueError, match=r'rgb/a.png has no depth: there is no .*depth/a.png'):
        open_dataset('folder', tmp_path)
