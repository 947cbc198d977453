"""
Where the scale of each frame comes from: one mode for all cameras, one state for each.

In modes 'model' and 'fixed' everything is known before the network runs, so nothing here waits
for the device. In modes 'reference' and 'ground' a fit does, once a frame.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
import math
from typing import NamedTuple

from dpt_ros.perception.camera import Camera
from dpt_ros.perception.scale.fit import Fit, fit_inverse_depth, thin, UnfitError
from dpt_ros.perception.scale.ground import down_of, ground_inverse_depth, mounted, Vector
from dpt_ros.perception.scale.tracker import Rules, Scale, Tracker
from dpt_ros.zoo.checkpoints import Checkpoint, RelativeDepth
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MODES = ('model', 'fixed', 'reference', 'ground', 'none')
GRAVITY = ('fixed', 'imu', 'imu_optical')
GROUND = ('floor', 'road', 'sidewalk', 'path', 'runway', 'dirt track')  # where nobody names any
REMEMBERED = 4  # frames that a late reference can still be matched with
WAITING = 16  # references that are kept for frames to come
ASPECT = 0.02  # relative difference that rounding to whole pixels may make


class Reference(NamedTuple):
    """Measured depth, registered to the image of a camera."""

    seconds: float  # when it was measured, by the clock of the frames
    depth: np.ndarray  # (h, w) float32, metres; 0, NaN, Inf: not known


@dataclass(frozen=True)
class Settings:
    """The parameters `scale.*`; defaults, units and meaning: `ros.parameters`."""

    mode: str
    factor: float
    offset: float
    smoothing: float
    hold: float
    jump: float
    least_points: int
    tolerance: float
    camera_height: float
    camera_pitch: float  # degrees
    camera_roll: float
    gravity: str
    ground_share: float

    @property
    def rules(self) -> Rules:
        """What a tracker obeys."""
        return Rules(self.smoothing, self.hold, self.jump)


@dataclass(frozen=True)
class Sight:
    """What is known of one frame beside its inverse depth."""

    source: str
    seconds: float  # when it was taken
    camera: Camera | None  # of the whole image
    references: Sequence[Reference] = ()  # that came since the last frame
    down: Vector | None = None  # in the frame that `Settings.gravity` tells; None: not known


@dataclass
class _Memory:
    """What is kept of one camera."""

    tracker: Tracker = field(default_factory=Tracker)
    maps: deque[tuple[float, Tensor]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    waiting: deque[Reference] = field(default_factory=lambda: deque(maxlen=WAITING))
    heard: float = math.nan  # seconds of the newest reference


def check_mode(mode: str, checkpoint: Checkpoint, name: str) -> None:
    """Refuse a mode that makes no metres of the output of the network `name`."""
    if mode == 'model' and not checkpoint.is_metric:
        raise ValueError(
            f"{name} gives relative depth, so scale.mode 'model' has no metres to give: choose "
            "'reference' (beside a depth sensor), 'ground' (a camera of known height above a flat "
            "floor), 'fixed' (with scale.factor and scale.offset), 'none' (inverse depth only), "
            'or a metric model'
        )
    if mode == 'none' and checkpoint.is_metric:
        raise ValueError(
            f"{name} gives metres by itself, so scale.mode 'none' has no inverse depth to give: "
            "choose 'model'"
        )
    if mode == 'fixed' and checkpoint.is_metric:
        raise ValueError(
            f"{name} gives metres by itself, so scale.mode 'fixed' would scale them twice: choose "
            "'model'"
        )


class Scaler:
    """The scale of every camera's frames."""

    def __init__(self, checkpoint: Checkpoint):
        """Serve one network."""
        self._with_offset = isinstance(checkpoint.depth, RelativeDepth)
        self._focal = checkpoint.focal
        self._lenses: dict[str, float | None] = {}  # what was last corrected for, by camera
        self._mode = ''
        self._cameras: dict[str, _Memory] = {}

    def known(
        self, sights: Iterable[Sight], zoom: tuple[float, float], settings: Settings
    ) -> list[Scale] | None:
        """
        Return the scales of modes that need no look at the depth; None in the others.

        :param zoom: sides of the network's input over those of the image, across and down.
        """
        if settings.mode == 'fixed':
            return [Scale(settings.factor, settings.offset) for _ in sights]
        if settings.mode == 'model':
            return [self._corrected(sight, zoom) for sight in sights]
        return None

    def _corrected(self, sight: Sight, zoom: tuple[float, float]) -> Scale:
        """Correct for the focal length: a lens twice as long shows things twice as far away."""
        if self._focal is None:
            return Scale()
        lens = None
        if sight.camera is not None:
            lens = (sight.camera.fx * zoom[0] + sight.camera.fy * zoom[1]) / 2
        notes: tuple[str, ...] = ()
        if lens != self._lenses.get(sight.source, 0.0):
            self._lenses[sight.source] = lens
            told = 'metres are not corrected for the focal length, which no camera_info tells'
            if lens is not None:
                told = f'metres times {lens / self._focal:.3f}: the focal length is {lens:.0f} px'
            notes = (f"{told}; in the network's input it was {self._focal:.0f} px in training",)
        return Scale(self._focal / lens if lens else 1.0, notes=notes)

    def tell_again(self, source: str) -> None:
        """Note anew what a camera's metres are corrected for: the frame that told it is lost."""
        self._lenses.pop(source, None)

    def forget(self) -> None:
        """Begin anew with every camera: no frame before tells anything of those to come."""
        self._cameras.clear()
        self._lenses.clear()

    def fitted(
        self,
        sight: Sight,
        inverse: Tensor,
        ground: Tensor | None,
        rays: Tensor | None,
        settings: Settings,
    ) -> Scale:
        """
        Fit the scale of a frame and let its camera's follow.

        :param inverse: (H, W) float32, inverse depth in the unit of the network.
        :param ground: (H, W) bool, pixels that are labelled ground; None: not in this mode.
        :param rays: (2, H, W) of these pixels; None: not calibrated.
        """
        if settings.mode != self._mode:
            self._cameras.clear()  # nothing that another mode found is taken over
            self._mode = settings.mode
        memory = self._cameras.setdefault(sight.source, _Memory())
        fit: Fit | str
        try:
            if settings.mode == 'reference':
                fit = self._by_reference(memory, sight, inverse, settings)
            else:
                fit = self._by_ground(sight, inverse, ground, rays, settings)
        except UnfitError as error:
            fit = str(error)
        return memory.tracker.follow(fit, sight.seconds, settings.rules)

    def _by_reference(
        self, memory: _Memory, sight: Sight, inverse: Tensor, settings: Settings
    ) -> Fit:
        """Fit to the newest pair of a frame and a reference that belong together."""
        if memory.maps and sight.seconds < memory.maps[-1][0]:  # the clock went back
            memory.maps.clear()
            memory.waiting.clear()
        memory.maps.append((sight.seconds, inverse.clone()))  # a graph may write there again
        memory.waiting.extend(sight.references)
        if sight.references:
            memory.heard = sight.references[-1].seconds
        found, reference = _pair(memory, settings.tolerance)
        x, y = reference_points(found, reference)
        return fit_inverse_depth(x, y, with_offset=self._with_offset, least=settings.least_points)

    def _by_ground(
        self,
        sight: Sight,
        inverse: Tensor,
        ground: Tensor | None,
        rays: Tensor | None,
        settings: Settings,
    ) -> Fit:
        """Fit to the plane that the camera stands on."""
        if rays is None or ground is None:
            raise UnfitError('the camera is not calibrated: scale.mode ground needs camera_info')
        pitch, roll = math.radians(settings.camera_pitch), math.radians(settings.camera_roll)
        down = down_of(pitch, roll)
        if settings.gravity != 'fixed':
            if sight.down is None:
                raise UnfitError('no imu tells where down is')
            optical = settings.gravity == 'imu_optical'
            down = sight.down if optical else mounted(sight.down, pitch, roll)
        target = ground_inverse_depth(rays, down, settings.camera_height)
        seen = (ground & target.isfinite()).flatten().nonzero()[:, 0]
        share = len(seen) / target.numel()
        if share < settings.ground_share:
            raise UnfitError(
                f'{share:.1%} of the image is ground, {settings.ground_share:.1%} are needed'
            )
        seen = seen[thin(len(seen)).to(seen.device)]
        return fit_inverse_depth(
            inverse.flatten()[seen],
            target.flatten()[seen],
            with_offset=self._with_offset,
            least=settings.least_points,
        )


def _pair(memory: _Memory, tolerance: float) -> tuple[Tensor, Reference]:
    """Take the newest frame that a reference belongs to, and the nearest reference to it."""
    for index in range(len(memory.maps) - 1, -1, -1):
        seconds, inverse = memory.maps[index]
        nearest = min(memory.waiting, key=lambda r: abs(r.seconds - seconds), default=None)
        if nearest is None or abs(nearest.seconds - seconds) > tolerance:
            continue
        for _ in range(index + 1):  # what is older has had its chance
            memory.maps.popleft()
        while memory.waiting and memory.waiting[0].seconds <= nearest.seconds:
            memory.waiting.popleft()
        return inverse, nearest
    if math.isnan(memory.heard):
        raise UnfitError('no reference_depth has come')
    away = min(abs(memory.heard - seconds) for seconds, _ in memory.maps)
    raise UnfitError(
        f'no reference_depth is within {tolerance:g} s of an image (scale.reference_tolerance): '
        f'the last one is {away:.3g} s away'
    )


def reference_points(inverse: Tensor, reference: Reference) -> tuple[Tensor, Tensor]:
    """
    Bring measured depth and a network's inverse depth together.

    :param inverse: (H, W) float32.
    :param reference: of any size with the aspect of `inverse`.
    :return: x and y, (N,) each: inverse depth in the unit of the network, and in 1 / m.
    """
    (rows, columns), (height, width) = inverse.shape, reference.depth.shape
    if abs(width * rows / (height * columns) - 1) > ASPECT + 1 / min(rows, height):
        raise UnfitError(
            f'reference_depth of {width}x{height} does not have the aspect of the image, of '
            f'which {columns}x{rows} is computed: register it to the image'
        )
    flat = reference.depth.ravel()
    with np.errstate(invalid='ignore'):
        known = np.flatnonzero((flat > 0) & np.isfinite(flat))
    known = known[thin(len(known)).numpy()]
    y = 1 / flat[known]
    # Where pixel centers of the reference lie in the map, edges at -1 and 1.
    across = (2 * (known % width) + 1) / width - 1
    down = (2 * (known // width) + 1) / height - 1
    places = torch.from_numpy(np.stack((across, down), axis=-1).astype(np.float32))
    places = places.to(inverse.device)[None, None]
    x = F.grid_sample(inverse[None, None], places, padding_mode='border', align_corners=False)
    return x[0, 0, 0], torch.from_numpy(y).to(inverse.device)
