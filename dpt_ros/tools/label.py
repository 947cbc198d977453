"""
A recording with the topics of the node added: `label` does one bag, whoever calls it.

The messages are made by the node's own `Processor`; each lies in the bag at the time of its image.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
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
from dpt_ros.perception.scale.scaler import WAITING
from dpt_ros.ros.gravity import Gravity
from dpt_ros.ros.inputs import INPUTS
from dpt_ros.ros.messages import seconds_of
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
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

IMAGES: dict[str, type] = {type_name(kind): kind for kind in (Image, CompressedImage)}
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

# What images may lack.
LEFT_OUT, NO_METRES, NO_POINTS = 'are left out', 'have no metres', 'have no points'
STRAY = 'come with measured depth that is not used'

Show = Callable[[int, int], Any]


@dataclass(frozen=True)
class Order:
    """One bag, and what is to become of it; it can travel to other processes."""

    bag: Path
    output: Path
    image: str  # its topic; empty: the only one there is beside `reference_depth`
    camera_info: str  # its topic; empty: beside the image, if it is there
    parameters: Parameters
    node: str = '/dpt'  # whose topics they become
    outputs: tuple[str, ...] = ()  # names and patterns below the node; empty: see `_outputs`
    storage: str = ''  # 'mcap' or 'sqlite3'; empty: as the bag
    split: int = 200  # images in each file of the output
    reference_depth: str = ''  # topic of measured depth; empty: the only one beside `image`
    imu: str = ''  # its topic; empty: the only one there is


@dataclass(frozen=True)
class Tally:
    """What was done with the messages of a bag, or of a part of it."""

    messages: int = 0  # of the bag
    images: int = 0  # among them
    lacking: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # how many, the first why

    def __add__(self, other: 'Tally') -> 'Tally':
        """Join two parts."""
        lacking = dict(self.lacking)
        for what, (count, why) in other.lacking.items():
            before, first = lacking.get(what, (0, why))
            lacking[what] = before + count, first
        return Tally(self.messages + other.messages, self.images + other.images, lacking)

    @property
    def left_out(self) -> int:
        """Images without results."""
        return self.lacking.get(LEFT_OUT, (0, ''))[0]


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
        inputs = _inputs(reader, order)
        perception = _perception(order.parameters)
        camera = _Camera(perception, order, inputs)
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


@dataclass(frozen=True)
class _Inputs:
    """The topics of a bag that the node would listen to."""

    image: Connection
    info: Connection | None  # None: there is none
    reference: Connection | None  # None: nothing is fitted to it, and likewise
    imu: Connection | None


class _Camera:
    """The work of the node for the images of one topic."""

    def __init__(self, perception: Perception, order: Order, inputs: _Inputs):
        """Choose what is made of each image."""
        self._processor, self._parameters = Processor(perception), order.parameters
        self.inputs = inputs
        self._matrix = choose_matrix(inputs.image.topic, order.parameters.camera_use)
        self._newest: CameraInfo | None = None
        self._references: deque[Image] = deque(maxlen=WAITING)
        self._gravity = Gravity()
        self._outputs, labels = _outputs(perception, order, inputs.info is not None)
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

    def hear(self, connection: Connection, data: bytes) -> None:
        """Take what the images to come are joined with, if it is that."""
        if connection == self.inputs.info:
            self._newest = decode_cdr(data, CameraInfo)
        elif connection == self.inputs.reference:
            self._references.append(decode_cdr(data, Image))
        elif connection == self.inputs.imu:
            self._gravity.put(decode_cdr(data, Imu))

    def tell_labels(self, time: int) -> Iterator[tuple[Topic, memoryview]]:
        """Name the classes, once; nanoseconds."""
        if self._labels is not None:
            threshold = self._parameters.segmentation_min_confidence
            yield self._topics[LABEL_INFO], _label_info(self._labels, threshold, time)

    def look(self, data: bytes) -> tuple[list[tuple[Topic, memoryview]], Tally]:
        """Make of an image what is wanted of it."""
        try:
            image: Any = decode_cdr(data, IMAGES[self.inputs.image.msgtype])
        except ValueError as error:
            return [], Tally(images=1, lacking={LEFT_OUT: (1, str(error))})
        references, down = list(self._references), self._gravity.down(seconds_of(image.header))
        self._references.clear()
        job = Job('', image, self._newest, self._matrix, self._outputs, references, down)
        (outcome,) = self._processor([job], self._parameters)
        if isinstance(outcome.error, ValueError):  # as the node, on to the next
            return [], Tally(images=1, lacking={LEFT_OUT: (1, str(outcome.error))})
        if outcome.error is not None:
            raise outcome.error
        made = [(self._topics[name], encode_cdr(m)) for name, m in outcome.messages.items()]
        lacking = {}
        if outcome.stray is not None:
            lacking[STRAY] = 1, str(outcome.stray)
        if outcome.scale is not None and outcome.scale.lost:
            lacking[NO_METRES] = 1, outcome.scale.lost
        elif '~/points' in self._topics and '~/points' not in outcome.messages:
            lacking[NO_POINTS] = 1, str(outcome.misfit or outcome.hint)
        self._processor.give_back(outcome)
        return made, Tally(images=1, lacking=lacking)


def _write(
    reader: AnyReader,
    topics: Mapping[int, Topic],
    camera: _Camera,
    parts: Parts,
    order: Order,
    show: Show | None,
) -> Tally:
    """Write what the whole parts lack, and return what all of them hold."""
    image, info = camera.inputs.image, camera.inputs.info
    if info is not None:  # one that comes late holds for the images before it too
        for _, _, data in islice(read_messages(reader, [info]), 1):
            camera.hear(info, data)
    done, part = _whole(parts), Tally()
    already = done.messages

    def end() -> None:
        nonlocal done, part
        if (done + part).images == (done + part).left_out:
            _, why = part.lacking[LEFT_OUT]
            raise ValueError(f'no image on {image.topic} can be used: {why}')
        parts.end_part(asdict(part))
        done, part = done + part, Tally()

    for number, (connection, time, data) in enumerate(read_messages(reader)):
        camera.hear(connection, data)
        if number < already:
            continue
        is_image = connection == image
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
                show((done + part).images, image.msgcount)
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
        'reference_depth': order.reference_depth,
        'imu': order.imu,
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
    for what, (count, why) in tally.lacking.items():
        yield f'{count} of {tally.images} images {what}: {why}'


def _inputs(reader: AnyReader, order: Order) -> _Inputs:
    """Find the images, and what the node would join them with."""
    image = _find(reader, order, 'image', IMAGES, other=order.reference_depth)
    beside = image.topic.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'
    info = None
    if order.camera_info or any(c.topic == beside for c in reader.connections):
        info = _find(reader, order, 'camera_info', [type_name(CameraInfo)], default=beside)
    reference, imu = (_measured(reader, order, name, image) for name in ('reference_depth', 'imu'))
    return _Inputs(image, info, reference, imu)


def _measured(reader: AnyReader, order: Order, name: str, image: Connection) -> Connection | None:
    """Find an input that the node would listen to; of one that it would not a topic is refused."""
    (row,) = (row for row in INPUTS if row.topic == name)
    if row.wanted(order.parameters):
        return _find(reader, order, name, [type_name(row.message)], other=image.topic)
    if getattr(order, name):
        mode, gravity = order.parameters.scale_mode, order.parameters.scale_gravity
        raise ValueError(
            f"nothing reads {_option(name)} with scale.mode '{mode}' and scale.gravity "
            f"'{gravity}': set them in --params, or leave it out"
        )
    return None


def _find(
    reader: AnyReader,
    order: Order,
    name: str,
    kinds: Collection[str],
    *,
    default: str = '',
    other: str = '',
) -> Connection:
    """
    Find the topic of an input.

    :param name: of it in the order.
    :param kinds: the types that it may have.
    :param default: the topic where the order names none; empty: the only one but `other`.
    """
    option, topic = _option(name), getattr(order, name) or default
    fitting = [c for c in reader.connections if c.msgtype in kinds and c.topic != other]
    names = sorted({c.topic for c in fitting})
    there = f'it has {", ".join(names)}' if names else 'it has none'
    wanted = ' or '.join(kinds)
    if not topic and len(names) != 1:
        raise ValueError(f'{order.bag}: give {option} a topic of {wanted}; {there}')
    topic = topic or names[0]
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


def _option(name: str) -> str:
    return '--' + name.replace('_', '-')


@lru_cache(maxsize=1)
def _networks(chosen: Parameters) -> Perception:
    return open_perception(chosen)


def _perception(parameters: Parameters) -> Perception:
    """Open the networks, or take those of the last bag if they are the same."""
    same = {name: getattr(parameters, name) for name in NETWORKS}
    perception = _networks(replace(Parameters(), **same))
    perception.forget()  # what that bag told of scales
    return perception


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
