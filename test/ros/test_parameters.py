"""Parameters: one table, from which all else follows; every text that refuses a value."""

import ast
from collections.abc import Iterator
from dataclasses import fields
import math
import re

from dpt_ros.perception.products import Options
from dpt_ros.perception.runtime import PRECISIONS, RUNTIMES
from dpt_ros.perception.scale.scaler import GRAVITY, MODES
from dpt_ros.ros.parameters import (
    AT_START,
    check,
    check_moment,
    descriptor,
    FIELDS,
    given,
    options,
    Parameters,
    read,
    unread,
)
import pytest
from test_architecture import PACKAGE

BOUNDED = [name for name, field in FIELDS.items() if field.metadata['bounds']]
CHOOSING = [name for name, field in FIELDS.items() if field.metadata['choices']]
LIVE = {name for name, field in FIELDS.items() if field.metadata['live']}
IN_OPTIONS = {field.name for field in fields(Options)}


def test_no_name_stands_twice():
    assert len(FIELDS) == len(fields(Parameters))


@pytest.mark.parametrize('name', FIELDS)
def test_a_field_is_called_as_its_parameter(name: str):
    assert FIELDS[name].name == name.replace('.', '_')


@pytest.mark.parametrize('name', FIELDS)
def test_every_default_passes_its_own_check(name: str):
    check(name, FIELDS[name].default)


def test_the_defaults_stand_together():
    assert read({}) == Parameters()


def test_all_parameters_read_back_as_they_are():
    values = {name: getattr(Parameters(), field.name) for name, field in FIELDS.items()}
    again = read(values)
    assert repr(again) == repr(Parameters())  # NaN is not equal to itself


def test_a_value_read_is_the_value_given():
    chosen = read({'depth.max': 30.0, 'camera.use': 'P', 'cpu_threads': 4, 'autostart': False})
    assert (chosen.depth_max, chosen.camera_use, chosen.cpu_threads) == (30.0, 'P', 4)
    assert chosen.autostart is False


def test_parameters_do_not_change():
    with pytest.raises(AttributeError):
        Parameters().depth_max = 3.0


@pytest.mark.parametrize('name', FIELDS)
def test_ros_is_told_the_name_and_the_description(name: str):
    described = descriptor(name)
    assert described.name == name
    assert described.description.startswith(FIELDS[name].metadata['description'])
    assert described.description.endswith('.')


@pytest.mark.parametrize('name', BOUNDED)
def test_ros_is_told_the_bounds(name: str):
    whole = isinstance(FIELDS[name].default, int)
    described = descriptor(name)
    (told,) = described.integer_range if whole else described.floating_point_range
    assert (told.from_value, told.to_value) == FIELDS[name].metadata['bounds']
    assert len(described.integer_range) + len(described.floating_point_range) == 1


@pytest.mark.parametrize('name', CHOOSING)
def test_ros_is_told_the_choices(name: str):
    choices = ', '.join(FIELDS[name].metadata['choices'])
    assert f'One of: {choices}.' in descriptor(name).description


@pytest.mark.parametrize('name', FIELDS)
def test_ros_is_told_when_a_parameter_is_read(name: str):
    told = descriptor(name).description
    assert ('Read when the node is configured.' in told) == (name not in LIVE | AT_START)
    assert ('Read once, at start.' in told) == (name in AT_START)


@pytest.mark.parametrize('name', [name for name in FIELDS if name not in BOUNDED])
def test_what_has_no_bounds_tells_none(name: str):
    described = descriptor(name)
    assert not described.integer_range and not described.floating_point_range


@pytest.mark.parametrize('name', [n for n, f in FIELDS.items() if type(f.default) in (int, float)])
def test_every_number_has_bounds_or_a_reason_not_to(name: str):
    assert name in BOUNDED or name == 'depth.invalid_value'  # NaN lies in no range


@pytest.mark.parametrize('name', BOUNDED)
def test_the_bounds_themselves_are_allowed(name: str):
    kind = type(FIELDS[name].default)
    for bound in FIELDS[name].metadata['bounds']:
        check(name, kind(bound))


@pytest.mark.parametrize('name', BOUNDED)
@pytest.mark.parametrize('end', [0, 1])
def test_what_is_out_of_bounds_is_refused(name: str, end: int):
    bounds, kind = FIELDS[name].metadata['bounds'], type(FIELDS[name].default)
    value = kind(bounds[end] + (-1, 1)[end] * (1 + abs(bounds[end])))
    text = f'{name} must be between {bounds[0]:g} and {bounds[1]:g}, got {value}'
    with pytest.raises(ValueError, match=f'^{re.escape(text)}$'):
        check(name, value)


@pytest.mark.parametrize('name', [n for n in BOUNDED if isinstance(FIELDS[n].default, float)])
def test_what_is_no_number_is_out_of_bounds(name: str):
    with pytest.raises(ValueError, match=f'{name} must be between .*, got nan'):
        check(name, math.nan)


@pytest.mark.parametrize('name', CHOOSING)
def test_what_is_no_choice_is_refused(name: str):
    choices = ', '.join(FIELDS[name].metadata['choices'])
    with pytest.raises(ValueError, match=f"^{name} must be one of {choices}, got 'other'$"):
        check(name, 'other')


@pytest.mark.parametrize(
    ('name', 'value', 'complaint'),
    [
        ('depth.max', '20', "depth.max must be a number between 0.1 and 100000, got '20' (text)"),
        (
            'depth.max',
            True,
            'depth.max must be a number between 0.1 and 100000, got True (true or',
        ),
        ('cpu_threads', 2.0, 'cpu_threads must be a whole number between 1 and 256, got 2.0 (a n'),
        ('autostart', 1, 'autostart must be true or false, got 1 (a whole number)'),
        ('autostart', 'true', "autostart must be true or false, got 'true' (text)"),
        ('camera.use', 0, 'camera.use must be text, one of auto, K, P, got 0 (a whole number)'),
        ('depth.model', None, 'depth.model must be text, got nothing'),
        ('depth.model', ['a'], "depth.model must be text, got ['a'] (a list)"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: object, complaint: str):
    with pytest.raises(ValueError, match=f'^{re.escape(complaint)}'):
        check(name, value)


@pytest.mark.parametrize('given', [None, [], ['']])  # None: what ROS makes of []
def test_no_names_are_one_camera_without_a_prefix(given: list[str] | None):
    assert read({'cameras': given}).cameras == ('',)


def test_the_names_of_cameras_are_kept_in_their_order():
    assert read({'cameras': ['rear', 'front_2']}).cameras == ('rear', 'front_2')


@pytest.mark.parametrize(
    ('given', 'complaint'),
    [
        ('front', r"cameras must be a list of texts, got 'front'; write \['a', 'b'\]"),
        ([1, 2], r'cameras must be a list of texts, got \[1, 2\]'),
        (['front', 'front'], "cameras names 'front' twice"),
        (['front', ''], "cameras names '', which no topic can begin with"),
        (['2nd'], "cameras names '2nd', which .* not a digit first"),
        (['front left'], "cameras names 'front left', which"),
        (['a/b'], "cameras names 'a/b', which"),
    ],
)
def test_names_that_topics_cannot_begin_with_are_refused(given: object, complaint: str):
    with pytest.raises(ValueError, match=f'^{complaint}'):
        read({'cameras': given})


def test_a_whole_number_is_a_number():
    chosen = read({'depth.max': 20})
    assert (chosen.depth_max, type(chosen.depth_max)) == (20.0, float)


@pytest.mark.parametrize(
    ('values', 'complaint'),
    [
        ({'points.labels': True}, 'points.labels needs labels: name a network in segmentation'),
        ({'points.exclude_classes': 'floor'}, 'points.exclude_classes and .* need labels'),
        ({'points.only_classes': 'floor'}, 'points.only_classes need labels: name a network'),
    ],
)
def test_what_needs_labels_is_refused_without(values: dict[str, object], complaint: str):
    read(values)
    with pytest.raises(ValueError, match=complaint):
        read({**values, 'segmentation.model': ''})


def test_a_class_cannot_be_excluded_and_alone():
    chosen = {'points.exclude_classes': 'chair, floor', 'points.only_classes': 'wall, floor'}
    with pytest.raises(ValueError, match="both name 'floor': leave it out of one of them"):
        read(chosen)


NOW = {name: field.default for name, field in FIELDS.items()}


@pytest.mark.parametrize('name', FIELDS)
def test_what_is_so_already_comes_never_too_late(name: str):
    check_moment(NOW, {name: NOW[name]}, configured=True)


@pytest.mark.parametrize('name', [name for name in FIELDS if name not in LIVE | AT_START])
def test_what_is_read_at_configure_is_refused_after_it_with_what_to_do(name: str):
    changed = {name: ('a',) if name == 'cameras' else 7 if NOW[name] != 7 else 8}
    check_moment(NOW, changed, configured=False)
    with pytest.raises(ValueError, match=f'^{name} is read when.*deactivate and cleanup the no'):
        check_moment(NOW, changed, configured=True)


@pytest.mark.parametrize('configured', [False, True])
def test_what_is_read_at_start_says_so(configured: bool):
    with pytest.raises(ValueError, match=r'^autostart is read once, at start: end the node'):
        check_moment(NOW, {'autostart': False}, configured)


@pytest.mark.parametrize('value', [math.nan, 0.0, -1.0, math.inf])
def test_any_number_may_stand_for_invalid_depth(value: float):
    check('depth.invalid_value', value)


def test_reading_refuses_what_checking_refuses():
    with pytest.raises(ValueError, match=r'output.decimation must be between 1 and 16, got 0'):
        read({'output.decimation': 0})


def test_no_network_at_all_is_refused():
    with pytest.raises(ValueError, match=r'both empty, so there is nothing to do: name at least'):
        read({'depth.model': '', 'segmentation.model': ''})


@pytest.mark.parametrize('only', ['depth.model', 'segmentation.model'])
def test_one_network_is_enough(only: str):
    other = ({'depth.model', 'segmentation.model'} - {only}).pop()
    read({only: 'dpt_tiny', other: ''})


@pytest.mark.parametrize('far', [1.0, 0.5])
def test_a_range_of_depth_without_room_is_refused(far: float):
    complaint = rf'depth.min \(1 m\) must be below depth.max \({far:g} m\)'
    with pytest.raises(ValueError, match=complaint):
        read({'depth.min': 1.0, 'depth.max': far})


def test_live_parameters_are_those_that_a_frame_is_computed_by():
    # Others would change without any effect; these are asked anew for every frame, the watchdog's
    # every second.
    assert {FIELDS[name].name for name in LIVE} == IN_OPTIONS | {'limits_frame_seconds'}


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'scale.factor': 2.0}, ['scale.factor is read with scale.mode fixed, and that is model']),
        ({'scale.factor': 2.0, 'scale.mode': 'fixed'}, []),
        ({'scale.factor': 1.0}, []),
        (
            {'scale.jump': 1, 'scale.camera_roll': 5.0, 'scale.gravity': 'imu'},
            [
                'scale.jump is read with scale.mode reference or ground, and that is model',
                'scale.camera_roll, scale.gravity is read with scale.mode ground, and that is '
                'model',
            ],
        ),
        ({'scale.jump': 1.0, 'scale.camera_roll': 5.0, 'scale.mode': 'ground'}, []),
    ],
)
def test_what_is_set_and_not_read_is_told(values: dict[str, object], told: list[str]):
    everything = {name: field.default for name, field in FIELDS.items()} | values
    assert unread(everything, given(everything)) == told


@pytest.mark.parametrize('name', [n for n, f in FIELDS.items() if f.metadata['read_with']])
def test_what_a_parameter_is_read_with_can_be(name: str):
    other, *wanted = FIELDS[name].metadata['read_with']
    assert wanted and set(wanted) < set(FIELDS[other].metadata['choices'])


def test_options_are_the_values_of_the_parameters():
    chosen = read({'output.decimation': 4, 'points.organized': False, 'scale.factor': 2.5})
    made = options(chosen)
    for name in IN_OPTIONS - {'depth_invalid_value'}:  # NaN
        assert getattr(made, name) == getattr(chosen, name)
    assert (made.output_decimation, made.points_organized, made.scale_factor) == (4, False, 2.5)


def test_the_choices_are_those_that_the_code_knows():
    assert FIELDS['scale.mode'].metadata['choices'] == MODES
    assert FIELDS['scale.gravity'].metadata['choices'] == GRAVITY
    assert FIELDS['precision'].metadata['choices'] == ('auto', *PRECISIONS)
    assert FIELDS['runtime'].metadata['choices'] == RUNTIMES


def reads() -> Iterator[tuple[str, str, str]]:
    """Yield file, object and name of what code other than the table reads of objects."""
    for file in PACKAGE.rglob('*.py'):
        if file.name == 'parameters.py':
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Attribute(ctx=ast.Load()):
                    yield file.name, ast.unparse(node.value), node.attr
                case ast.Call(
                    func=ast.Attribute(attr='get_parameter'), args=[ast.Constant(value=name)]
                ):
                    yield file.name, 'get_parameter', name


READS = set(reads())


@pytest.mark.parametrize('name', FIELDS)
def test_every_parameter_is_read(name: str):
    field = FIELDS[name].name
    if field in IN_OPTIONS:
        readers = [file for file, thing, what in READS if (thing, what) == ('options', field)]
        assert {'pipeline.py', 'products.py'} & {*readers}
    else:
        holders = re.compile(r'(.*\.)?_?(chosen|parameters)|Parameters\(\)')
        assert any(
            (holders.fullmatch(thing) and what == field)
            or (thing == 'get_parameter' and what == name)
            for file, thing, what in READS
            if not file.startswith('demo')  # the demo is not the node
        )
