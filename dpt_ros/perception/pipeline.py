"""
A batch of camera frames in, finished maps out: the only place that runs a network.

Pixels go up as bytes, everything between happens on one device, and what comes down has the
layout of the messages that carry it. Only products asked for are computed. There are two programs:
the networks see the batch (`networks`), and its images are finished (`products`). They run as one,
unless the host has a say between them: where it fits the scale of metres.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from dpt_ros.perception.bands import compiling_told
from dpt_ros.perception.camera import Camera
from dpt_ros.perception.classify import among
from dpt_ros.perception.networks import check_believable, Look, Networks, resize_rule
from dpt_ros.perception.preprocess import network_size
from dpt_ros.perception.products import (
    as_image,
    compact,
    Finisher,
    METRES,
    of_image,
    Options,
    Order,
    PAST,
    PRODUCTS,
)
from dpt_ros.perception.program import stage, Tensors
from dpt_ros.perception.runtime import Runtime
from dpt_ros.perception.scale.ground import Vector
from dpt_ros.perception.scale.scaler import check_mode, GROUND, Reference, Scaler, Settings, Sight
from dpt_ros.perception.scale.tracker import Scale
from dpt_ros.perception.steady import Steadiness
from dpt_ros.perception.transfer import Download, Upload
from dpt_ros.zoo.checkpoints import RelativeDepth
from dpt_ros.zoo.labels import Labels
from dpt_ros.zoo.store import Trained
import numpy as np
import torch
from torch import Tensor


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
    # By product, bytes that nobody needs any more: what is made of this frame may go there.
    spare: Mapping[str, np.ndarray] = field(default_factory=dict)


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
        runtime: Runtime | None = None,
    ):
        """
        Put the networks on the device.

        :param depth: network for depth, None for none; `segmentation` likewise. One network given
            as both runs once a frame; so does the backbone of two that have the same, bit for bit,
            and see the same image.
        :param network_side: shorter side of the networks' input in pixels; 0: as trained.
        :param runtime: how they run; None: eager.
        """
        self.device = device
        self._depth, self._segmentation = depth, segmentation
        given = (('depth', depth), ('segmentation', segmentation))
        for task, trained in given:
            if trained is not None and task not in trained.checkpoint.tasks:
                raise ValueError(
                    f'{trained.name} has no {task} head: it does {trained.checkpoint.tasks[0]}'
                )
        self.runtime = Runtime() if runtime is None else runtime
        self._networks = Networks(
            depth,
            segmentation,
            device=device,
            dtype=dtype,
            side=network_side,
            runtime=self.runtime,
        )
        seen = None
        if depth is not None:
            self._scaler = Scaler(depth.checkpoint)
            self._resize = resize_rule(depth.checkpoint, network_side)
            seen = self._networks.resize_of('depth')
        self._finisher = Finisher(self._networks.labels, seen, device)
        self._upload, self._download = Upload(device), Download(device, self.runtime.log)
        self._steady = Steadiness()
        self._rays = lru_cache(maxsize=8)(
            lambda camera: torch.from_numpy(camera.rays()).permute(2, 0, 1).contiguous().to(device)
        )

    @property
    def labels(self) -> Labels | None:
        """The classes of the network for labels; None without one."""
        return self._networks.labels

    @property
    def networks(self) -> dict[str, Trained]:
        """The network of each task that has one."""
        given = {'depth': self._depth, 'segmentation': self._segmentation}
        return {task: trained for task, trained in given.items() if trained is not None}

    @cached_property
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
        return self.products - METRES if options.scale_mode == 'none' else self.products

    @torch.inference_mode()
    def __call__(
        self, frames: Sequence[Frame], wanted: Collection[str], options: Options
    ) -> list[Result]:
        """
        Compute the products wanted for frames of one size.

        :param wanted: names out of `products`. Those that are not `available` are left out, metres
            too while no scale is known; 'points' come only for calibrated frames.
        :return: one result a frame, in their order. Arrays are the caller's to keep.
        :raises NetworkError: if a network gave nothing to be believed of one of the frames.
        """
        try:
            return self._perceive(frames, wanted, options)
        except Exception:
            if self._depth is not None:
                for frame in frames:  # what they would have told is lost
                    self._scaler.tell_again(frame.source)
            raise

    def _perceive(
        self, frames: Sequence[Frame], wanted: Collection[str], options: Options
    ) -> list[Result]:
        available = self.available(options)
        wanted = available.intersection(wanted)
        seconds: dict[str, float] = {}
        with stage(seconds, 'upload'):
            pixels = self._upload([frame.pixels for frame in frames])
        given = {'pixels': pixels}
        height, width = (max(1, side // options.output_decimation) for side in pixels.shape[1:3])
        see = None
        if tasks := self._tasks(wanted, options):
            look = Look(tasks, (height, width), options.segmentation_min_confidence)
            see = self._networks.program(look)
        scales: Sequence[Scale | None] = [None] * len(frames)
        if see is not None and wanted & METRES:
            known = self._known_scales(frames, pixels, options)
            if known is None:
                given, see = self.runtime(see, given, seconds), None
                with stage(seconds, 'scale'):
                    check_believable(given)  # a fit waits for the maps anyway
                    known = self._fitted_scales(frames, given, options)
            scales = known
        results, orders = list[Result](), list[Order]()
        for index, (frame, scale) in enumerate(zip(frames, scales, strict=True)):
            camera = frame.camera and frame.camera.resized(width, height)
            lost = scale is not None and scale.lost
            its = available - METRES if lost else available
            its_wanted = wanted & its
            if camera is None:
                its_wanted -= {'points'}
            orders.append(Order(its_wanted, (height, width), options))
            given |= as_image(self._inputs(frame, camera, scale, orders[-1]), index)
            results.append(Result(frame, width, height, camera, {}, seconds, its, scale))
        finish = self._finisher.program(tuple(orders))
        finished = self.runtime(finish if see is None else see.then(finish), given, seconds)
        self._bring_down(results, finished, options)
        return results

    def _bring_down(self, results: Sequence[Result], finished: Tensors, options: Options) -> None:
        """Give each result its products, and keep what the next frame of its camera needs."""
        seconds, down = results[0].seconds, list[Tensors]()
        calmed: dict[str, tuple[Tensor, Tensor]] = {}
        for index, result in enumerate(results):
            products, frame = of_image(finished, index), result.frame
            if 'before' in products:
                gray, depth = (products.pop(name) for name in PAST)
                # Who gets the depth may write to it, and a graph writes to both.
                calmed[frame.source] = gray.clone(), depth.clone()
            if 'points' in products and not options.points_organized:
                with stage(seconds, 'points'):
                    products['points'] = compact(products['points'])
            with stage(seconds, 'download'):
                reused = self.runtime.reuses
                down.append(self._download(products, frame.spare, reused=reused))
        with stage(seconds, 'download'):
            self._download.finish()
            for result, products in zip(results, down, strict=True):
                check_believable(products)
                result.products = {n: v.numpy() for n, v in products.items() if n in PRODUCTS}
        for source, last in calmed.items():
            self._steady.keep(source, *last)

    @torch.inference_mode()
    def scores(self, images: Tensor) -> Tensor:
        """
        Score every class, for protocols that average over sizes and crops of an image.

        :param images: (B, 3, H, W) RGB from 0 to 255, any type, at a size that the network takes.
        :return: (B, K, H / 2, W / 2) float32, see `model.heads.SegmentationHead`.
        """
        return self._networks.scores(images.to(self.device))

    def warm_up(self, width: int, height: int, options: Options) -> None:
        """Run everything once on a black image, so that the first real one does not wait."""
        camera = Camera(width, height, width, width, width / 2, height / 2)
        black = np.zeros((height, width, 3), np.uint8)
        known = 'fixed' if 'inverse_depth' in self.products else 'model'  # no fit to wait for
        options = replace(options, scale_mode=known, depth_steadiness=0.0)
        with compiling_told(self.device, self.runtime.log.info):
            self([Frame('', None, black, camera)], self.products, options)

    def forget(self) -> None:
        """Begin anew with every camera: no frame before tells anything of those to come."""
        self._steady = Steadiness()
        if self._depth is not None:
            self._scaler.forget()

    def check(self, options: Options) -> None:
        """Refuse options that these networks cannot serve."""
        self._finisher.classes_of_points(options)
        if self._depth is not None:
            check_mode(options.scale_mode, self._depth.checkpoint, self._depth.name)
            if options.scale_mode == 'ground':
                self._ground(options)

    def _tasks(self, wanted: frozenset[str], options: Options) -> frozenset[str]:
        """Choose the tasks to run for the products wanted."""
        needs: set[str] = set().union(*(PRODUCTS[product] for product in wanted))
        tasks = needs - {'metres'}
        if 'metres' in needs:
            tasks.add('depth')
            by_class = options.points_exclude_classes or options.points_only_classes
            labelled = 'points' in wanted and (options.points_labels or by_class)
            grounded = options.scale_mode == 'ground'
            if self._networks.knows_sky or grounded or (labelled and self.labels):
                tasks.add('segmentation')  # depth of the sky must not be invented
        return frozenset(tasks)

    def _known_scales(
        self, frames: Sequence[Frame], pixels: Tensor, options: Options
    ) -> list[Scale] | None:
        """Return the scale of each frame, if it does not depend on the maps."""
        rows, columns = pixels.shape[1:3]
        zoom = 1.0, 1.0
        if self._resize.rule != 'native':
            across, down = network_size(columns, rows, self._resize)
            zoom = across / columns, down / rows
        return self._scaler.known(_sights(frames), zoom, _settings(options))

    def _fitted_scales(
        self, frames: Sequence[Frame], maps: Tensors, options: Options
    ) -> list[Scale]:
        """Fit the scale of each frame to its maps."""
        settings, relative = _settings(options), 'inverse_depth' in self.products
        height, width = maps['own'].shape[1:]
        scales = []
        for index, sight in enumerate(_sights(frames)):
            own = maps['own'][index]
            rays = ground = None
            if settings.mode == 'ground' and 'labels' in maps and sight.camera is not None:
                rays = self._rays(sight.camera.resized(width, height))
                ground = among(maps['labels'][index, None], self._ground(options))[0]
            inverse = own if relative else 1 / own
            scales.append(self._scaler.fitted(sight, inverse, ground, rays, settings))
        return scales

    def _inputs(
        self, frame: Frame, camera: Camera | None, scale: Scale | None, order: Order
    ) -> Tensors:
        """Gather what the products of a frame take beside its maps."""
        inputs: Tensors = {}
        if self.device.type == 'cpu' and not self.runtime.reuses:
            spare = {n: memory for n, memory in frame.spare.items() if n in order.wanted}
            inputs = {f'spare {name}': torch.from_numpy(memory) for name, memory in spare.items()}
        if self._depth is None or scale is None or not order.wanted & METRES:
            return inputs
        relative = isinstance(self._depth.checkpoint.depth, RelativeDepth)
        if relative or scale.factor != 1:
            inputs['factor'] = torch.full((), scale.factor, device=self.device)
        if relative:  # of metric weights the offset is zero
            inputs['offset'] = torch.full((), scale.offset, device=self.device)
        if camera is not None and ('points' in order.wanted or order.options.depth_edge_angle):
            inputs['rays'] = self._rays(camera)
        if scale.notes or not order.options.depth_steadiness:
            self._steady.forget(frame.source)  # metres of another scale are not averaged in
        elif (last := self._steady.last(frame.source, order.size)) is not None:
            inputs['gray'], inputs['before'] = last
        return inputs

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


def _sights(frames: Sequence[Frame]) -> list[Sight]:
    """Return what the scale sees of each frame."""
    return [Sight(f.source, f.seconds, f.camera, f.references, f.down) for f in frames]


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
