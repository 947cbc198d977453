"""Depth -> points, packed as depth_image_proc packs them (PointXYZRGB of PCL)."""

from dpt_ros.perception.bands import in_bands, loops_for, room
from dpt_ros.perception.paint import look_up
import numpy as np
import torch
from torch import Tensor

# name -> byte offset and type of each field; the rest of the 32 bytes is padding.
FIELDS = {'x': (0, 'f4'), 'y': (4, 'f4'), 'z': (8, 'f4'), 'rgb': (16, 'f4')}
LABEL_FIELDS = {'label': (20, 'u4'), 'confidence': (24, 'f4')}
POINT_STEP = 32


def choose(
    depth: Tensor, clearing: float, labels: Tensor | None = None, chosen: Tensor | None = None
) -> Tensor:
    """
    Choose what becomes points.

    :param depth: (H, W) float32, metres.
    :param clearing: distance of points where there is nothing in range (+Inf); 0: none.
    :param labels: (H, W) integers, rows of `chosen` (N,) bool; None: every class is chosen.
    :return: (H, W) float32, NaN where a pixel is not chosen.
    """
    clearing = clearing or torch.inf
    by_class = None if labels is None or chosen is None else (labels, chosen)
    if loops := loops_for(depth):
        solid = torch.empty_like(depth)
        classes = by_class or (None, None)
        in_bands(loops.choose, depth.shape[0], depth, np.float32(clearing), *classes, solid)
        return solid
    solid = depth.masked_fill(depth == torch.inf, clearing)
    if by_class is not None:
        labels, chosen = by_class
        solid = solid.masked_fill(~look_up(chosen, labels), torch.nan)
    return solid


def pack_points(
    depth: Tensor,
    rays: Tensor,
    colors: Tensor,
    labels: Tensor | None = None,
    confidence: Tensor | None = None,
    spare: Tensor | None = None,
) -> Tensor:
    """
    Lift a depth map to points in the camera's optical frame (x right, y down, z forward).

    :param depth: (H, W) float32, metres along the optical axis.
    :param rays: (2, H, W) float32, x / z and y / z of each pixel, `Camera.rays`; NaN: no ray.
    :param colors: (H, W, 3) uint8, RGB.
    :param labels: (H, W) integer class ids, into the padding; `confidence` (H, W) in [0, 1] too.
    :param spare: memory for it, see `bands.room`.
    :return: (H, W, 8) float32: x, y, z, 0, rgb, label, confidence, 0, where rgb and label are bit
        patterns of integers; x, y and z are NaN where depth is not finite.
    """
    labelled = labels is not None and confidence is not None
    if loops := loops_for(depth):
        points = room(spare, *depth.shape, POINT_STEP // 4)
        nothing = torch.empty((0, 0), dtype=torch.uint8), depth  # is not looked at
        extra = (labels, confidence) if labelled else nothing
        pairs = points.view(torch.int64)
        in_bands(loops.lift, depth.shape[0], depth, rays, colors, *extra, labelled, pairs)
        return points
    z = depth + 0 * (depth + rays[0])  # NaN where depth or the ray is not finite
    zeros = torch.zeros_like(z)
    red, green, blue = colors.int().unbind(dim=-1)
    rgb = (red << 16 | green << 8 | blue).view(torch.float32)
    planes = [rays[0] * z, rays[1] * z, z, zeros, rgb, zeros, zeros, zeros]
    if labels is not None and confidence is not None:
        planes[5:7] = labels.int().view(torch.float32), confidence
    return torch.stack(planes, dim=-1)
