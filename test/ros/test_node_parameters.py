"""Every parameter on a real graph: what is refused and how it is told, and what a change does."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from dpt_reference import LAYOUTS, random_weights, shapes
from dpt_ros.ros.parameters import AT_START, FIELDS
from dpt_ros.zoo.checkpoints import Architecture, Checkpoint, CHECKPOINTS, RelativeDepth, Resize
from dpt_ros.zoo.keys import OFFICIAL_DEPTH
from dpt_ros.zoo.labels import load_labels
from graph import Graph, image_of, info_of, picture
from lifecycle_msgs.msg import State
import numpy as np
import pytest
from sensor_msgs.msg import Image, PointCloud2
import torch

pytestmark = pytest.mark.graph

LIVE = [name for name, field in FIELDS.items() if field.metadata['live']]
CLASSES = load_labels('worlds_10').names
SMALL = LAYOUTS['tiny']


def bad_values(name: str) -> dict[str, Any]:
    """Return what parameter `name` cannot be, by what is wrong with it."""
    facts, default = FIELDS[name].metadata, FIELDS[name].default
    bad: dict[str, Any] = {'type': 7 if isinstance(default, str) else 'seven'}
    if facts['bounds']:
        low, high = facts['bounds']
        kind = type(default)
        bad['below'], bad['above'] = kind(low - 1 - abs(low)), kind(high + 1 + abs(high))
    if facts['choices']:
        bad['choice'] = 'neither'
    return bad


def allowed(name: str) -> list[str]:
    """Return the words that a refusal must have to say what is allowed."""
    facts, default = FIELDS[name].metadata, FIELDS[name].default
    if facts['choices']:
        return list(facts['choices'])
    if facts['bounds']:
        return [f'{bound:g}' for bound in facts['bounds']]
    kinds = {bool: 'true or false', int: 'whole number', float: 'number', str: 'text'}
    return [kinds.get(type(default), 'list')]


BAD = [(name, wrong) for name in FIELDS for wrong in bad_values(name)]


@pytest.fixture(scope='module')
def module_graph(new_domain):
    graph = Graph(new_domain())
    yield graph
    graph.close()


def says(reason: str, name: str, value: Any) -> bool:
    """Tell whether a refusal names the parameter, what came, and all that is allowed."""
    plain = reason.replace('1e+06', '1000000').replace('1000000.0', '1000000')
    told = [name, str(value).removesuffix('.0'), *allowed(name)]
    return all(word in plain or word in reason for word in told)


@pytest.fixture(scope='module')
def running(module_graph):
    module_graph.start_node()
    return module_graph


@pytest.mark.parametrize(('name', 'wrong'), BAD, ids=lambda value: value)
def test_a_running_node_refuses_what_cannot_be_and_says_what_can(running, name, wrong):
    value = bad_values(name)[wrong]
    (result,) = running.set_parameters(**{name: value})
    assert not result.successful
    assert name in result.reason
    out_of_range = 'out of range' in result.reason  # rclpy's own, which names everything too
    assert out_of_range or says(result.reason, name, value), result.reason


@pytest.mark.parametrize('name', [n for n in FIELDS if n not in LIVE])
def test_a_running_node_says_what_to_do_about_what_it_has_read(running, name):
    facts, default = FIELDS[name].metadata, FIELDS[name].default
    other: Any = {bool: False, int: 7, float: 7.0, str: 'other'}.get(type(default), ['other'])
    if facts['choices']:
        other = next(choice for choice in facts['choices'] if choice != default)
    (result,) = running.set_parameters(**{name: other})
    assert not result.successful
    assert name in result.reason
    assert ('start it with another' if name in AT_START else 'deactivate') in result.reason


def test_a_whole_number_is_taken_for_one_with_a_point(running):
    assert running.set_parameters(depth__color_max=20)[0].successful
    assert running._nodes[0]._chosen.depth_color_max == 20.0


def test_a_parameter_cannot_be_deleted(running):
    (result,) = running.set_parameters(depth__max=None)
    assert not result.successful
    assert result.reason == 'depth.max cannot be deleted: set it to what it shall be'


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'depth__min': 200.0}, 'depth.min (200 m) must be below depth.max (100 m)'),
        ({'points__exclude_classes': 'dragon'}, 'dragon'),
    ],
)
def test_what_cannot_stand_together_is_refused_while_it_runs(running, values, words):
    (result,) = running.set_parameters(**values)
    assert not result.successful
    assert words in result.reason


@pytest.mark.parametrize('wrong', ['type', 'below', 'above', 'choice'])
def test_at_launch_every_value_that_cannot_be_is_told_at_once(graph, capfd, wrong):
    bad = {name: bad_values(name)[wrong] for name in FIELDS if wrong in bad_values(name)}
    graph.start_node(**bad)
    assert graph.state() == State.PRIMARY_STATE_UNCONFIGURED
    errors = [line for line in capfd.readouterr().err.splitlines() if '[ERROR]' in line]
    (told,) = errors
    for name, value in bad.items():
        (sentence,) = [s for s in told.split('; ') if f'{name} must be' in s]
        assert says(sentence, name, value), sentence


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'depth__min': 200.0}, 'depth.min (200 m) must be below depth.max (100 m)'),
        ({'points__labels': True, 'segmentation__model': ''}, 'points.labels needs labels'),
        ({'points__only_classes': 'floor', 'segmentation__model': ''}, 'need labels'),
    ],
)
def test_what_cannot_stand_together_is_told_at_configure(graph, capfd, values, words):
    graph.start_node(**values)
    errors = [line for line in capfd.readouterr().err.splitlines() if '[ERROR]' in line]
    (told,) = errors
    assert words in told


UNREAD = 'set without effect: scale.factor, scale.offset is read with scale.mode fixed, and that '


def test_what_nothing_reads_beside_the_others_is_told_at_configure(graph, capfd):
    graph.start_node(scale__factor=2.0, scale__offset=0.1, scale__camera_height=0.5)
    warnings = [line for line in capfd.readouterr().err.splitlines() if '[WARN]' in line]
    told = [line for line in warnings if 'set without effect' in line]
    assert len(told) == 1 and f'{UNREAD}is model' in told[0]


def test_what_nothing_reads_beside_the_others_is_told_while_it_runs(running, capfd):
    assert running.set_parameters(scale__factor=1.0, depth__max=100.0)[0].successful
    told = 'set without effect: scale.factor is read with scale.mode fixed, and that is model'
    assert capfd.readouterr().err.count(told) == 1
    assert running.set_parameters(depth__max=100.0)[0].successful
    assert 'without effect' not in capfd.readouterr().err


class Effect(NamedTuple):
    """What a live parameter does to the next message of a topic."""

    value: Any
    topic: str
    is_seen: Callable[[Any, Any], bool]  # of the last message before and the first one after
    before: Mapping[str, Any] = MappingProxyType({})  # set before


def numbers(image: Image) -> np.ndarray:
    kinds = {'32FC1': np.float32, '16UC1': np.uint16}
    values = np.frombuffer(image.data, kinds.get(image.encoding, np.uint8))
    return values.reshape(image.height, image.width, -1).squeeze()


def heights(cloud: PointCloud2) -> np.ndarray:
    return np.frombuffer(cloud.data, np.float32).reshape(-1, 8)[:, 2]


def finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


ONE_DEPTH = {'scale.factor': 1e-9, 'scale.offset': 0.5}
ALL_FAR = {'depth.max': 0.2, 'depth.edge_angle': 0.0}
EFFECTS = {
    'output.decimation': Effect(2, 'depth/image', lambda _, new: new.width == 32),
    'depth.encoding': Effect('16UC1', 'depth/image', lambda _, new: new.encoding == '16UC1'),
    'depth.invalid_value': Effect(
        0.0, 'depth/image', lambda _, new: (numbers(new) == 0).any(), ALL_FAR
    ),
    'depth.min': Effect(
        50.0, 'depth/image', lambda old, new: finite(numbers(new)).size < finite(numbers(old)).size
    ),
    'depth.max': Effect(0.2, 'depth/image', lambda _, new: np.isinf(numbers(new)).any()),
    'depth.edge_angle': Effect(
        45.0,
        'depth/image',
        lambda old, new: np.isnan(numbers(new)).sum() > np.isnan(numbers(old)).sum(),
        {'depth.edge_angle': 0.0},
    ),
    'depth.color_max': Effect(
        0.1, 'depth/color', lambda _, new: len(np.unique(numbers(new).reshape(-1, 3), axis=0)) <= 2
    ),
    'segmentation.min_confidence': Effect(
        1.0, 'segmentation/mask', lambda _, new: (numbers(new) == 255).any()
    ),
    'segmentation.overlay_opacity': Effect(
        0.0, 'segmentation/overlay', lambda _, new: (numbers(new) == picture()).all()
    ),
    'points.organized': Effect(False, 'points', lambda _, new: new.height == 1),
    'points.labels': Effect(
        True, 'points', lambda _, new: 'label' in [field.name for field in new.fields]
    ),
    'points.exclude_classes': Effect(
        ', '.join(CLASSES), 'points', lambda _, new: not finite(heights(new)).size
    ),
    'points.only_classes': Effect(
        'sky', 'points', lambda old, new: finite(heights(new)).size < finite(heights(old)).size
    ),
    'points.clearing_distance': Effect(
        30.0, 'points', lambda _, new: (heights(new) == 30.0).any(), ALL_FAR
    ),
    'scale.factor': Effect(  # 2 m before, as offset alone says
        1.0, 'depth/image', lambda _, new: not (numbers(new) == 2).any(), ONE_DEPTH
    ),
    'scale.offset': Effect(
        0.25, 'depth/image', lambda _, new: np.allclose(numbers(new), 4.0), ONE_DEPTH
    ),
}


# What needs a sensor, a frame that hangs, or more than one, to be seen: test_node_scale.py,
# test_node_faults.py, and of the numbers test/perception/scale/ and
# test_every_option_of_scale_reaches_it.
ELSEWHERE = {
    'depth.steadiness',
    'limits.frame_seconds',
    *(name for name in LIVE if name.startswith('scale.')),
}


def test_every_live_parameter_has_an_effect_that_is_looked_at():
    assert set(EFFECTS) | ELSEWHERE == set(LIVE)


@pytest.fixture(scope='module')
def relative(new_domain, tmp_path_factory):
    """Run a small network of relative depth, whose metres come from scale.factor and offset."""
    weights = tmp_path_factory.mktemp('weights') / 'small.pt'
    torch.save(OrderedDict(random_weights(shapes(SMALL, 'depth'))), weights)
    entry = Checkpoint(
        Architecture(SMALL.timm, SMALL.taps, SMALL.widths, width=SMALL.features),
        Resize(64, 64),
        depth=RelativeDepth(),
        keys=OFFICIAL_DEPTH,
        file='small.pt',
        url='https://example.org',
    )
    graph = Graph(new_domain())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHECKPOINTS, 'small', entry)
        graph.start_node(
            depth__model='small',
            segmentation__model='',
            scale__mode='fixed',
            scale__offset=0.5,
            weights_dir=str(weights.parent),
        )
        yield graph
    graph.close()


@pytest.mark.parametrize('name', [n for n in LIVE if n in EFFECTS])
def test_a_change_takes_effect_on_the_next_frame(request, name):
    graph = request.getfixturevalue('relative' if name.startswith('scale.') else 'running')
    effect, camera = EFFECTS[name], graph.camera()
    kind = PointCloud2 if effect.topic == 'points' else Image
    heard = graph.listen(f'dpt/{effect.topic}', kind)
    subject = image_of(picture())
    given = {n: FIELDS[n].default for n in LIVE if not n.startswith('scale.')} | {**effect.before}
    assert all(r.successful for r in graph.set_parameters(**{'depth.max': 100.0, **given}))
    start = graph._stamp
    graph.shoot(camera, subject, info_of(64, 48), lambda: newer(heard, start))
    before, start = newer(heard, start), graph._stamp
    (result,) = graph.set_parameters(**{name: effect.value})
    assert result.successful, result.reason
    graph.shoot(camera, subject, info_of(64, 48), lambda: newer(heard, start))
    assert effect.is_seen(before, newer(heard, start))


def newer(heard: list[Any], stamp: int) -> Any:
    """Return the first message of an image that was shot after another one."""
    return next((m for m in heard if m.header.stamp.sec > 1000 + stamp), None)
