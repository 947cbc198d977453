"""
What a user would write: transformers for the network, loops of copies for the messages.

The network, its image processor and its post-processing are transformers'; messages are converted
as cv_bridge does it (one copy to read an image, two to write it) and clouds are built as with
sensor_msgs_py's `create_cloud`: a structured array filled field by field, which it copies once
into the message. It is written with care, nothing is slower than such code needs to be: all is
done on whole arrays, the image is prepared once for both networks, and on a GPU maps are finished
there. It does less than ours in one thing: pixels that float between a near and a far surface
stay in its depth and cloud (see `depth.edge_angle`), for nobody has that at hand.
"""

from array import array
from time import perf_counter
from typing import Any

import cv2
from dpt_ros.bench.ceilings import synchronize
from dpt_ros.bench.twins import MEANING, SIDE
from dpt_ros.ros.parameters import Parameters
from dpt_ros.zoo.labels import Labels
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header
import torch
from torch import nn
from torch.nn import functional as F
from transformers import DPTImageProcessor

FIELDS = {  # as depth_image_proc has them, and labels in the padding
    'x': (0, 'f4', PointField.FLOAT32),
    'y': (4, 'f4', PointField.FLOAT32),
    'z': (8, 'f4', PointField.FLOAT32),
    'rgb': (16, 'u4', PointField.FLOAT32),
    'label': (20, 'u4', PointField.UINT32),
    'confidence': (24, 'f4', PointField.FLOAT32),
}
POINT = np.dtype(
    {
        'names': list(FIELDS),
        'formats': [kind for _, kind, _ in FIELDS.values()],
        'offsets': [at for at, _, _ in FIELDS.values()],
        'itemsize': 32,
    }
)


class Baseline:
    """All messages of one frame, the usual way."""

    def __init__(
        self, depth: nn.Module, segmentation: nn.Module, labels: Labels, device: torch.device
    ):
        """Take transformers' networks for depth and for labels, and bring them to the device."""
        self._depth, self._segmentation = depth.to(device), segmentation.to(device)
        self._device = device
        self._palette = np.array(labels.colors, np.uint8)
        self._sky = labels.names.index('sky')
        self._parameters = Parameters()
        self._processor = DPTImageProcessor(
            size={'height': SIDE, 'width': SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )

    @torch.inference_mode()
    def __call__(self, image: Image, info: CameraInfo) -> tuple[list[Any], float]:
        """Return the messages of an rgb8 image, and the seconds that the networks took of it."""
        header, size = image.header, (image.height, image.width)
        rgb = np.frombuffer(image.data, np.uint8).reshape(*size, 3).copy()
        inputs = self._processor(images=rgb, return_tensors='pt').to(self._device)
        synchronize(self._device)
        started = perf_counter()
        of_depth = self._depth(**inputs)
        of_labels = self._segmentation(**inputs)
        synchronize(self._device)
        network = perf_counter() - started
        scores = F.interpolate(of_labels.logits, size, mode='bilinear', align_corners=False)
        best, labels = (t[0].cpu().numpy() for t in scores.softmax(dim=1).max(dim=1))
        (post,) = self._processor.post_process_depth_estimation(of_depth, target_sizes=[size])
        raw: Any = post['predicted_depth']
        inverse = MEANING.scale * raw + MEANING.offset
        depth = (1 / inverse.clamp_min(1e-8)).cpu().numpy()
        depth = self._clean(depth, labels)
        ids = labels.astype(np.uint8)
        confidence = np.round(best * 255).astype(np.uint8)
        farthest = self._parameters.depth_color_max
        steps = np.clip(np.nan_to_num(depth, posinf=0) / farthest * 255, 0, 255).astype(np.uint8)
        colored = cv2.cvtColor(cv2.applyColorMap(steps, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
        colored[~np.isfinite(depth)] = 0
        overlay = cv2.addWeighted(rgb, 0.5, self._palette[labels], 0.5, 0)
        messages = [
            _image(header, depth, '32FC1'),
            _image(header, colored, 'rgb8'),
            _image(header, ids, 'mono8'),
            _image(header, confidence, 'mono8'),
            _image(header, overlay, 'rgb8'),
            _cloud(header, depth, rgb, labels, best, info),
            _image(header, rgb, 'rgb8'),
            info,
            info,
            info,
        ]
        return messages, network

    def _clean(self, depth: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Mark what is too near, too far, or sky."""
        depth[depth < self._parameters.depth_min] = np.nan
        depth[(depth > self._parameters.depth_max) | (labels == self._sky)] = np.inf
        return depth


def _image(header: Header, pixels: np.ndarray, encoding: str) -> Image:
    message = Image(header=header, encoding=encoding)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // message.height
    message.data.frombytes(pixels.tobytes())
    return message


def _cloud(
    header: Header,
    depth: np.ndarray,
    rgb: np.ndarray,
    labels: np.ndarray,
    confidence: np.ndarray,
    info: CameraInfo,
) -> PointCloud2:
    height, width = depth.shape
    fx, _, cx, _, fy, cy = info.k[:6]
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    points = np.zeros(depth.shape, POINT)
    z = np.where(np.isfinite(depth), depth, np.nan)
    points['x'], points['y'], points['z'] = (u - cx) * z / fx, (v - cy) * z / fy, z
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    points['rgb'] = red << 16 | green << 8 | blue
    points['label'], points['confidence'] = labels, confidence
    data = array('B')
    data.frombytes(points.view(np.uint8).data)
    return PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=[
            PointField(name=name, offset=at, datatype=kind, count=1)
            for name, (at, _, kind) in FIELDS.items()
        ],
        point_step=POINT.itemsize,
        row_step=POINT.itemsize * width,
        data=data,
    )
