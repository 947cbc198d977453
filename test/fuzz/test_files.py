"""Files from outside: weights and bags, damaged anywhere, are read or refused."""

from collections import OrderedDict
from itertools import islice
from pathlib import Path
import tempfile
from typing import Any

from damage import damaged_files, FEW
from dpt_ros.tools.sources import open_source
from dpt_ros.zoo import store
from hypothesis import given
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from safetensors.torch import save_file
import torch

STATE = OrderedDict((name, torch.arange(6.0).view(2, 3)) for name in ('a.weight', 'b'))
TYPES = get_typestore(Stores.ROS2_HUMBLE)
IMAGE = 'sensor_msgs/msg/Image'


def weights() -> dict[str, list[bytes]]:
    """Write the same tensors in every format, by the suffix of the file."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ('zip.pt', 'old.pt', 'new.safetensors')]
        torch.save(STATE, files[0])
        torch.save(STATE, files[1], _use_new_zipfile_serialization=False)
        save_file(STATE, files[2])
        contents = [file.read_bytes() for file in files]
    return {'.pt': contents[:2], '.safetensors': contents[2:]}


def bag(plugin: StoragePlugin) -> bytes:
    """Record three small images."""
    header, time = (TYPES.types[t] for t in ('std_msgs/msg/Header', 'builtin_interfaces/msg/Time'))
    with tempfile.TemporaryDirectory() as folder:
        with Writer(Path(folder, 'bag'), version=9, storage_plugin=plugin) as writer:
            topic = writer.add_connection('/image', IMAGE, typestore=TYPES)
            for second in range(3):
                made = header(time(second, 0), 'camera')
                pixels = np.zeros(192, np.uint8)
                message = TYPES.types[IMAGE](made, 12, 16, 'mono8', 0, 16, pixels)
                writer.write(topic, second, TYPES.serialize_cdr(message, IMAGE))
        (file,) = (f for f in Path(folder, 'bag').iterdir() if f.suffix != '.yaml')
        return file.read_bytes()


WEIGHTS = weights()
BAGS = {'.mcap': bag(StoragePlugin.MCAP), '.db3': bag(StoragePlugin.SQLITE3)}


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@given(damaged_files(WEIGHTS))
@FEW
def test_any_file_of_weights_gives_tensors_or_is_refused(suffix_and_data: tuple[str, bytes]):
    suffix, data = suffix_and_data
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        Path(file.name).write_bytes(data)
        try:
            state = store.read(Path(file.name))
        except ValueError as error:
            assert file.name in str(error)
        else:
            assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())


@pytest.mark.parametrize(
    'content', [{1: torch.zeros(2)}, {'a': 'b'}, {'a': {'b': torch.zeros(2)}}, [torch.zeros(2)]]
)
def test_what_is_no_tensors_by_name_is_refused(content: Any, tmp_path: Path):
    torch.save(content, tmp_path / 'mine.pt')
    with pytest.raises(ValueError, match=r'mine.pt holds no tensors by name'):
        store.load('dpt_tiny', str(tmp_path / 'mine.pt'))


@given(damaged_files({suffix: [data] for suffix, data in BAGS.items()}))
@FEW
def test_any_bag_gives_images_or_is_refused(suffix_and_data: tuple[str, bytes]):
    suffix, data = suffix_and_data
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        Path(file.name).write_bytes(data)
        try:
            shots = list(islice(open_source(file.name), 4))
        except ValueError as error:
            assert str(error)
        else:
            assert len(shots) == 4  # three, and from the beginning again


def test_a_bag_whose_index_promises_images_that_are_not_there_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / 'one.mcap').write_bytes(BAGS['.mcap'])
    monkeypatch.setattr('dpt_ros.tools.bags.read_messages', lambda *_: iter(()))
    with pytest.raises(ValueError, match='there are no images in'):
        next(open_source(str(tmp_path / 'one.mcap')))
