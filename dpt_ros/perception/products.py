"""
What can be asked of an image, and the way there from the own maps of the networks.

Two steps, for each image of a batch: `cleanup` makes metres and says what of them is out of range,
`points` takes out what floats between surfaces and lays out the products. Both are pure functions
of tensors that never wait for the device, so whoever runs them (`runtime`) may capture them.
"""

from dataclasses import dataclass
from functools import lru_cache
import math

import cv2
from dpt_ros.perception.bands import catch_up
from dpt_ros.perception.cleanup import clean, cut_flying
from dpt_ros.perception.networks import BELIEVABLE
from dpt_ros.perception.paint import fill, millimetres, quantize, shade, tint, Tints
from dpt_ros.perception.points import choose, pack_points
from dpt_ros.perception.program import Program, Step, Tensors
from dpt_ros.perception.scale.metres import metres_of_inverse
from dpt_ros.perception.steady import calm
from dpt_ros.zoo.checkpoints import Resize
from dpt_ros.zoo.labels import Labels
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
PAST = ('gray', 'before')  # of an image, for the next one; see `steady.calm`
METRES = frozenset(name for name, needs in PRODUCTS.items() if 'metres' in needs)


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


@dataclass(frozen=True)
class Order:
    """What is wanted of one image."""

    wanted: frozenset[str]  # out of PRODUCTS; every one can be made of the maps given
    size: tuple[int, int]  # (H, W) of the maps
    options: Options


class Finisher:
    """Makes the products of a batch of its maps, image by image."""

    def __init__(self, labels: Labels | None, depth_resize: Resize | None, device: torch.device):
        """
        Prepare the colors.

        :param labels: of the network for labels, None for none.
        :param depth_resize: how images come to the network for depth, None for none.
        """
        self._labels, self._device = labels, device
        if depth_resize is not None:
            self._depth_side = min(depth_resize.width, depth_resize.height)
        turbo = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO)
        red_to_blue = np.ascontiguousarray(turbo[::-1, 0, ::-1])
        self._turbo = torch.from_numpy(red_to_blue).to(device)  # near is red

    def program(self, orders: tuple[Order, ...]) -> Program:
        """
        Return the way to the products of a batch from what is given of it.

        Given are `pixels`, (B, h, w, 3) uint8, and as far as they are needed and there: the maps
        and flags of `Networks.program`; and for each image, named as `of_image` takes them apart,
        `factor` and `offset` of the scale, () float32, where metres are not what the network gave;
        `rays`, (2, H, W) of a calibrated camera; `spare PRODUCT`, bytes that it may be written to
        (`bands.room`); `gray` and `before`, what `steady.calm` gave of the last image.

        For each image its products come by their names, clouds organized, with its flags; with
        `depth_steadiness` 'gray' and 'before' for the next image come too.

        :param orders: one for each image.
        """

        def cleanup(given: Tensors) -> list[Tensors]:
            return [self._clean(order, of_image(given, n)) for n, order in enumerate(orders)]

        def points(images: list[Tensors]) -> Tensors:
            finished: Tensors = {}
            for index, (order, maps) in enumerate(zip(orders, images, strict=True)):
                finished |= as_image(self._lay_out(order, maps), index)
            return finished

        steps: dict[str, Step] = {'cleanup': cleanup, 'points': points}
        return Program('finish', orders, steps, frozenset(steps))

    def _clean(self, order: Order, given: Tensors) -> Tensors:
        """Make metres, and know what is in range; bring the image to the size of the maps."""
        options, maps = order.options, dict(given)
        maps['colors'] = colors = _shrink(maps.pop('pixels'), *order.size)
        if not order.wanted & METRES:
            return maps
        depth = clean(_scaled(given), given.get('sky'), options.depth_min, options.depth_max)
        if options.depth_steadiness:
            catch_up()
            last = (given['gray'], given['before']) if 'gray' in given else None
            depth, maps['gray'] = calm(depth, colors, last, options.depth_steadiness)
            maps['before'] = depth
        maps['depth'] = depth
        return maps

    def _lay_out(self, order: Order, maps: Tensors) -> Tensors:
        """Turn the maps, all (H, W), into the products wanted."""
        wanted, options, colors = order.wanted, order.options, maps['colors']
        beside = (name for name in maps if name in PAST or name.endswith(BELIEVABLE))
        products: Tensors = {name: maps[name] for name in beside}
        depth, labels = maps.get('depth'), maps.get('labels')

        def spare(product: str) -> Tensor | None:
            return maps.get(f'spare {product}')

        if depth is not None and 'rays' in maps and options.depth_edge_angle:
            reach = self._edge_reach(order.size)
            kept = spare('depth') if _is_as_computed(options) else None
            depth = cut_flying(depth, maps['rays'], options.depth_edge_angle, reach, kept)

        if 'color' in wanted:
            products['color'] = colors
        if 'inverse_depth' in wanted:
            products['inverse_depth'] = maps['own']
        if depth is not None:
            if 'depth' in wanted:
                products['depth'] = _encode_depth(depth, options, spare('depth'))
            if 'depth_color' in wanted:
                per_metre = 255 / options.depth_color_max  # from 0, fixed; unknown, sky: black
                shaded = shade(depth, self._turbo, per_metre, spare('depth_color'))
                products['depth_color'] = shaded
            if 'points' in wanted:
                extra = (labels, maps.get('confidence')) if options.points_labels else (None, None)
                chosen = self.classes_of_points(options) if labels is not None else None
                clearing, solid = options.points_clearing_distance, depth
                if clearing or chosen is not None:
                    solid = choose(depth, clearing, labels, chosen)
                products['points'] = pack_points(
                    solid, maps['rays'], colors, *extra, spare=spare('points')
                )
        if labels is not None:
            if 'labels' in wanted:
                products['labels'] = _encode_labels(labels)
            if 'confidence' in wanted:
                products['confidence'] = quantize(maps['confidence'], spare('confidence'))
            if 'overlay' in wanted and self._labels is not None:
                tints = _tints(self._labels, options.segmentation_overlay_opacity, self._device)
                products['overlay'] = tint(colors, labels, tints, spare('overlay'))
        return products

    def classes_of_points(self, options: Options) -> Tensor | None:
        """Return a table, a row for each label: whether it becomes points; None: all do."""
        excluded, only = options.points_exclude_classes, options.points_only_classes
        if not excluded and not only:
            return None
        if self._labels is None:
            raise ValueError(
                'points.exclude_classes and points.only_classes need labels: name a network in '
                'segmentation.model, or leave both empty'
            )
        return _class_table(self._labels, excluded, only, self._device)

    def _edge_reach(self, size: tuple[int, int]) -> int:
        """Return half the width of a depth edge as networks draw it, in pixels of the maps."""
        return max(2, round(1.5 * min(size) / self._depth_side))


def of_image(tensors: Tensors, index: int) -> Tensors:
    """Take from what a batch has what one image has: its part of 'NAME', and '/INDEX NAME'."""
    mark, its = f'/{index} ', dict[str, Tensor]()
    for name, tensor in tensors.items():
        if name[0] != '/':
            its[name] = tensor.select(0, index)
        elif name.startswith(mark):
            its[name.removeprefix(mark)] = tensor
    return its


def as_image(tensors: Tensors, index: int) -> Tensors:
    """Name what one image has as `of_image` finds it in what its batch has."""
    return {f'/{index} {name}': tensor for name, tensor in tensors.items()}


def compact(points: Tensor) -> Tensor:
    """Keep the valid points of an organized cloud (H, W, 8): (N, 8); waits for the device."""
    return points[points[..., 2].isfinite()]


def class_names(text: str) -> list[str]:
    """Split names with commas between, such as 'person, chair'."""
    return [name.strip() for name in text.split(',') if name.strip()]


def _scaled(given: Tensors) -> Tensor:
    """Make metres of what `depth_of_weights` gave: metres, or inverse depth with an offset."""
    if 'offset' in given:
        return metres_of_inverse(given['own'], given['factor'], given['offset'])
    if 'factor' in given:
        catch_up()
        return given['own'] / given['factor']
    return given['own']


def _shrink(pixels: Tensor, height: int, width: int) -> Tensor:
    """Average an image (H, W, 3) uint8 down to height x width."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = pixels.permute(2, 0, 1).float()
    small = F.adaptive_avg_pool2d(image, (height, width))
    return small.round_().to(torch.uint8).permute(1, 2, 0)


def _is_as_computed(options: Options) -> bool:
    """Return whether depth goes out as it was computed."""
    return options.depth_encoding != '16UC1' and math.isnan(options.depth_invalid_value)


def _encode_depth(depth: Tensor, options: Options, spare: Tensor | None) -> Tensor:
    """Bring depth to its message's encoding: 32FC1 metres, or 16UC1 millimetres with 0 invalid."""
    if _is_as_computed(options):
        return depth
    if options.depth_encoding == '16UC1':
        return millimetres(depth, spare)
    return fill(depth, options.depth_invalid_value, spare)


def _encode_labels(labels: Tensor) -> Tensor:
    """Bring labels to their message's encoding: mono8 or, above 255 classes, 16UC1."""
    if labels.itemsize == 1:
        return labels
    catch_up()
    return labels.to(torch.uint16)


@lru_cache(maxsize=8)
def _tints(labels: Labels, opacity: float, device: torch.device) -> Tints:
    """Say how each label tints an image; unlabelled pixels stay as they are."""
    known = len(labels.colors)
    colors = torch.zeros((labels.unlabelled + 1, 3), dtype=torch.uint8)
    colors[:known] = torch.tensor(labels.colors, dtype=torch.uint8)
    opacities = torch.zeros(len(colors))
    opacities[:known] = opacity
    return Tints(colors.to(device), opacities.to(device))


@lru_cache(maxsize=8)
def _class_table(labels: Labels, excluded: str, only: str, device: torch.device) -> Tensor:
    """Say of each label whether its points stay, (N,) bool; unlabelled ones are no class."""
    table = torch.full((labels.unlabelled + 1,), not only)
    for parameter, text, stays in (('only', only, True), ('exclude', excluded, False)):
        names = class_names(text)
        if unknown := [name for name in names if name not in labels.names]:
            raise ValueError(
                f'points.{parameter}_classes names {", ".join(unknown)}, which segmentation.model '
                f'does not know; it knows {", ".join(labels.names)}'
            )
        table[list(labels.find(*names))] = stays
    return table.to(device)
