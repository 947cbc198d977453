"""
A batch of camera frames in, finished maps out: the only place that runs a network.

Pixels go up as bytes, everything between happens on one device, and what comes down has the
layout of the messages that carry it. Only products asked for are computed.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
import math
from time import perf_counter

import cv2
from dpt_ros.model.dpt import DPT, join
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.classify import classify
from dpt_ros.perception.cleanup import clean, flying
from dpt_ros.perception.paint import blend, look_up, only
from dpt_ros.perception.points import pack_points
from dpt_ros.perception.preprocess import feed, network_size
from dpt_ros.perception.runtime import NetworkError, Runtime
from dpt_ros.perception.scale.ground import Vector
from dpt_ros.perception.scale.metres import depth_of_weights, metres_of_inverse
from dpt_ros.perception.scale.scaler import check_mode, GROUND, Reference, Scaler, Settings, Sight
from dpt_ros.perception.scale.tracker import Scale
from dpt_ros.perception.steady import Steadiness
from dpt_ros.zoo.checkpoints import Checkpoint, Depth, RelativeDepth, Resize
from dpt_ros.zoo.labels import Labels, load_labels
from dpt_ros.zoo.store import Trained
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# What can be asked for, and the tasks of the networks that it takes.
PRODUCTS: dict[str, frozenset[str]] = {
    'depth': frozenset({'metres'}),  # (H, W) float32 metres, or uint16 millimetres
    'depth_color': frozenset({'metres'}),  # (H, W, 3) uint8
    'inverse_depth': frozenset({'depth'}),  # (H, W) float32, no unit, larger is nearer
    'labels': frozenset({'segmentation'}),  # (H, W) uint8, or uint16 above 255 classes
    'confidence': frozenset({'segmentation'}),  # (H, W) uint8, 255 is certain
    'overlay': frozenset({'segmentation'}),  # (H, W, 3) uint8
    'color': frozenset(),  # (H, W, 3) uint8, the image at the size of the maps
    'points': frozenset({'metres'}),  # (H, W, 8) or (N, 8) float32, `points.pack_points`
}


@dataclass(frozen=True)
class Frame:
    """One image of one camera."""

    source: str  # name of the camera
    header: object  # whatever came with the image; goes back with its result, untouched
    pixels: np.ndarray  # (H, W, 3) uint8, RGB
    camera: Camera | None  # None: not calibrated
    seconds: float = 0.0  # when it was taken
    references: Sequence[Reference] = ()  # measured depth that came since the last frame
    down: Vector | None = None  # as an IMU has it, see scale_gravity; None: not known


@dataclass(frozen=True)
class Options:
    """What may change from frame to frame; defaults, units and meaning: `ros.parameters`."""

    output_decimation: int
    depth_encoding: str
    depth_invalid_value: float
    depth_min: float
    depth_max: float
    depth_edge_angle: float
    depth_steadiness: float
    depth_color_max: float
    segmentation_min_confidence: float
    segmentation_overlay_opacity: float
    points_organized: bool
    points_labels: bool
    points_exclude_classes: str
    points_only_classes: str
    points_clearing_distance: float
    scale_mode: str
    scale_factor: float
    scale_offset: float
    scale_smoothing_seconds: float
    scale_hold_seconds: float
    scale_jump: float
    scale_min_points: int
    scale_reference_tolerance: float
    scale_ground_classes: str
    scale_ground_share: float
    scale_camera_height: float
    scale_camera_pitch: float
    scale_camera_roll: float
    scale_gravity: str


@dataclass
class Result:
    """What came of one frame: finished maps of one size, by product."""

    frame: Frame
    width: int
    height: int
    camera: Camera | None  # of the maps
    products: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # spent in each stage
    available: frozenset[str] = frozenset(PRODUCTS)  # what could have been asked of it
    scale: Scale | None = None  # of its metres; None: nobody asked for them


@dataclass(frozen=True)
class _Pass:
    """One run of a backbone: how an image is brought to it, and the tasks that come of it."""

    runtime: Runtime
    entry: Checkpoint  # for its colors
    resize: Resize
    tasks: frozenset[str]


class Perception:
    """The networks of a node on one device, and the way of a frame through them."""

    def __init__(
        self,
        depth: Trained | None,
        segmentation: Trained | None,
        *,
        device: torch.device,
        dtype: torch.dtype,
        network_side: int = 0,
    ):
        """
        Put the networks on the device.

        :param depth: network for depth, None for none; `segmentation` likewise. One network given
            as both runs once a frame; so does the backbone of two that have the same, bit for bit,
            and see the same image.
        :param network_side: shorter side of the networks' input in pixels; 0: as trained.
        """
        self.device = device
        self._depth, self._segmentation = depth, segmentation
        given = (('depth', depth), ('segmentation', segmentation))
        for task, trained in given:
            if trained is not None and task not in trained.checkpoint.tasks:
                raise ValueError(
                    f'{trained.name} has no {task} head: it does {trained.checkpoint.tasks[0]}'
                )
        if depth is not None:
            self._scaler = Scaler(depth.checkpoint)
            self._resize = _resize_rule(depth.checkpoint, network_side)
        self._steady = Steadiness()
        self._passes = [
            _Pass(
                Runtime(network, device, dtype), entry, _fit(network, entry, network_side), tasks
            )
            for network, entry, tasks in _networks(depth, segmentation, network_side)
        ]
        self.labels: Labels | None = None
        self._sky: tuple[int, ...] = ()
        if segmentation is not None and segmentation.checkpoint.labels is not None:
            self.labels = load_labels(segmentation.checkpoint.labels)
            self._sky = self.labels.find('sky')
            self._colors = _table(self.labels.colors, device)
            self._restore_scores = segmentation.checkpoint.restore
        turbo = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO)
        red_to_blue = np.ascontiguousarray(turbo[::-1, 0, ::-1])
        self._turbo = torch.from_numpy(red_to_blue).to(device)  # near is red
        self._rays = lru_cache(maxsize=8)(
            lambda camera: torch.from_numpy(camera.rays()).permute(2, 0, 1).contiguous().to(device)
        )

    @property
    def networks(self) -> dict[str, Trained]:
        """The network of each task that has one."""
        given = {'depth': self._depth, 'segmentation': self._segmentation}
        return {task: trained for task, trained in given.items() if trained is not None}

    @property
    def products(self) -> frozenset[str]:
        """What these networks can give in one mode of scale or another, out of `PRODUCTS`."""
        tasks = set()
        if self._depth is not None:
            tasks.add('metres')
            if not self._depth.checkpoint.is_metric:
                tasks.add('depth')
        if self._segmentation is not None:
            tasks.add('segmentation')
        return frozenset(product for product, needs in PRODUCTS.items() if needs <= tasks)

    def available(self, options: Options) -> frozenset[str]:
        """Return what of `products` these options give."""
        if options.scale_mode != 'none':
            return self.products
        return frozenset(p for p in self.products if 'metres' not in PRODUCTS[p])

    @torch.inference_mode()
    def __call__(
        self, frames: Sequence[Frame], wanted: Collection[str], options: Options
    ) -> list[Result]:
        """
        Compute the products wanted for frames of one size.

        :param wanted: names out of `products`. Those that are not `available` are left out, metres
            too while no scale is known; 'points' come only for calibrated frames.
        :return: one result a frame, in their order. Arrays are the caller's to keep.
        """
        available = self.available(options)
        wanted = available.intersection(wanted)
        seconds: dict[str, float] = {}
        with _stage(seconds, 'upload'):
            pixels = self._upload([frame.pixels for frame in frames])
        height, width = (max(1, side // options.output_decimation) for side in pixels.shape[1:3])
        maps, scales = self._network_maps(
            frames, pixels, wanted, (height, width), options, seconds
        )
        results = []
        for index, (frame, scale) in enumerate(zip(frames, scales, strict=True)):
            camera = frame.camera and frame.camera.resized(width, height)
            one = {name: values[index] for name, values in maps.items()}
            given = available
            if scale is not None and scale.lost:
                given = frozenset(p for p in available if 'metres' not in PRODUCTS[p])
                del one['depth']
            with _stage(seconds, 'pack'):
                colors = _shrink(pixels[index], height, width)
                if 'depth' in one:
                    one['depth'] = self._at_rest(
                        frame.source, scale, one['depth'], colors, options
                    )
                finished = self._finish(one, colors, camera, wanted, options)
            with _stage(seconds, 'download'):
                products = {name: _to_numpy(values) for name, values in finished.items()}
            results.append(Result(frame, width, height, camera, products, seconds, given, scale))
        return results

    @torch.inference_mode()
    def scores(self, images: Tensor) -> Tensor:
        """
        Score every class, for protocols that average over sizes and crops of an image.

        :param images: (B, 3, H, W) RGB from 0 to 255, any type, at a size that the network takes.
        :return: (B, K, H / 2, W / 2) float32, see `model.heads.SegmentationHead`.
        """
        (one,) = (each for each in self._passes if 'segmentation' in each.tasks)
        rows, columns = images.shape[2:]
        pixels = images.to(self.device).permute(0, 2, 3, 1)
        prepared = feed(pixels, one.entry, Resize(columns, rows, multiple=1))
        return one.runtime(prepared, {'segmentation'})['segmentation'].float()

    def warm_up(self, width: int, height: int, options: Options) -> None:
        """Run everything once on a black image, so that the first real one does not wait."""
        camera = Camera(width, height, width, width, width / 2, height / 2)
        black = np.zeros((height, width, 3), np.uint8)
        known = 'fixed' if 'inverse_depth' in self.products else 'model'  # no fit to wait for
        options = replace(options, scale_mode=known, depth_steadiness=0.0)
        self([Frame('', None, black, camera)], self.products, options)

    def _upload(self, images: Sequence[np.ndarray]) -> Tensor:
        """Bring images of one size to the device, (B, H, W, 3) uint8; a single one as a view."""
        tensors = [torch.from_numpy(image) for image in images]
        batch = tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
        return batch.to(self.device, non_blocking=True)

    def _network_maps(
        self,
        frames: Sequence[Frame],
        pixels: Tensor,
        wanted: Collection[str],
        size: tuple[int, int],
        options: Options,
        seconds: dict[str, float],
    ) -> tuple[dict[str, Tensor], list[Scale | None]]:
        """Run the networks and bring their output to (H, W) = `size`, in metres and classes."""
        tasks, in_metres = self._tasks(wanted, options)
        raw = self._run(pixels, tasks, seconds)
        maps: dict[str, Tensor] = {}
        if 'segmentation' in tasks:
            with _stage(seconds, 'classify'):
                labels, maps['confidence'] = classify(
                    raw['segmentation'], size, self._restore_scores
                )
                if self._sky:
                    maps['sky'] = torch.stack([labels == index for index in self._sky]).any(dim=0)
                if options.segmentation_min_confidence > 0:
                    sure = maps['confidence'] >= options.segmentation_min_confidence
                    labels = labels.masked_fill_(~sure, self._unlabelled)
                maps['labels'] = labels
        entry = self._depth.checkpoint if self._depth is not None else None
        if 'depth' in tasks and entry is not None and entry.depth is not None:
            with _stage(seconds, 'metres'):
                own = depth_of_weights(raw['depth'], entry, size)
                if 'inverse_depth' in wanted:
                    maps['inverse_depth'] = own
                if in_metres:
                    scales = self._scales(frames, own, maps.get('labels'), pixels, options)
                    depth = _scaled(own, entry.depth, scales)
                    sky = maps.get('sky')
                    maps['depth'] = clean(depth, sky, options.depth_min, options.depth_max)
                    return maps, [*scales]
        return maps, [None] * len(frames)

    def _scales(
        self,
        frames: Sequence[Frame],
        own: Tensor,
        labels: Tensor | None,
        pixels: Tensor,
        options: Options,
    ) -> list[Scale]:
        """Choose the scale of each frame; `own` is what `depth_of_weights` returned."""
        settings = _settings(options)
        sights = [Sight(f.source, f.seconds, f.camera, f.references, f.down) for f in frames]
        rows, columns = pixels.shape[1:3]
        zoom = 1.0, 1.0
        if self._resize.rule != 'native':
            across, down = network_size(columns, rows, self._resize)
            zoom = across / columns, down / rows
        known = self._scaler.known(sights, zoom, settings)
        if known is not None:
            return known
        relative = 'inverse_depth' in self.products
        height, width = own.shape[1:]
        scales = []
        for index, sight in enumerate(sights):
            inverse = own[index] if relative else 1 / own[index]
            rays = ground = None
            if settings.mode == 'ground' and labels is not None and sight.camera is not None:
                rays = self._rays(sight.camera.resized(width, height))
                is_ground = [labels[index] == label for label in self._ground(options)]
                ground = torch.stack(is_ground).any(dim=0)
            scales.append(self._scaler.fitted(sight, inverse, ground, rays, settings))
        return scales

    def _at_rest(
        self, source: str, scale: Scale | None, depth: Tensor, colors: Tensor, options: Options
    ) -> Tensor:
        """Average depth over time where the image does not change, as far as that is wanted."""
        if scale is not None and scale.notes:
            self._steady.forget(source)  # metres of another scale are not averaged in
        return self._steady(source, depth, colors, options.depth_steadiness)

    def _tasks(self, wanted: Collection[str], options: Options) -> tuple[set[str], bool]:
        """Choose the tasks to run for the products wanted, and whether metres are among them."""
        needs: set[str] = set().union(*(PRODUCTS[product] for product in wanted))
        tasks = needs - {'metres'}
        if 'metres' in needs:
            tasks.add('depth')
            by_class = options.points_exclude_classes or options.points_only_classes
            labelled = 'points' in wanted and (options.points_labels or by_class)
            grounded = options.scale_mode == 'ground'
            if self._sky or grounded or (labelled and self.labels):
                tasks.add('segmentation')  # depth of the sky must not be invented
        return tasks, 'metres' in needs

    def _run(
        self, pixels: Tensor, tasks: Collection[str], seconds: dict[str, float]
    ) -> dict[str, Tensor]:
        """Run each backbone that the tasks need once, all of its tasks in one pass."""
        raw: dict[str, Tensor] = {}
        for one in self._passes:
            if not (its_tasks := one.tasks & set(tasks)):
                continue
            with _stage(seconds, 'preprocess'):
                image = feed(pixels, one.entry, one.resize)
            with _stage(seconds, 'network'):
                raw |= _believable(one.runtime(image, its_tasks))
        return raw

    def _finish(
        self,
        maps: dict[str, Tensor],
        colors: Tensor,
        camera: Camera | None,
        wanted: Collection[str],
        options: Options,
    ) -> dict[str, Tensor]:
        """Turn the maps of one frame, all (H, W), into the products wanted of it."""
        products: dict[str, Tensor] = {}
        depth, labels = maps.get('depth'), maps.get('labels')
        if depth is not None and camera is not None and options.depth_edge_angle:
            rays, reach = self._rays(camera), self._edge_reach(depth)
            edges = flying(depth, rays, options.depth_edge_angle, reach)
            depth = depth.masked_fill(edges, torch.nan)
        if 'color' in wanted:
            products['color'] = colors
        if 'inverse_depth' in wanted:
            products['inverse_depth'] = maps['inverse_depth']
        if labels is not None:
            if 'labels' in wanted:
                products['labels'] = labels
            if 'confidence' in wanted:
                products['confidence'] = (maps['confidence'] * 255).round().to(torch.uint8)
            if 'overlay' in wanted:
                products['overlay'] = self._overlay(colors, labels, options)
        if depth is not None:
            if 'depth' in wanted:
                products['depth'] = _encode_depth(depth, options)
            if 'depth_color' in wanted:
                products['depth_color'] = self._color(depth, options.depth_color_max)
            if 'points' in wanted and camera is not None:
                extra = (labels, maps.get('confidence')) if options.points_labels else ()
                solid = depth
                if options.points_clearing_distance:
                    nothing = depth == torch.inf
                    solid = depth.masked_fill(nothing, options.points_clearing_distance)
                if labels is not None and (chosen := self._classes_of_points(options)) is not None:
                    solid = solid.masked_fill(~look_up(chosen, labels), torch.nan)
                points = pack_points(solid, self._rays(camera), colors, *extra)
                if not options.points_organized:
                    points = points[points[..., 2].isfinite()]
                products['points'] = points
        return products

    def _edge_reach(self, depth: Tensor) -> int:
        """Return half the width of a depth edge as networks draw it, in pixels of (H, W) depth."""
        resize = next(one.resize for one in self._passes if 'depth' in one.tasks)
        return max(2, round(1.5 * min(depth.shape) / min(resize.width, resize.height)))

    def check(self, options: Options) -> None:
        """Refuse options that these networks cannot serve."""
        self._classes_of_points(options)
        if self._depth is not None:
            check_mode(options.scale_mode, self._depth.checkpoint, self._depth.name)
            if options.scale_mode == 'ground':
                self._ground(options)

    def _ground(self, options: Options) -> tuple[int, ...]:
        """Return the classes that are ground."""
        if self.labels is None:
            raise ValueError(
                "scale.mode 'ground' needs labels: name a network in segmentation.model"
            )
        names = [name.strip() for name in options.scale_ground_classes.split(',') if name.strip()]
        if unknown := [name for name in names if name not in self.labels.names]:
            raise ValueError(
                f'scale.ground_classes names {", ".join(unknown)}, which segmentation.model does '
                f'not know; it knows {", ".join(self.labels.names)}'
            )
        if not (found := self.labels.find(*(names or GROUND))):
            raise ValueError(
                f'segmentation.model knows none of {", ".join(GROUND)}: say which classes are '
                f'ground in scale.ground_classes; it knows {", ".join(self.labels.names)}'
            )
        return found

    def _classes_of_points(self, options: Options) -> Tensor | None:
        """Return a table, a row for each label: whether it becomes points; None: all do."""
        excluded, only = options.points_exclude_classes, options.points_only_classes
        if not excluded and not only:
            return None
        if self.labels is None:
            raise ValueError(
                'points.exclude_classes and points.only_classes need labels: name a network in '
                'segmentation.model, or leave both empty'
            )
        return _class_table(self.labels, excluded, only, self.device)

    @property
    def _unlabelled(self) -> int:
        """The class id of pixels that no class is sure of, as vision_msgs reserves it."""
        return 255 if self.labels is None or len(self.labels.names) <= 255 else 65535

    def _overlay(self, colors: Tensor, labels: Tensor, options: Options) -> Tensor:
        """Tint the image by class; unlabelled pixels stay as they are."""
        tint = look_up(self._colors, labels)
        tinted = blend(colors, tint, options.segmentation_overlay_opacity)
        if options.segmentation_min_confidence == 0:
            return tinted
        return torch.where((labels == self._unlabelled)[..., None], colors, tinted)

    def _color(self, depth: Tensor, farthest: float) -> Tensor:
        """Color depth over the fixed range 0 to `farthest` metres; unknown and sky are black."""
        steps = (depth * (255 / farthest)).nan_to_num_(0, 0).clamp_(0, 255)
        painted = look_up(self._turbo, steps.to(torch.uint8))
        return only(painted, depth.isfinite())


def _settings(options: Options) -> Settings:
    """Return what of the options the scale obeys."""
    return Settings(
        mode=options.scale_mode,
        factor=options.scale_factor,
        offset=options.scale_offset,
        smoothing=options.scale_smoothing_seconds,
        hold=options.scale_hold_seconds,
        jump=options.scale_jump,
        least_points=options.scale_min_points,
        tolerance=options.scale_reference_tolerance,
        camera_height=options.scale_camera_height,
        camera_pitch=options.scale_camera_pitch,
        camera_roll=options.scale_camera_roll,
        gravity=options.scale_gravity,
        ground_share=options.scale_ground_share,
    )


def _scaled(own: Tensor, depth: Depth, scales: Sequence[Scale]) -> Tensor:
    """Make metres of what `depth_of_weights` gave, (B, H, W), each by its scale."""
    factors, offsets = [scale.factor for scale in scales], [scale.offset for scale in scales]
    if isinstance(depth, RelativeDepth):
        return metres_of_inverse(own, _for_each(factors, own), _for_each(offsets, own))
    if all(factor == 1 for factor in factors):
        return own
    return own / _for_each(factors, own)  # of metric weights the offset is zero


def _for_each(values: Sequence[float], batch: Tensor) -> float | Tensor:
    """Return one number for all of a batch (B, H, W), or (B, 1, 1) where they differ."""
    if len(set(values)) == 1:
        return values[0]
    return torch.tensor(values, device=batch.device)[:, None, None]


def _networks(
    depth: Trained | None, segmentation: Trained | None, side: int
) -> Iterator[tuple[DPT, Checkpoint, frozenset[str]]]:
    """Yield the networks to run, how each is fed, and its tasks: two if they cannot be one."""
    if depth is not None and segmentation is not None and _is_shared(depth, segmentation, side):
        joined = join({'depth': depth.network, 'segmentation': segmentation.network})
        yield joined, depth.checkpoint, joined.provides
        return
    for task, trained in (('depth', depth), ('segmentation', segmentation)):
        if trained is not None:
            yield trained.network, trained.checkpoint, frozenset({task})


def _is_shared(one: Trained, other: Trained, side: int) -> bool:
    """Return whether two networks make the same of an image as far as their backbones go."""
    if one is other:
        return True
    a, b = one.checkpoint, other.checkpoint
    fed = [(_resize_rule(e, side), e.mean, e.std, e.color_max) for e in (a, b)]
    built = [
        replace(e.architecture, widths=(0,) * 4, width=0, readout='ignore', decoder='dpt')
        for e in (a, b)
    ]
    if fed[0] != fed[1] or built[0] != built[1]:  # the decoders may differ
        return False
    mine, theirs = one.network.backbone.state_dict(), other.network.backbone.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def _fit(network: DPT, entry: Checkpoint, side: int) -> Resize:
    """Return how images come to a network, refusing what it could take of no image."""
    resize = _resize_rule(entry, side)
    if resize.rule == 'stretch':  # one size for them all
        network.backbone.check_size(*network_size(1, 1, resize))
    return resize


def _resize_rule(entry: Checkpoint, side: int) -> Resize:
    """Return how images come to a network whose shorter side may be set, 0: as trained."""
    if not side:
        return entry.resize
    rule = 'stretch' if entry.resize.rule == 'stretch' else 'lower_bound'
    return replace(entry.resize, width=side, height=side, rule=rule)


def _believable(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """
    Make infinite depth unknown, lest it pass for far; refuse an image that has nothing else.

    Of a pixel with a score that is no number nobody can tell the class: one is enough to refuse.
    """
    for task, values in raw.items():
        finite = values.isfinite()
        each = finite.flatten(1)
        if task == 'depth' and not finite.all():
            raw[task] = values.masked_fill(~finite, torch.nan)
        if not (each.any(dim=1) if task == 'depth' else each).all():
            raise NetworkError(
                f'the network for {task} gave no finite number: with precision float16 set '
                'float32 or bfloat16; else its weights are damaged, fetch them again'
            )
    return raw


@contextmanager
def _stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time spent inside to `seconds`."""
    start = perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + perf_counter() - start


def _table(colors: Sequence[tuple[int, int, int]], device: torch.device) -> Tensor:
    """Make a table of colors, (N, 3) uint8, in which every label has a row, unlabelled too."""
    rows = torch.zeros((256 if len(colors) <= 255 else 65536, 3), dtype=torch.uint8)
    rows[: len(colors)] = torch.tensor(colors, dtype=torch.uint8)
    return rows.to(device)


def class_names(text: str) -> list[str]:
    """Split names with commas between, such as 'person, chair'."""
    return [name.strip() for name in text.split(',') if name.strip()]


@lru_cache(maxsize=8)
def _class_table(labels: Labels, excluded: str, only: str, device: torch.device) -> Tensor:
    """Say of each label whether its points stay, (N,) bool; unlabelled ones are no class."""
    table = torch.full((256 if len(labels.names) <= 255 else 65536,), not only)
    for parameter, text, stays in (('only', only, True), ('exclude', excluded, False)):
        names = class_names(text)
        if unknown := [name for name in names if name not in labels.names]:
            raise ValueError(
                f'points.{parameter}_classes names {", ".join(unknown)}, which segmentation.model '
                f'does not know; it knows {", ".join(labels.names)}'
            )
        table[list(labels.find(*names))] = stays
    return table.to(device)


def _shrink(pixels: Tensor, height: int, width: int) -> Tensor:
    """Average an image (H, W, 3) uint8 down to height x width."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = pixels.permute(2, 0, 1).float()
    small = F.adaptive_avg_pool2d(image, (height, width))
    return small.round_().to(torch.uint8).permute(1, 2, 0)


def _encode_depth(depth: Tensor, options: Options) -> Tensor:
    """Bring depth to its message's encoding: 32FC1 metres, or 16UC1 millimetres with 0 invalid."""
    if options.depth_encoding == '16UC1':
        return millimetres(depth)
    if math.isnan(options.depth_invalid_value):
        return depth
    return depth.masked_fill(~depth.isfinite(), options.depth_invalid_value)


def millimetres(depth: Tensor) -> Tensor:
    """Convert metres to whole millimetres that fit 16 bits, int32; 0: unknown or too far."""
    rounded = (depth * 1000).nan_to_num_(0, 0, 0).round_()
    return rounded.masked_fill_(rounded >= 65535, 0).int()


def _to_numpy(values: Tensor) -> np.ndarray:
    """Bring a finished product to the host; integers that torch has no name for are narrowed."""
    array = values.cpu().numpy()
    return array.astype(np.uint16) if array.dtype == np.int32 else np.ascontiguousarray(array)
