"""
Recordings of rosbag2: found, read, and written so that an interruption costs little.

A bag is written in parts of a file each, as rosbag2 itself splits bags. A part is there whole or
not at all, and tells how much of the input it holds: what comes after it is done again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack, suppress
from dataclasses import dataclass
import errno
import fcntl
import json
import os
from pathlib import Path
import shutil
import sqlite3
from typing import Any, Literal

from dpt_ros.tools.cdr import TYPES
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader
import yaml

SUFFIXES = ('.mcap', '.db3')
PARTIAL = '.partial'
VERSION: Literal[8] = 8  # of the metadata: Humble reads it, and all that came later
INFORMATION = 'rosbag2_bagfile_information'
RECIPE = 'dpt_ros'  # key of what made a bag, in its metadata
TALLY = 'dpt_ros.part'  # likewise of what one part holds; gone when the bag is whole


def is_bag(path: Path) -> bool:
    """Tell whether a path is a bag, rather than a folder that may hold some."""
    return path.suffix in SUFFIXES or (path / 'metadata.yaml').exists()


def find_bags(folder: Path) -> list[Path]:
    """List the bags below a folder: folders with metadata.yaml, and files that lie in none."""
    folders = {file.parent for file in folder.rglob('metadata.yaml')}
    files = {f for end in SUFFIXES for f in folder.rglob(f'*{end}') if f.parent not in folders}
    found = {bag for bag in folders | files if folders.isdisjoint(bag.parents)}
    return sorted(
        bag
        for bag in found
        if not any(part.endswith(PARTIAL) for part in bag.relative_to(folder).parts)
    )


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """
    Open a bag, MCAP or SQLite, a folder or a file.

    :raises ValueError: for what is no bag of ROS 2, or damaged.
    """
    if not path.exists():
        raise ValueError(f'there is no bag {path}')
    if path.suffix == '.bag':
        raise ValueError(f'{path} is a bag of ROS 1: convert it first with rosbags-convert')
    if path.is_dir() and not is_bag(path):
        raise ValueError(
            f'{path} is no bag, for it has no metadata.yaml; if its recording was cut short, '
            '`ros2 bag reindex` makes one'
        )
    with ExitStack() as stack:
        with _readable(path):
            reader = stack.enter_context(AnyReader([path], default_typestore=TYPES))
        yield reader


def read_messages(
    reader: AnyReader, connections: Sequence[Connection] = ()
) -> Iterator[tuple[Connection, int, bytes]]:
    """
    Read the messages of a bag in the order of their times (nanoseconds).

    :param connections: the topics; none: all.
    :raises ValueError: where the file is damaged.
    """
    with _readable(Path(str(reader.paths[0]))):
        yield from reader.messages(connections)


def deserialize(reader: AnyReader, connection: Connection, data: bytes) -> Any:
    """
    Read one message.

    :raises ValueError: where it is damaged.
    """
    with _readable(Path(str(reader.paths[0]))):
        return reader.deserialize(data, connection.msgtype)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say in one sentence what rosbags stumbles over; of damaged files that can be anything."""
    try:
        yield
    except PermissionError:
        raise
    except Exception as error:
        raise ValueError(
            f'{path} is not a bag that can be read ({type(error).__name__}: {error}); a recording '
            'that was cut short is mended with `ros2 bag reindex` or `mcap recover`'
        ) from error


def storage_of(reader: AnyReader) -> StoragePlugin:
    """Return how a bag is stored."""
    path = Path(str(reader.paths[0]))
    if path.is_dir():
        return StoragePlugin[_read_metadata(path)['storage_identifier'].upper()]
    return StoragePlugin.MCAP if path.suffix == '.mcap' else StoragePlugin.SQLITE3


def is_compressed(reader: AnyReader) -> bool:
    """Tell whether a bag is compressed, by rosbag2 or within MCAP."""
    one: Any = reader.readers[0]
    files = one.storage.storages if isinstance(one.storage, DirectoryReader) else [one.storage]
    chunks = [c for file in files if isinstance(file, McapReader) for c in file.chunks]
    return bool(one.compression_mode) or any(chunk.compression for chunk in chunks)


@dataclass(frozen=True)
class Topic:
    """What a bag tells of a topic."""

    name: str
    kind: str  # its type
    definition: str  # of the type; empty where a bag does not have it
    digest: str  # of the type, RIHS01
    qos: tuple[Qos, ...]  # as offered


def topics_of(reader: AnyReader) -> dict[int, Topic]:
    """Describe the topics of a bag, by the number of their connection."""
    topics = {}
    for connection in reader.connections:
        definition, digest = connection.msgdef.data, connection.digest
        if connection.msgdef.format == MessageDefinitionFormat.NONE:
            definition, digest = '', ''
            if connection.msgtype in TYPES.fielddefs:
                definition, _ = TYPES.generate_msgdef(connection.msgtype, ros_version=2)
        if definition and not digest:
            digest = reader.typestore.hash_rihs01(connection.msgtype)
        ext: Any = connection.ext
        qos = tuple(ext.offered_qos_profiles)
        name, kind = connection.topic, connection.msgtype
        topics[connection.id] = Topic(name, kind, definition, digest, qos)
    return topics


def new_topic(name: str, kind: str, qos: Qos) -> Topic:
    """Describe a topic that is added."""
    definition, _ = TYPES.generate_msgdef(kind, ros_version=2)
    return Topic(name, kind, definition, TYPES.hash_rihs01(kind), (qos,))


def offer(depth: int, reliable: bool = True, latched: bool = False) -> Qos:
    """Describe the quality of service of a publisher that keeps its last `depth` messages."""
    ever = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        ever,
        ever,
        QosLiveliness.AUTOMATIC,
        ever,
        False,
    )


def recipe_of(bag: Path) -> str | None:
    """Return what a bag was made of and how, where this package made it."""
    if not (bag / 'metadata.yaml').exists():
        return None
    return (_read_metadata(bag).get('custom_data') or {}).get(RECIPE)


class Parts:
    """A bag in the making, OUT.partial, which `finish` turns into OUT."""

    def __init__(
        self,
        output: Path,
        topics: Iterable[Topic],
        recipe: str,
        storage: StoragePlugin,
        compressed: bool = False,
    ):
        """
        Begin, or go on where an earlier run was interrupted.

        :param recipe: what the bag is made of and how: a run goes on only with the same.
        :raises ValueError: for a bag that is there already, that was begun otherwise, or that
            another process is writing.
        """
        check_free(output)
        self._output, self._recipe = output, recipe
        self._topics = list(dict.fromkeys(topics))  # one, where it was recorded twice
        self._storage, self._compressed = storage, compressed
        self._folder = output.with_name(output.name + PARTIAL)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / 'lock').open('w')
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ValueError(f'another process is writing {output}: let it end') from None
        self._whole: list[dict[str, Any]] = []  # the metadata of each part
        while (self._part(len(self._whole)) / 'metadata.yaml').exists():
            self._whole.append(_read_metadata(self._part(len(self._whole))))
        if any(metadata['custom_data'][RECIPE] != self._recipe for metadata in self._whole):
            self._lock.close()
            raise ValueError(
                f'{self._folder} was begun from another bag or with other options: give those '
                'again to go on, or remove it'
            )
        self._writer: Writer | None = None
        self._connections: dict[Topic, Connection] = {}

    @property
    def tallies(self) -> list[dict[str, Any]]:
        """What `end_part` was told of each whole part."""
        return [json.loads(metadata['custom_data'][TALLY]) for metadata in self._whole]

    def write(self, topic: Topic, time: int, data: bytes | memoryview) -> None:
        """Add a message to the part that is open; the first one opens it."""
        with _sayable(self._output):
            self._open().write(self._connections[topic], time, data)

    def end_part(self, tally: Mapping[str, Any]) -> None:
        """Make whole what was written since the last part; `tally` is kept with it."""
        with _sayable(self._output):
            writer = self._open()
            writer.set_custom_data(TALLY, json.dumps(tally))
            writer.close()
        self._writer = None
        part = self._part(len(self._whole))
        os.replace(self._new / part.name, part)
        self._whole.append(_read_metadata(part))

    def finish(self) -> None:
        """Make the whole parts one bag."""
        with _sayable(self._output):
            if not (self._folder / 'metadata.yaml').exists():
                for number in range(len(self._whole)):
                    for file in self._part(number).glob(f'{self._part(number).name}.*'):
                        os.replace(file, self._folder / file.name)
                text = yaml.safe_dump({INFORMATION: _joined(self._whole)}, sort_keys=False)
                self._new.mkdir(exist_ok=True)
                (self._new / 'metadata.yaml').write_text(text, encoding='utf-8')
                os.replace(self._new / 'metadata.yaml', self._folder / 'metadata.yaml')
            os.replace(self._folder, self._output)
        for name in ['new', *(self._part(number).name for number in range(len(self._whole)))]:
            shutil.rmtree(self._output / name, ignore_errors=True)
        (self._output / 'lock').unlink()

    def close(self) -> None:
        """Let go; of a part that is not whole nothing stays."""
        if self._writer is not None:
            with suppress(Exception):
                self._writer.abort()
        shutil.rmtree(self._new, ignore_errors=True)
        if not self._whole:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    @property
    def _new(self) -> Path:
        """Folder of what is not whole yet."""
        return self._folder / 'new'

    def _part(self, number: int) -> Path:
        return self._folder / f'{self._output.name}_{number}'

    def _open(self) -> Writer:
        """Return the writer of the part that is open, or open the next."""
        if self._writer is None:
            shutil.rmtree(self._new, ignore_errors=True)
            path = self._new / self._part(len(self._whole)).name
            writer = Writer(path, version=VERSION, storage_plugin=self._storage)
            if self._compressed:
                within = self._storage == StoragePlugin.MCAP
                mode = CompressionMode.STORAGE if within else CompressionMode.MESSAGE
                writer.set_compression(mode, CompressionFormat.ZSTD)
            writer.set_custom_data(RECIPE, self._recipe)
            writer.open()
            self._writer = writer
            self._connections = {topic: _add(writer, topic) for topic in self._topics}
        return self._writer


def _add(writer: Writer, topic: Topic) -> Connection:
    if not topic.definition:  # then none is written
        writer.added_types.add(topic.kind)
    return writer.add_connection(
        topic.name,
        topic.kind,
        msgdef=topic.definition,
        rihs01=topic.digest or 'unknown',
        offered_qos_profiles=topic.qos,
    )


def check_free(output: Path) -> None:
    """Refuse to write where something is."""
    if output.suffix in SUFFIXES:
        raise ValueError(f'{output} cannot be written: a bag is a folder, so name it without end')
    if is_bag(output):
        raise ValueError(f'{output} is there already, and whole: remove it or name another')
    if output.exists():
        raise ValueError(f'{output} is there already: name a bag that is not')


@contextmanager
def _sayable(output: Path) -> Iterator[None]:
    """Say in one sentence why nothing more can be written."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        full = 'no space is left' if _is_full(error) else str(error)
        raise OSError(
            f'{output} cannot be written on: {full}; what is whole of it stays, and the same '
            'command goes on from there'
        ) from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return 'full' in str(error)  # Python 3.10 has no code in it


def _read_metadata(bag: Path) -> dict[str, Any]:
    with (bag / 'metadata.yaml').open(encoding='utf-8') as file:
        return yaml.safe_load(file)[INFORMATION]


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the metadata of parts into those of a bag of several files."""
    counts: Counter[int] = Counter()
    for part in parts:
        for number, topic in enumerate(part['topics_with_message_count']):
            counts[number] += topic['message_count']
    filled = [part for part in parts if part['message_count']] or parts[:1]
    starts = [part['starting_time']['nanoseconds_since_epoch'] for part in filled]
    ends = [s + p['duration']['nanoseconds'] for s, p in zip(starts, filled, strict=True)]
    topics = parts[0]['topics_with_message_count']
    return {
        **parts[0],
        'relative_file_paths': [path for part in parts for path in part['relative_file_paths']],
        'starting_time': {'nanoseconds_since_epoch': min(starts)},
        'duration': {'nanoseconds': max(ends) - min(starts)},
        'message_count': sum(part['message_count'] for part in parts),
        'topics_with_message_count': [
            {**topic, 'message_count': counts[number]} for number, topic in enumerate(topics)
        ],
        'files': [file for part in parts for file in part['files']],
        'custom_data': {RECIPE: parts[0]['custom_data'][RECIPE]},
    }
