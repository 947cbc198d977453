"""
A recording with the topics of the node added: `label` does one bag, whoever calls it.

The messages are made by the node's own `Processor`; each lies in the bag at the time of its image.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
import json
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from dpt_ros import __version__
from dpt_ros.perception.pipeline import Perception
from dpt_ros.ros.outputs import LABEL_INFO, Output, OUTPUTS
from dpt_ros.ros.parameters import FIELDS, Parameters, read
from dpt_ros.ros.processor import choose_matrix, Job, open_perception, Processor
from dpt_ros.tools.bags import (
    check_free,
    is_compressed,
    new_topic,
    offer,
    open_bag,
    Parts,
    read_messages,
    recipe_of,
    storage_of,
    Topic,
    topics_of,
)
from dpt_ros.tools.cdr import decode_cdr, encode_cdr, type_name, TYPES
from dpt_ros.tools.parameter_file import read_parameter_file
from dpt_ros.tools.predict import choose_networks
from dpt_ros.zoo.labels import Labels
from dpt_ros.zoo.store import checkpoint
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

IMAGES: dict[str, type] = {type_name(kind): kind for kind in (Image, CompressedImage)}
INFOS: dict[str, type] = {type_name(CameraInfo): CameraInfo}
MODELS = ('depth.model', 'segmentation.model')
LABEL_INFO_TYPE = 'vision_msgs/msg/LabelInfo'
# What the networks are opened with.
NETWORKS = (
    'depth_model',
    'segmentation_model',
    'weights_dir',
    'device',
    'precision',
    'runtime',
    'cpu_threads',
    'network_side',
)

Show = Callable[[int, int], Any]


@dataclass(frozen=True)
class Order:
    """One bag, and what is to become of it; it can travel to other processes."""

    bag: Path
    output: Path
    image: str  # its topic; empty: the only one there is
    camera_info: str  # its topic; empty: beside the image, if it is there
    parameters: Parameters
    node: str = '/dpt'  # whose topics they become
    outputs: tuple[str, ...] = ()  # names and patterns below the node; empty: see `_outputs`
    storage: str = ''  # 'mcap' or 'sqlite3'; empty: as the bag
    split: int = 200  # images in each file of the output


@dataclass(frozen=True)
class Tally:
    """What was done with the messages of a bag, or of a part of it."""

    messages: int = 0  # of the bag
    images: int = 0  # among them
    left_out: int = 0  # of these, without results
    why: str = ''  # the first of them is
    pointless: int = 0  # images with results but no points, though these were wanted
    why_pointless: str = ''

    def __add__(self, other: 'Tally') -> 'Tally':
        """Join two parts."""
        return Tally(
            self.messages + other.messages,
            self.images + other.images,
            self.left_out + other.left_out,
            self.why or other.why,
            self.pointless + other.pointless,
            self.why_pointless or other.why_pointless,
        )


@dataclass(frozen=True)
class Labelled:
    """What became of an order."""

    bag: str
    output: str
    images: int = 0  # on the topic
    left_out: int = 0  # of these, without results
    notes: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()  # added
    seconds: float = 0.0
    images_per_second: float = 0.0  # of those that were computed now
    error: str = ''  # why there is no output


def choose_parameters(
    file: Path | None,
    node: str,
    *,
    model: str = '',
    segmentation_model: str = '',
    weights: str = '',
    device: str = '',
    threads: int,
) -> Parameters:
    """
    Join a parameter file of the node with what the command line says, which wins.

    :param model: see `predict.choose_networks`; needed where the file names no network.
    :param threads: CPU cores; 0: as the file says, else as the node does.
    :raises ValueError: for what cannot be, alone or together.
    """
    values = read_parameter_file(file, node) if file else {}
    if model:
        chosen = choose_networks(model, segmentation_model, weights)
        values |= dict(zip(MODELS, chosen, strict=True))
    elif segmentation_model:
        values['segmentation.model'] = segmentation_model
    elif values.keys().isdisjoint(MODELS):
        raise ValueError('name a network: give --model, or --params with depth.model')
    if weights:
        values['weights_dir'] = weights
    if device:
        values['device'] = device
    if threads:
        values['cpu_threads'] = threads
    depth = values.get('depth.model')
    if depth and 'scale.mode' not in values and not checkpoint(depth).is_metric:
        values['scale.mode'] = 'none'
    return read(values)


def label(order: Order, show: Show | None = None) -> Labelled:
    """
    Write a bag with all that is in another, and beside each image what the node makes of it.

    What was interrupted goes on where the last whole part ends.

    :param show: is given how many images are done, and how many there are.
    :raises ValueError: for a bag, topics or parameters that will not do.
    :raises OSError: for weights that are missing, and where nothing more can be written.
    """
    check_free(order.output)
    with open_bag(order.bag) as reader:
        image, info = _inputs(reader, order)
        perception = _perception(order.parameters)
        camera = _Camera(perception, order, image, info)
        topics = topics_of(reader)
        _check_topics(order, topics.values(), camera.topics)
        storage = StoragePlugin[order.storage.upper()] if order.storage else storage_of(reader)
        every = [*topics.values(), *camera.topics]
        _check_definitions(order, every, storage)
        recipe, compressed = _recipe(reader, order), is_compressed(reader)
        with closing(Parts(order.output, every, recipe, storage, compressed)) as parts:
            before = _whole(parts)
            began = perf_counter()
            tally = _write(reader, topics, camera, parts, order, show)
            seconds = perf_counter() - began
            parts.finish()
    return Labelled(
        str(order.bag),
        str(order.output),
        tally.images,
        tally.left_out,
        tuple(_notes(tally)),
        tuple(topic.name for topic in camera.topics),
        seconds,
        (tally.images - before.images) / seconds,
    )


def is_done(order: Order) -> bool:
    """Tell whether the same order was carried out before, to its end."""
    recipe = recipe_of(order.output)
    if recipe is None:
        return False
    with open_bag(order.bag) as reader:
        return recipe == _recipe(reader, order)


class _Camera:
    """The work of the node for the images of one topic."""

    def __init__(
        self, perception: Perception, order: Order, image: Connection, info: Connection | None
    ):
        """Choose what is made of each image."""
        self._processor, self._parameters = Processor(perception), order.parameters
        self.image, self.info = image, info
        self._matrix = choose_matrix(image.topic, order.parameters.camera_use)
        self._newest: CameraInfo | None = None
        self._outputs, labels = _outputs(perception, order, info is not None)
        reliable = order.parameters.qos_output == 'reliable'
        self._topics = {
            output.topic: new_topic(
                _resolved(output.topic, order.node), type_name(output.message), offer(2, reliable)
            )
            for output in self._outputs
        }
        self._labels = perception.labels if labels else None
        if self._labels is not None:
            self._topics[LABEL_INFO] = new_topic(
                _resolved(LABEL_INFO, order.node), LABEL_INFO_TYPE, offer(1, latched=True)
            )

    @property
    def topics(self) -> list[Topic]:
        """What is added."""
        return list(self._topics.values())

    def remember(self, data: bytes) -> None:
        """Take the camera_info that holds from now on."""
        self._newest = decode_cdr(data, CameraInfo)

    def tell_labels(self, time: int) -> Iterator[tuple[Topic, memoryview]]:
        """Name the classes, once; nanoseconds."""
        if self._labels is not None:
            threshold = self._parameters.segmentation_min_confidence
            yield self._topics[LABEL_INFO], _label_info(self._labels, threshold, time)

    def look(self, data: bytes) -> tuple[list[tuple[Topic, memoryview]], Tally]:
        """Make of an image what is wanted of it."""
        try:
            image: Any = decode_cdr(data, IMAGES[self.image.msgtype])
        except ValueError as error:
            return [], Tally(images=1, left_out=1, why=str(error))
        job = Job('', image, self._newest, self._matrix, self._outputs)
        (outcome,) = self._processor([job], self._parameters)
        if isinstance(outcome.error, ValueError):  # as the node, on to the next
            return [], Tally(images=1, left_out=1, why=str(outcome.error))
        if outcome.error is not None:
            raise outcome.error
        made = [(self._topics[name], encode_cdr(m)) for name, m in outcome.messages.items()]
        lacks = '~/points' in self._topics and '~/points' not in outcome.messages
        why = str(outcome.misfit or outcome.hint) if lacks else ''
        self._processor.give_back(outcome)
        return made, Tally(images=1, pointless=int(lacks), why_pointless=why)


def _write(
    reader: AnyReader,
    topics: Mapping[int, Topic],
    camera: _Camera,
    parts: Parts,
    order: Order,
    show: Show | None,
) -> Tally:
    """Write what the whole parts lack, and return what all of them hold."""
    if camera.info is not None:  # one that comes late holds for the images before it too
        for _, _, data in islice(read_messages(reader, [camera.info]), 1):
            camera.remember(data)
    done, part = _whole(parts), Tally()
    already = done.messages

    def end() -> None:
        nonlocal done, part
        if (done + part).images == (done + part).left_out:
            raise ValueError(f'no image on {camera.image.topic} can be used: {part.why}')
        parts.end_part(asdict(part))
        done, part = done + part, Tally()

    for number, (connection, time, data) in enumerate(read_messages(reader)):
        if camera.info is not None and connection.id == camera.info.id:
            camera.remember(data)
        if number < already:
            continue
        is_image = connection.id == camera.image.id
        if is_image and part.images == order.split:
            end()
        parts.write(topics[connection.id], time, data)
        part += Tally(messages=1)
        if is_image:
            made, looked = camera.look(data)
            if not (done + part).images:
                made = [*camera.tell_labels(time), *made]
            for topic, content in made:
                parts.write(topic, time, content)
            part += looked
            if show is not None:
                show((done + part).images, camera.image.msgcount)
    if part.messages:
        end()
    return done


def _recipe(reader: AnyReader, order: Order) -> str:
    """Write down what decides what an order gives; parameters as far as they are not defaults."""
    parameters = {
        name: getattr(order.parameters, field.name)
        for name, field in FIELDS.items()
        if name in MODELS or repr(getattr(order.parameters, field.name)) != repr(field.default)
    }
    facts = {
        'dpt_ros': __version__,
        'bag': order.bag.name,
        'messages': reader.message_count,
        'start': reader.start_time,
        'image': order.image,
        'camera_info': order.camera_info,
        'node': order.node,
        'outputs': order.outputs,
        'storage': order.storage,
        'split': order.split,
        'parameters': parameters,
    }
    return json.dumps(facts)


def _whole(parts: Parts) -> Tally:
    return sum((Tally(**tally) for tally in parts.tallies), Tally())


def _notes(tally: Tally) -> Iterator[str]:
    if tally.left_out:
        yield f'{tally.left_out} of {tally.images} images are left out: {tally.why}'
    if tally.pointless:
        yield f'{tally.pointless} of {tally.images} images have no points: {tally.why_pointless}'


def _inputs(reader: AnyReader, order: Order) -> tuple[Connection, Connection | None]:
    """Find the images, and their camera_info if there is one."""
    image = _find(reader, order, '--image', order.image, IMAGES)
    beside = image.topic.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'
    if not order.camera_info and all(c.topic != beside for c in reader.connections):
        return image, None
    return image, _find(reader, order, '--camera-info', order.camera_info or beside, INFOS)


def _find(
    reader: AnyReader, order: Order, option: str, topic: str, kinds: Collection[str]
) -> Connection:
    """Find a topic of one of the types; where none is named, the only one."""
    fitting = [c for c in reader.connections if c.msgtype in kinds]
    names = sorted({c.topic for c in fitting})
    there = f'it has {", ".join(names)}' if names else 'it has none'
    wanted = ' or '.join(kinds)
    if not topic:
        if len(names) == 1:
            return fitting[0]
        raise ValueError(f'{order.bag}: give {option} a topic of {wanted}; {there}')
    for connection in reader.connections:
        if connection.topic == topic:
            if connection.msgtype not in kinds:
                raise ValueError(
                    f'{topic} of {order.bag} is {connection.msgtype} and {option} takes {wanted}; '
                    f'{there}'
                )
            if not connection.msgcount:
                raise ValueError(f'there is no message on {topic} in {order.bag}')
            return connection
    raise ValueError(f'{order.bag} has no topic {topic}; of {wanted} {there}')


@lru_cache(maxsize=1)
def _networks(chosen: Parameters) -> Perception:
    return open_perception(chosen)


def _perception(parameters: Parameters) -> Perception:
    """Open the networks, or take those of the last bag if they are the same."""
    same = {name: getattr(parameters, name) for name in NETWORKS}
    return _networks(replace(Parameters(), **same))


def _outputs(perception: Perception, order: Order, calibrated: bool) -> tuple[list[Output], bool]:
    """Choose the outputs, and whether the names of the classes are told."""
    able = [o for o in OUTPUTS if o.needs <= perception.products]
    if not calibrated:
        able = [o for o in able if o.message is not CameraInfo and 'points' not in o.needs]
    names = [_short(o.topic) for o in able]
    if perception.labels is not None:
        names.append(_short(LABEL_INFO))
    idle = []  # what says nothing more beside the others
    if 'depth' in perception.products:
        idle.append('inverse_depth/')
    if order.parameters.output_decimation == 1:
        idle.append('color/')
    default = [name for name in names if not name.startswith(tuple(idle))]
    for pattern in order.outputs:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"there is no output '{pattern}'; there are {', '.join(names)}")
    chosen = (
        default
        if not order.outputs
        else [
            name for name in names if any(fnmatchcase(name, pattern) for pattern in order.outputs)
        ]
    )
    return [o for o in able if _short(o.topic) in chosen], _short(LABEL_INFO) in chosen


def _short(topic: str) -> str:
    return topic.removeprefix('~/')


def _resolved(topic: str, node: str) -> str:
    return f'{node}/{_short(topic)}'


def _check_topics(order: Order, there: Iterable[Topic], added: Iterable[Topic]) -> None:
    both = {topic.name for topic in there} & {topic.name for topic in added}
    if both:
        raise ValueError(
            f'{order.bag} has {", ".join(sorted(both))} already: choose another --name or '
            '--namespace for what is added'
        )


def _check_definitions(order: Order, topics: Iterable[Topic], storage: StoragePlugin) -> None:
    lacking = sorted({topic.kind for topic in topics if not topic.definition})
    if lacking and storage == StoragePlugin.MCAP:
        raise ValueError(
            f'{order.bag} does not tell what {", ".join(lacking)} is, and MCAP has to: choose '
            '--storage sqlite3'
        )


def _label_info(labels: Labels, threshold: float, time: int) -> memoryview:
    """Name the classes as the node does, also where vision_msgs is not installed."""
    stamp = SimpleNamespace(sec=time // 10**9, nanosec=time % 10**9)
    classes = [
        SimpleNamespace(class_id=number, class_name=name)
        for number, name in enumerate(labels.names)
    ]
    header = SimpleNamespace(stamp=stamp, frame_id='')
    told = SimpleNamespace(header=header, class_map=classes, threshold=threshold)
    return TYPES.serialize_cdr(told, LABEL_INFO_TYPE)
