"""Depth -> points, packed as depth_image_proc packs them (PointXYZRGB of PCL)."""

import sys

import torch
from torch import Tensor

# name -> byte offset and type of each field; the rest of the 32 bytes is padding.
FIELDS = {'x': (0, 'f4'), 'y': (4, 'f4'), 'z': (8, 'f4'), 'rgb': (16, 'f4')}
LABEL_FIELDS = {'label': (20, 'u4'), 'confidence': (24, 'f4')}
POINT_STEP = 32
_RGB = (18, 17, 16) if sys.byteorder == 'little' else (17, 18, 19)  # of 0x00RRGGBB


def pack_points(
    depth: Tensor,
    rays: Tensor,
    colors: Tensor,
    labels: Tensor | None = None,
    confidence: Tensor | None = None,
) -> Tensor:
    """
    Lift a depth map to points in the camera's optical frame (x right, y down, z forward).

    :param depth: (H, W) float32, metres along the optical axis.
    :param rays: (2, H, W) float32, x / z and y / z of each pixel, `Camera.rays`; NaN: no ray.
    :param colors: (H, W, 3) uint8, RGB.
    :param labels: (H, W) integer class ids, into the padding; `confidence` (H, W) in [0, 1] too.
    :return: (H, W, 8) float32: x, y, z, 0, rgb, label, confidence, 0, where rgb and label are bit
        patterns of integers; x, y and z are NaN where depth is not finite.
    """
    points = torch.zeros((*depth.shape, POINT_STEP // 4), device=depth.device)
    z = depth + 0 * (depth + rays[0])  # NaN where depth or the ray is not finite
    torch.mul(rays[0], z, out=points[..., 0])
    torch.mul(rays[1], z, out=points[..., 1])
    points[..., 2] = z
    octets = points.view(torch.uint8)
    for channel, octet in enumerate(_RGB):
        octets[..., octet] = colors[..., channel]
    if labels is not None and confidence is not None:
        points.view(torch.int32)[..., 5] = labels
        points[..., 6] = confidence
    return points
