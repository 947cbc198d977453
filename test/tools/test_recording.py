"""A bag written with rosbags, unpacked, and read back as training reads it."""

from pathlib import Path

from dpt_ros.tools.recording import unpack
from dpt_ros.training.data import find_pairs, read_pair
import numpy as np
import pytest
from recordings import image, MS, write_bag

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
DEPTH = np.array([[1000, 0, 65535, 2500, 1, 3]] * 4, np.uint16)


def turn(number: int) -> np.ndarray:
    return np.roll(RGB, number, axis=0)


@pytest.mark.parametrize('encoding', ['rgb8', 'png'])
@pytest.mark.parametrize('kind', ['16UC1', '32FC1'])
def test_images_and_depth_of_one_time_are_paired(tmp_path: Path, encoding: str, kind: str):
    stored = DEPTH if kind == '16UC1' else np.float32(DEPTH / 1000)
    stamps = [33 * MS * n for n in range(3)]
    messages = [('/color', s, image(turn(n), encoding, s)) for n, s in enumerate(stamps)]
    # Depth is a little late, and of the second image missing.
    late = [s + 5 * MS for s in (stamps[0], stamps[2])]
    messages += [('/depth', s + 9 * MS, image(stored, kind, s)) for s in late]
    messages += [('/other', 0, image(RGB, 'rgb8', 0))]
    bag = write_bag(tmp_path / 'bag', *sorted(messages, key=lambda m: m[1]))
    count = []
    unpack(bag, '/color', '/depth', tmp_path / 'out', count.append)
    pairs = find_pairs(tmp_path / 'out')
    assert len(pairs) == len(count) == 2
    for pair, number in zip(pairs, (0, 2), strict=True):
        rgb, depth = read_pair(pair)
        np.testing.assert_array_equal(rgb, turn(number))
        wanted = [1, np.inf, np.inf, 2.5, 0.001, 0.003]  # 65.535 m is more than 16 bits hold
        np.testing.assert_allclose(depth[0], wanted, rtol=1e-6)


def test_what_was_unpacked_is_left_as_it_is(tmp_path: Path):
    (tmp_path / 'out').mkdir()
    unpack(tmp_path / 'nothing', '/color', '/depth', tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())


def test_a_bag_that_was_half_unpacked_begins_anew(tmp_path: Path):
    messages = [('/color', 0, image(RGB, 'rgb8', 0)), ('/depth', 0, image(DEPTH, '16UC1', 0))]
    bag = write_bag(tmp_path / 'bag', *messages)
    (tmp_path / 'out.partial').mkdir()
    (tmp_path / 'out.partial' / 'frame-000009.color.png').write_bytes(b'')
    unpack(bag, '/color', '/depth', tmp_path / 'out')
    assert sorted(f.name for f in (tmp_path / 'out').iterdir()) == [
        'frame-000000.color.png',
        'frame-000000.depth.png',
    ]


@pytest.mark.parametrize(
    ('topic', 'stamp', 'told'),
    [
        ('/depth', 21 * MS, 'no image on /color with depth on /depth within 20 ms'),
        ('/range', 0, r'has no /depth; it has /color, /range'),
    ],
)
def test_a_bag_without_pairs_is_refused(tmp_path: Path, topic: str, stamp: int, told: str):
    messages = [('/color', 0, image(RGB, 'rgb8', 0)), (topic, 1, image(DEPTH, '16UC1', stamp))]
    bag = write_bag(tmp_path / 'bag', *messages)
    with pytest.raises(ValueError, match=told):
        unpack(bag, '/color', '/depth', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_what_is_no_bag_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match='there is no bag'):
        unpack(tmp_path / 'nothing', '/color', '/depth', tmp_path / 'out')
    (tmp_path / 'text.mcap').write_bytes(b'text')
    with pytest.raises(ValueError, match='not a bag that can be read'):
        unpack(tmp_path / 'text.mcap', '/color', '/depth', tmp_path / 'out')


def test_depth_of_another_encoding_is_refused(tmp_path: Path):
    messages = [('/color', 0, image(RGB, 'rgb8', 0)), ('/depth', 0, image(RGB, 'rgb8', 0))]
    bag = write_bag(tmp_path / 'bag', *messages)
    with pytest.raises(ValueError, match="cannot read depth of encoding 'rgb8'"):
        unpack(bag, '/color', '/depth', tmp_path / 'out')
