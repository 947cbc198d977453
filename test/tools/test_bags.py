"""Bags written part by part, held against rosbags' own writer and read back by it."""

import errno
import json
import os
from pathlib import Path

from dpt_ros.tools import bags
from dpt_ros.tools.bags import find_bags, is_compressed, offer, open_bag, Parts, storage_of
import pytest
from recordings import camera_info, read_bag, STORE, text, topics_in, write_bag
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import yaml

MESSAGES = [('/words', 10 * n, text(f'word {n}')) for n in range(7)]
MESSAGES.insert(3, ('/camera_info', 25, camera_info(8, 6, 25)))
QOS = offer(5, reliable=False)


class Killed(BaseException):
    """As abrupt as a signal: nothing catches it."""


def copy(bag: Path, output: Path, storage: str = '', recipe: str = 'r') -> None:
    """Copy a bag, three messages a part, going on after an interruption."""
    with open_bag(bag) as reader:
        kind = StoragePlugin[storage.upper()] if storage else storage_of(reader)
        topics = bags.topics_of(reader)
        parts = Parts(output, topics.values(), recipe, kind, is_compressed(reader))
        try:
            _copy(reader, topics, parts)
        except Exception:  # who is killed closes nothing
            parts.close()
            raise
        parts.close()


def _copy(reader: AnyReader, topics: dict[int, bags.Topic], parts: Parts) -> None:
    count = sum(tally['messages'] for tally in parts.tallies)
    for number, (connection, time, data) in enumerate(bags.read_messages(reader), 1):
        if number > count:
            parts.write(topics[connection.id], time, data)
            if number % 3 == 0 or number == reader.message_count:
                parts.end_part({'messages': number - count})
                count = number
    parts.finish()


@pytest.fixture(params=['mcap', 'sqlite3'])
def bag(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_bag(tmp_path / 'bag', *MESSAGES, storage=request.param, qos=[QOS])


def test_a_bag_in_parts_holds_what_one_file_holds(bag: Path, tmp_path: Path):
    copy(bag, tmp_path / 'out')
    assert read_bag(tmp_path / 'out') == read_bag(bag)
    assert topics_in(tmp_path / 'out') == topics_in(bag)
    end = next(bag.glob('bag.*')).suffix
    names = {f'out_{n}{end}' for n in range(3)} | {'metadata.yaml'}
    assert {file.name for file in (tmp_path / 'out').iterdir()} == names


def test_each_part_is_a_bag_of_its_own(bag: Path, tmp_path: Path):
    copy(bag, tmp_path / 'out')
    files = sorted(f for f in (tmp_path / 'out').iterdir() if f.suffix != '.yaml')
    assert [m for file in files for m in read_bag(file)] == read_bag(bag)


def test_the_metadata_sum_up_all_parts(bag: Path, tmp_path: Path):
    copy(bag, tmp_path / 'out')
    with (bag / 'metadata.yaml').open() as one, (tmp_path / 'out/metadata.yaml').open() as other:
        wanted, told = (yaml.safe_load(f)['rosbag2_bagfile_information'] for f in (one, other))
    for key in ('starting_time', 'duration', 'message_count', 'storage_identifier'):
        assert told[key] == wanted[key]
    assert [t['message_count'] for t in told['topics_with_message_count']] == [7, 1]
    assert [f['message_count'] for f in told['files']] == [3, 3, 2]
    assert told['version'] == 8  # which Humble reads: QoS is a text there
    assert isinstance(told['topics_with_message_count'][0]['topic_metadata'], dict)
    assert told['custom_data'] == {'dpt_ros': 'r'}


@pytest.mark.parametrize(
    ('storage', 'point'),
    [('mcap', 'write'), ('sqlite3', 'write'), ('mcap', 'replace'), ('mcap', 'rmtree')],
)
def test_however_it_is_killed_the_next_run_makes_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, point: str
):
    # Every call of a step once kills the process just before it.
    bag = write_bag(tmp_path / 'bag', *MESSAGES, storage=storage)
    copy(bag, tmp_path / 'whole')
    target = {
        'write': (Writer, 'write'),
        'replace': (os, 'replace'),
        'rmtree': (bags.shutil, 'rmtree'),
    }
    place, name = target[point]
    real, kills = getattr(place, name), 0
    for number in range(100):
        output, calls = tmp_path / f'out {number}', []

        def dies(*arguments, calls=calls, number=number, **options):
            calls.append(arguments)
            if len(calls) == number + 1:
                raise Killed
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(place, point, dies)
            try:
                copy(bag, output)
            except Killed:
                kills += 1
            else:
                break
        if not (output / 'metadata.yaml').exists():
            copy(bag, output)
        assert read_bag(output) == read_bag(bag)
        assert find_bags(output.parent).count(output) == 1
        assert not output.with_name(output.name + '.partial').exists()
    assert kills > 3


def test_what_was_begun_otherwise_is_not_gone_on_with(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Parts, 'finish', lambda _: None)
    copy(bag, tmp_path / 'out')
    with pytest.raises(ValueError, match='was begun from another bag or with other options'):
        copy(bag, tmp_path / 'out', recipe='another')


def test_two_processes_do_not_write_one_bag(tmp_path: Path):
    first = Parts(tmp_path / 'out', [], 'r', StoragePlugin.MCAP)
    with pytest.raises(ValueError, match='another process is writing'):
        Parts(tmp_path / 'out', [], 'r', StoragePlugin.MCAP)
    first.close()
    Parts(tmp_path / 'out', [], 'r', StoragePlugin.MCAP).close()
    assert not (tmp_path / 'out.partial').exists()  # nothing was written


@pytest.mark.parametrize(
    ('error', 'told'),
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'no space is left'),
        (bags.sqlite3.OperationalError('database or disk is full'), 'no space is left'),
        (OSError(errno.EIO, 'Input/output error'), 'Input/output error'),
    ],
)
def test_a_full_disk_is_one_sentence_and_what_is_whole_stays(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
):
    written = []
    real = Writer.write

    def write(*arguments):
        written.append(arguments)
        if len(written) == 5:
            raise error
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, 'write', write)
        with pytest.raises(OSError, match=f'out cannot be written on: .*{told}; what is whole'):
            copy(bag, tmp_path / 'out')
    assert (tmp_path / 'out.partial/out_0/metadata.yaml').exists()
    copy(bag, tmp_path / 'out')
    assert read_bag(tmp_path / 'out') == read_bag(bag)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_the_storage_can_be_another(bag: Path, tmp_path: Path, storage: str):
    copy(bag, tmp_path / 'out', storage)
    assert read_bag(tmp_path / 'out') == read_bag(bag)
    with open_bag(tmp_path / 'out') as reader:
        assert storage_of(reader) == StoragePlugin[storage.upper()]


@pytest.mark.parametrize(
    ('storage', 'mode'),
    [
        ('mcap', CompressionMode.STORAGE),
        ('mcap', CompressionMode.FILE),
        ('sqlite3', CompressionMode.MESSAGE),
        ('sqlite3', CompressionMode.FILE),
        ('mcap', None),
        ('sqlite3', None),
    ],
)
def test_what_is_compressed_stays_so(tmp_path: Path, storage: str, mode: CompressionMode | None):
    how = mode and (mode, CompressionFormat.ZSTD)
    bag = write_bag(tmp_path / 'bag', *MESSAGES, storage=storage, compression=how)
    copy(bag, tmp_path / 'out')
    assert read_bag(tmp_path / 'out') == read_bag(bag)
    with open_bag(tmp_path / 'out') as reader:
        assert is_compressed(reader) == (mode is not None)


def test_a_file_without_its_folder_is_a_bag_too(bag: Path, tmp_path: Path):
    (file,) = bag.glob('bag.*')
    copy(file, tmp_path / 'out')
    assert read_bag(tmp_path / 'out') == read_bag(bag)


def test_types_that_a_bag_does_not_define_are_copied_as_they_are(tmp_path: Path):
    # As Humble writes SQLite: no definitions, and types that nobody knows here.
    bag = tmp_path / 'bag'
    with Writer(bag, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        writer.added_types.add('robot_msgs/msg/Mood')
        mood = writer.add_connection('/mood', 'robot_msgs/msg/Mood', msgdef='', rihs01='unknown')
        writer.write(mood, 5, b'\0\1\0\0good')
    copy(bag, tmp_path / 'out')
    assert read_bag(tmp_path / 'out') == [('/mood', 5, b'\0\1\0\0good')]


def spoiled(bag: Path, how: str) -> Path:
    """Damage a bag or what lies around it."""
    (file,) = bag.glob('bag.*')
    if how == 'cut':
        file.write_bytes(file.read_bytes()[:-300])
    elif how == 'inside':
        content = file.read_bytes()
        third, rest = len(content) // 3, 2 * (len(content) // 3)
        file.write_bytes(content[:third] + bytes(third) + content[rest:])
    elif how == 'empty':
        file.write_bytes(b'')
    elif how == 'no file':
        file.unlink()
    elif how == 'no metadata':
        (bag / 'metadata.yaml').unlink()
    elif how == 'metadata':
        (bag / 'metadata.yaml').write_text('{}')
    return bag


@pytest.mark.parametrize('how', ['cut', 'inside', 'empty', 'no file', 'no metadata', 'metadata'])
def test_a_damaged_bag_is_one_sentence_with_the_cure(bag: Path, tmp_path: Path, how: str):
    with pytest.raises(ValueError, match='ros2 bag reindex') as caught:
        copy(spoiled(bag, how), tmp_path / 'out')
    assert str(bag) in str(caught.value)
    assert not (tmp_path / 'out').exists()


def test_what_is_no_bag_is_refused(tmp_path: Path):
    (tmp_path / 'one.bag').write_bytes(b'#ROSBAG V2.0\n')
    for name, told in (('nothing', 'there is no bag'), ('one.bag', 'ROS 1: convert it')):
        with pytest.raises(ValueError, match=told), open_bag(tmp_path / name):
            pass


def test_bags_below_a_folder_are_found_once(tmp_path: Path):
    for name in ('b', 'deep/a', 'c.partial/c_0'):
        write_bag(tmp_path / name, *MESSAGES)
    (tmp_path / 'loose.mcap').write_bytes(b'')
    (tmp_path / 'b' / 'b_0').mkdir()
    (tmp_path / 'b' / 'b_0' / 'metadata.yaml').write_text('')  # of a run that was killed late
    assert find_bags(tmp_path) == [tmp_path / name for name in ('b', 'deep/a', 'loose.mcap')]


def test_topics_that_are_added_are_defined_and_offered(tmp_path: Path):
    kind = 'sensor_msgs/msg/CameraInfo'
    topic = bags.new_topic('/dpt/depth/camera_info', kind, offer(2))
    parts = Parts(tmp_path / 'out', [topic], json.dumps({}), StoragePlugin.MCAP)
    parts.write(topic, 3, bytes(STORE.serialize_cdr(MESSAGES[3][2], kind)))
    parts.end_part({})
    parts.finish()
    ((name, (told, qos, count, definition)),) = topics_in(tmp_path / 'out').items()
    assert (name, told, count) == ('/dpt/depth/camera_info', kind, 1)
    assert (qos[0].depth, qos[0].reliability.name) == (2, 'RELIABLE')
    assert 'float64[9] k' in definition and 'MSG: std_msgs/Header' in definition
