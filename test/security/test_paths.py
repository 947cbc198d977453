"""Names from outside (files, topics, metadata of bags, frames, classes) never become paths."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from dpt_ros.ros.parameters import Parameters, read
from dpt_ros.tools.cli import main
from dpt_ros.tools.fleet import orders_for
from dpt_ros.tools.label import label, Order
from dpt_ros.tools.recording import unpack
from dpt_ros.zoo.fetch import fetch
from dpt_ros.zoo.store import weights_path
import numpy as np
import pytest
from recordings import header_at, image, MS, TYPES, write_bag
import yaml

WIDTH, HEIGHT = 64, 48
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
OUT = '../../../out'  # of the folder that is written to, and of the one around it
QUICK = Parameters(cpu_threads=1, network_side=32)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob('*') if not path.is_dir()}


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder to work in; what is written around it, or changed there, is a failure."""
    room = tmp_path / 'a' / 'b' / 'room'
    room.mkdir(parents=True)
    (tmp_path / 'precious').write_text('mine')
    monkeypatch.chdir(room)
    yield room
    around = {path for path in files(tmp_path) if not path.is_relative_to(room)}
    assert around == {tmp_path / 'precious'}
    assert (tmp_path / 'precious').read_text() == 'mine'


def hostile(bag: Path, depth: bool = False) -> Path:
    """Record an image, and depth if wanted, under names that lead out of every folder."""
    shown = image(PIXELS, 'rgb8', 0)
    shown.header = header_at(0, OUT)
    words = TYPES['std_msgs/msg/String'](OUT)
    messages: list[Any] = [(f'/{OUT}/image', 0, shown), (f'/{OUT}', MS, words)]
    if depth:
        metres = image(np.full((HEIGHT, WIDTH), 1000, np.uint16), '16UC1', 0)
        messages.append((f'/{OUT}/depth', 0, metres))
    return write_bag(bag, *messages)


def test_a_bag_of_topics_that_lead_out_is_labelled_in_its_place(room: Path):
    bag = hostile(room / 'in')
    label(Order(bag, room / 'made', f'/{OUT}/image', '', QUICK, outputs=('segmentation/mask',)))
    assert {path.parent for path in files(room)} == {room / 'in', room / 'made'}


@pytest.mark.parametrize('path', ['../../../precious', '/etc/hostname', '../other/x.mcap'])
def test_a_bag_whose_metadata_lead_out_is_read_in_its_folder_alone(room: Path, path: str):
    bag = hostile(room / 'in')
    metadata = yaml.safe_load((bag / 'metadata.yaml').read_text())
    metadata['rosbag2_bagfile_information']['relative_file_paths'] = [path]
    (bag / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    order = Order(bag, room / 'made', f'/{OUT}/image', '', QUICK)
    with pytest.raises(ValueError, match='files are missing: .*/in/' + Path(path).name):
        label(order)
    assert not (room / 'made').exists()


def test_a_bag_is_unpacked_into_its_folder(room: Path):
    bag = hostile(room / 'in', depth=True)
    unpack(bag, f'/{OUT}/image', f'/{OUT}/depth', room / 'made')
    assert {path.parent for path in files(room)} == {room / 'in', room / 'made'}


def test_bags_of_a_fleet_find_their_places_below_the_output(room: Path):
    like = Order(Path(), Path(), '', '', QUICK)
    bags = {hostile(room / 'bags' / name) for name in ('..a', 'b..', '.c')}
    (room / 'bags' / 'link').symlink_to(room.parent.parent)
    for folder in (room / 'bags', room / 'bags' / 'b..' / '..'):
        orders = orders_for([folder], room / 'made', like)
        assert {order.bag.resolve() for order in orders} == bags
        assert {order.output.resolve().parent for order in orders} == {room / 'made'}


@pytest.mark.parametrize('name', ['..mcap', '...mcap'])
def test_a_bag_whose_place_would_be_the_output_or_around_it_is_refused(room: Path, name: str):
    (room / name).touch()
    with pytest.raises(ValueError, match='has no name but dots: rename it'):
        orders_for([room / name], room / 'made', Order(Path(), Path(), '', '', QUICK))


@pytest.mark.parametrize('name', ['..png', '...png', '.. .png', '..\\out.png', '-o.png', '~.png'])
def test_results_of_an_image_are_called_as_it_and_lie_in_the_output(room: Path, name: str):
    (room / 'images').mkdir()
    (room / 'images' / name).write_bytes(cv2.imencode('.png', PIXELS)[1].tobytes())
    main(
        ['predict', '--device', 'cpu', '--model', 'dpt_tiny', '--output', 'made', f'images/{name}']
    )
    written = files(room) - {room / 'images' / name}
    assert len(written) == 4
    assert {path.parent for path in written} == {room / 'made'}


@pytest.mark.parametrize('name', [OUT, '/etc/passwd', 'dpt_tiny/../../x', '..'])
def test_a_network_is_one_of_the_table_and_no_path(room: Path, name: str):
    for function in (fetch, weights_path):
        with pytest.raises(ValueError, match='no model is called'):
            function(name, str(room))


@pytest.mark.parametrize('name', [OUT, '/front', 'a/b', '..', 'front\n', '~'])
def test_a_camera_is_called_by_one_word(name: str):
    with pytest.raises(ValueError, match='which no topic can begin with'):
        read({'cameras': [name]})
