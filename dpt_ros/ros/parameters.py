"""
The parameters of the node: one field each, from which all else is derived.

A field of `Parameters` is the only place that knows a name, a default, its bounds and what it
does. Declaration, checks, `config/dpt.yaml` and `docs/parameters.md` follow from it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, Field, field, fields
from functools import lru_cache
import math
import re
import reprlib
from typing import Any

from dpt_ros.perception.products import class_names, Options
from dpt_ros.ros.messages import MAX_PIXELS
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

Value = bool | int | float | str | tuple[str, ...]
FIXED = ('scale.mode', 'fixed')
FITTED = ('scale.mode', 'reference', 'ground')
REFERENCE = ('scale.mode', 'reference')
GROUND = ('scale.mode', 'ground')
CAMERA_NAME = re.compile('[A-Za-z_][A-Za-z0-9_]*')  # a token of a topic


def parameter(
    name: str,
    default: Value,
    description: str,
    *,
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
    read_with: tuple[str, ...] = (),
) -> Any:
    """
    Describe one parameter.

    :param bounds: smallest and largest value of a number.
    :param choices: the values that a text may have, where they are few.
    :param live: whether it can change while the node is configured; it then does at once.
    :param read_with: another parameter and those values of it without which this one is not read.
    """
    facts = {
        'name': name,
        'description': description,
        'bounds': bounds,
        'choices': choices,
        'live': live,
        'read_with': read_with,
    }
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class Parameters:
    """All parameters, read once when the node is configured and again when a live one changes."""

    depth_model: str = parameter(
        'depth.model',
        'dpt_tiny',
        'Network for depth, a name of zoo/checkpoints.py; empty for none.',
    )
    segmentation_model: str = parameter(
        'segmentation.model',
        'dpt_tiny',
        'Network for labels; if depth.model has the same backbone it runs once; empty for none.',
    )
    weights_dir: str = parameter(
        'weights_dir',
        '',
        'Folder of the weights, or one file of them; empty: $DPT_ROS_WEIGHTS, else '
        '~/.cache/dpt_ros.',
    )
    device: str = parameter(
        'device', 'auto', "'auto' (a GPU if there is one), 'cpu', 'cuda' or 'cuda:N'."
    )
    precision: str = parameter(
        'precision',
        'auto',
        "Type the networks compute in; 'auto' is float16 on a GPU and float32 on a CPU.",
        choices=('auto', 'float32', 'float16', 'bfloat16'),
    )
    runtime: str = parameter(
        'runtime',
        'auto',
        "How the networks run: 'eager' (step by step), 'graph' (captured once a size, on a GPU), "
        "'compile' (by torch.compile, minutes at the first start), 'tensorrt' (where "
        "torch_tensorrt is installed), or 'auto': graph on a GPU, eager on a CPU.",
        choices=('auto', 'eager', 'graph', 'compile', 'tensorrt'),
    )
    cpu_threads: int = parameter(
        'cpu_threads',
        2,
        'CPU cores that the networks may take; more is faster and leaves less to navigation. '
        'While others keep cores busy fewer are taken.',
        bounds=(1, 256),
    )
    network_side: int = parameter(
        'network.side',
        0,
        "Shorter side of the networks' input [px]; 0: as they were trained. Half the side is "
        'about four times faster and loses thin structures first.',
        bounds=(0, 4096),
    )
    image_transport: str = parameter(
        'image_transport',
        'raw',
        "'raw' subscribes to image, 'compressed' to image/compressed (JPEG or PNG).",
        choices=('raw', 'compressed'),
    )
    limits_max_pixels: int = parameter(
        'limits.max_pixels',
        MAX_PIXELS,
        'Images that declare more pixels are refused before any memory is taken for them.',
        bounds=(1, 1_000_000_000),
    )
    cameras: tuple[str, ...] = parameter(
        'cameras',
        ('',),
        "Names of the cameras, such as ['front', 'rear']: inputs and outputs of each begin with "
        'its name, as front/image and ~/front/depth/image. Empty: one camera, without prefix.',
    )
    limits_frame_seconds: float = parameter(
        'limits.frame_seconds',
        10.0,
        'A frame that takes longer makes /diagnostics an ERROR, which names where it hangs [s].',
        bounds=(0.1, 3600.0),
        live=True,
    )
    camera_use: str = parameter(
        'camera.use',
        'auto',
        "Matrix of camera_info that the image obeys: 'K' (raw), 'P' (rectified), or 'auto': P if "
        "the image topic's last name holds 'rect', else K.",
        choices=('auto', 'K', 'P'),
    )
    qos_input: str = parameter(
        'qos.input',
        'sensor_data',
        "Reliability of the subscriptions: 'sensor_data' (best effort, hears every camera) or "
        "'reliable'.",
        choices=('sensor_data', 'reliable'),
    )
    qos_output: str = parameter(
        'qos.output',
        'reliable',
        "Reliability of the outputs: 'reliable' (heard by every subscriber) or 'sensor_data'.",
        choices=('sensor_data', 'reliable'),
    )
    autostart: bool = parameter(
        'autostart',
        True,
        'Configure and activate without a lifecycle manager; read once, at start.',
    )
    output_decimation: int = parameter(
        'output.decimation',
        1,
        'Outputs are this many times smaller than the image, in width and in height.',
        bounds=(1, 16),
        live=True,
    )
    scale_mode: str = parameter(
        'scale.mode',
        'model',
        "Where metres come from: 'model' (metric weights), 'reference' (fitted to "
        "reference_depth), 'ground' (fitted to a flat ground below a camera of known height), "
        "'fixed' (scale.factor and scale.offset, for relative weights) or 'none' (inverse depth "
        'only).',
        choices=('model', 'fixed', 'reference', 'ground', 'none'),
        live=True,
    )
    scale_factor: float = parameter(
        'scale.factor',
        1.0,
        'With scale.mode fixed: 1 / metres = scale.factor * output + scale.offset [1/m].',
        bounds=(1e-9, 1e9),
        live=True,
        read_with=FIXED,
    )
    scale_offset: float = parameter(
        'scale.offset',
        0.0,
        'See scale.factor [1/m].',
        bounds=(-1e6, 1e6),
        live=True,
        read_with=FIXED,
    )
    scale_smoothing_seconds: float = parameter(
        'scale.smoothing_seconds',
        1.0,
        'Time constant by which the scale follows the fits of frames [s]; 0: each fit counts '
        'alone.',
        bounds=(0.0, 3600.0),
        live=True,
        read_with=FITTED,
    )
    scale_hold_seconds: float = parameter(
        'scale.hold_seconds',
        2.0,
        'So long the last good scale is kept while fits fail [s]; then metres stop.',
        bounds=(0.0, 86400.0),
        live=True,
        read_with=FITTED,
    )
    scale_jump: float = parameter(
        'scale.jump',
        0.2,
        'A fit that changes metres by more than this share is believed when three in a row agree.',
        bounds=(0.01, 10.0),
        live=True,
        read_with=FITTED,
    )
    scale_min_points: int = parameter(
        'scale.min_points',
        50,
        'Points of reference_depth or ground that must agree on a scale.',
        bounds=(2, 8192),
        live=True,
        read_with=FITTED,
    )
    scale_reference_tolerance: float = parameter(
        'scale.reference_tolerance',
        0.05,
        'A reference_depth belongs to an image whose stamp is no further away [s].',
        bounds=(0.0, 10.0),
        live=True,
        read_with=REFERENCE,
    )
    scale_ground_classes: str = parameter(
        'scale.ground_classes',
        '',
        'With scale.mode ground: classes that are flat ground, names with commas between; empty: '
        'floor, road, sidewalk, path, runway and dirt track, as far as they are known.',
        live=True,
        read_with=GROUND,
    )
    scale_ground_share: float = parameter(
        'scale.ground_share',
        0.03,
        'Share of the image that must be ground, or its scale is not believed.',
        bounds=(0.001, 1.0),
        live=True,
        read_with=GROUND,
    )
    scale_camera_height: float = parameter(
        'scale.camera_height',
        0.5,
        'Of the camera above the ground [m].',
        bounds=(0.01, 1000.0),
        live=True,
        read_with=GROUND,
    )
    scale_camera_pitch: float = parameter(
        'scale.camera_pitch',
        0.0,
        'Of the camera, positive looks down [deg]; above a level ground, or on the body that has '
        'the IMU.',
        bounds=(-90.0, 90.0),
        live=True,
        read_with=GROUND,
    )
    scale_camera_roll: float = parameter(
        'scale.camera_roll',
        0.0,
        'Of the camera, positive has its right side low [deg]; see scale.camera_pitch.',
        bounds=(-180.0, 180.0),
        live=True,
        read_with=GROUND,
    )
    scale_gravity: str = parameter(
        'scale.gravity',
        'fixed',
        "What tells where down is: 'fixed' (pitch and roll alone), 'imu' (the topic imu, of a "
        "body x forward, y left, z up) or 'imu_optical' (an IMU with the camera's axes: x right, "
        'y down, z forward).',
        choices=('fixed', 'imu', 'imu_optical'),
        live=True,
        read_with=GROUND,
    )
    depth_encoding: str = parameter(
        'depth.encoding',
        '32FC1',
        "'32FC1' (float metres, REP 118) or '16UC1' (millimetres, 0 is invalid, up to 65.534 m).",
        choices=('32FC1', '16UC1'),
        live=True,
    )
    depth_invalid_value: float = parameter(
        'depth.invalid_value',
        math.nan,
        'With 32FC1, written where depth is unknown or nothing is in range. NaN keeps NaN for '
        'unknown and +Inf for nothing in range (REP 117); 0.0 is what nvblox wants.',
        live=True,
    )
    depth_min: float = parameter(
        'depth.min', 0.1, 'Nearer is published as unknown [m].', bounds=(0.0, 1000.0), live=True
    )
    depth_max: float = parameter(
        'depth.max',
        100.0,
        'Farther is published as nothing in range, as the sky is [m].',
        bounds=(0.1, 100000.0),
        live=True,
    )
    depth_edge_angle: float = parameter(
        'depth.edge_angle',
        4.0,
        'Pixels that float between a near and a far surface are unknown: those whose surface '
        'would be seen under less than this angle on both sides and is not flat [deg]; 0: none. '
        'Needs camera_info.',
        bounds=(0.0, 45.0),
        live=True,
    )
    depth_steadiness: float = parameter(
        'depth.steadiness',
        0.0,
        'Share of the depth before that is kept where the image did not change, while the camera '
        'is at rest; 0: none.',
        bounds=(0.0, 0.99),
        live=True,
    )
    depth_color_max: float = parameter(
        'depth.color_max',
        10.0,
        'Depth at the far end of the colors of depth/color [m].',
        bounds=(0.1, 100000.0),
        live=True,
    )
    segmentation_min_confidence: float = parameter(
        'segmentation.min_confidence',
        0.0,
        'Pixels whose class is less probable are unlabelled (255, or 65535 above 255 classes).',
        bounds=(0.0, 1.0),
        live=True,
    )
    segmentation_overlay_opacity: float = parameter(
        'segmentation.overlay_opacity',
        0.5,
        'How strongly segmentation/overlay is tinted by class color: 0 not at all, 1 fully.',
        bounds=(0.0, 1.0),
        live=True,
    )
    points_organized: bool = parameter(
        'points.organized',
        True,
        'Clouds are rows and columns as the image, NaN where depth is unknown; false: only valid '
        'points, in a row.',
        live=True,
    )
    points_labels: bool = parameter(
        'points.labels',
        False,
        'Points carry label (uint32) and confidence (float32) in the padding of xyzrgb.',
        live=True,
    )
    points_exclude_classes: str = parameter(
        'points.exclude_classes',
        '',
        "Classes that become no points, names with commas between, such as 'person, chair'.",
        live=True,
    )
    points_only_classes: str = parameter(
        'points.only_classes',
        '',
        "Classes that alone become points, such as 'floor'; empty: all.",
        live=True,
    )
    points_clearing_distance: float = parameter(
        'points.clearing_distance',
        0.0,
        'Where nothing is in range (the sky, farther than depth.max) a point stands at this depth '
        '[m], for consumers that clear along rays up to a range of their own; 0: no point.',
        bounds=(0.0, 100000.0),
        live=True,
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot stand together."""
        if not (self.depth_model or self.segmentation_model):
            raise ValueError(
                'depth.model and segmentation.model are both empty, so there is nothing to do: '
                'name at least one network'
            )
        _check_cameras(self.cameras)
        if self.depth_min >= self.depth_max:
            raise ValueError(
                f'depth.min ({self.depth_min:g} m) must be below depth.max ({self.depth_max:g} m)'
            )
        if self.points_labels and not self.segmentation_model:
            raise ValueError(
                'points.labels needs labels: name a network in segmentation.model, or set '
                'points.labels to false'
            )
        excluded, only = map(class_names, (self.points_exclude_classes, self.points_only_classes))
        if (excluded or only) and not self.segmentation_model:
            raise ValueError(
                'points.exclude_classes and points.only_classes need labels: name a network in '
                'segmentation.model, or leave both empty'
            )
        if both := [name for name in excluded if name in only]:
            raise ValueError(
                'points.exclude_classes and points.only_classes both name '
                f'{", ".join(map(brief, both[:9]))}: leave it out of one of them'
            )


FIELDS: dict[str, Field] = {f.metadata['name']: f for f in fields(Parameters)}
AT_START = frozenset({'autostart'})  # read once; the others anew whenever the node is configured


def descriptor(name: str) -> ParameterDescriptor:
    """Describe a parameter to ROS, so that `ros2 param describe` documents it."""
    facts = FIELDS[name].metadata
    text = facts['description']
    if facts['choices']:
        text += f' One of: {", ".join(facts["choices"])}.'
    if name in AT_START:
        text += ' Read once, at start.'
    elif not facts['live']:
        text += ' Read when the node is configured.'
    # ROS would say of another type: "expected '3' got '2'". `check` says it in words.
    described = ParameterDescriptor(name=name, description=text, dynamic_typing=True)
    if facts['bounds']:
        low, high = facts['bounds']
        if isinstance(FIELDS[name].default, int):
            whole = IntegerRange(from_value=int(low), to_value=int(high), step=1)
            described.integer_range = [whole]
        else:
            real = FloatingPointRange(from_value=float(low), to_value=float(high))
            described.floating_point_range = [real]
    return described


def check(name: str, value: Any) -> None:
    """Refuse a value that parameter `name` cannot have, whatever the others are."""
    facts, kind = FIELDS[name].metadata, type(FIELDS[name].default)
    if kind is tuple:
        if not all(isinstance(one, str) for one in _texts(name, value)):
            raise ValueError(
                f"{name} must be a list of texts, got {brief(value)}; write ['a', 'b']"
            )
    elif type(value) is not kind and not (kind is float and _is_whole(value)):
        came = f'{brief(value)} ({_KINDS.get(type(value), "a list")})'
        came = 'nothing' if value is None else came
        raise ValueError(f'{name} must be {_KINDS[kind]}{_allowed(name)}, got {came}')
    choices, bounds = facts['choices'], facts['bounds']
    if choices and value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(choices)}, got {brief(value)}')
    if bounds and not bounds[0] <= value <= bounds[1]:
        low, high = bounds
        raise ValueError(f'{name} must be between {low:g} and {high:g}, got {brief(value)}')


def brief(value: Any) -> str:
    """Show what came from outside in a few printable characters."""
    return _BRIEF.repr(value)


def read(values: Mapping[str, Any]) -> Parameters:
    """
    Build the parameters from values by ROS name.

    :raises ValueError: for a value that is not allowed, alone or beside the others.
    """
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        check(name, value)
        arguments[FIELDS[name].name] = _as_field(name, value)
    return Parameters(**arguments)


def check_moment(now: Mapping[str, Any], wanted: Mapping[str, Any], configured: bool) -> None:
    """
    Refuse changes that come too late to have an effect.

    :param now: all values by ROS name.
    :param wanted: those that are to be set, each of them checked; what is so already is no change.
    """
    changed = [
        name
        for name, value in wanted.items()
        if _differ(_as_field(name, now[name]), _as_field(name, value))
    ]
    if late := AT_START.intersection(changed):
        raise ValueError(
            f'{", ".join(late)} is read once, at start: end the node and start it with another'
        )
    fixed = [name for name in changed if not FIELDS[name].metadata['live']]
    if fixed and configured:
        raise ValueError(
            f'{", ".join(fixed)} is read when the node is configured: deactivate and '
            'cleanup the node (ros2 lifecycle set), set it, then configure and activate'
        )


def unread(values: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """
    Say in sentences which parameters have no effect beside the others.

    :param values: all values by ROS name.
    :param names: of those to look at; what has its default at configure was not meant.
    """
    found = defaultdict(list)
    for name in names:
        other, *wanted = FIELDS[name].metadata['read_with'] or ('',)
        if other and values[other] not in wanted:
            found[other, ' or '.join(wanted)].append(name)
    return [
        f'{", ".join(idle)} is read with {other} {wanted}, and that is {values[other]}'
        for (other, wanted), idle in found.items()
    ]


def given(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that have not their default."""
    return [n for n, v in values.items() if _differ(FIELDS[n].default, _as_field(n, v))]


@lru_cache(maxsize=4)
def options(chosen: Parameters) -> Options:
    """Return those parameters that a frame is computed by."""
    return Options(**{f.name: getattr(chosen, f.name) for f in fields(Options)})


def _texts(name: str, value: Any) -> tuple[Any, ...]:
    """Take a list of texts as ROS has it, which has nothing at all for an empty one."""
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list of texts, got {brief(value)}; write ['a', 'b']")
    return tuple(value or ()) or ('',)


def _check_cameras(names: tuple[str, ...]) -> None:
    """Refuse names that topics cannot begin with."""
    if names == ('',):
        return
    for name in names:
        if not CAMERA_NAME.fullmatch(name):
            raise ValueError(
                f'cameras names {brief(name)}, which no topic can begin with: use letters, digits '
                'and _, not a digit first'
            )
        if names.count(name) > 1:
            raise ValueError(f"cameras names '{name}' twice: give each camera a name of its own")


def _allowed(name: str) -> str:
    """Say in words which values a parameter may have, if not all of its kind."""
    facts = FIELDS[name].metadata
    if facts['choices']:
        return f', one of {", ".join(facts["choices"])}'
    if facts['bounds']:
        return ' between {:g} and {:g}'.format(*facts['bounds'])
    return ''


def _as_field(name: str, value: Any) -> Any:
    """Bring a value that passed `check` to the type of its field."""
    default = FIELDS[name].default
    if isinstance(default, tuple):
        return _texts(name, value)
    return float(value) if isinstance(default, float) else value


def _differ(old: Any, new: Any) -> bool:
    """Compare values; NaN is NaN."""
    return bool(old != new and not (old != old and new != new))


def _is_whole(value: Any) -> bool:
    """Tell whether a value is a whole number of ROS, which has 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63


class _Brief(reprlib.Repr):
    """Shows little of what is long."""

    def __init__(self) -> None:
        """Show some words of a text."""
        super().__init__()
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        """Show what ROS can have; Python writes no number of thousands of digits."""
        return super().repr_int(x, level) if _is_whole(x) else 'a number of more than 64 bits'


_BRIEF = _Brief()
_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text'}
