"""
The pinhole camera with lens distortion: which ray each pixel sees.

Rays live in the camera's optical frame (REP 103: x right, y down, z forward). Pixel (0, 0) is the
*center* of the top left pixel, as in ROS and OpenCV.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

# Names of sensor_msgs/distortion_models, and how many coefficients OpenCV takes for each.
DISTORTIONS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}
LARGEST = 1e9  # of a camera's numbers; rays stay finite


@dataclass(frozen=True)
class Camera:
    """Intrinsics of an image of this very size, in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: str = ''  # a key of DISTORTIONS; empty: none, or rectified
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no camera."""
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.coefficients)
        possible = all(abs(number) < LARGEST for number in numbers)  # which NaN is not
        if not (possible and min(self.fx, self.fy) > 1 / LARGEST):
            raise ValueError(
                f'a camera with focal lengths {self.fx:g}, {self.fy:g} and center {self.cx:g}, '
                f'{self.cy:g} sees nothing: lengths must be positive and all '
                'numbers finite and sane; calibrate it'
            )
        if (self.distortion or self.coefficients) and self.distortion not in DISTORTIONS:
            raise ValueError(
                f'distortion model {self.distortion[:40]!r} is not one of '
                f'{", ".join(DISTORTIONS)}: calibrate with one of these, or feed the rectified '
                'image'
            )
        if self.distortion and len(self.coefficients) not in DISTORTIONS[self.distortion]:
            wanted = ' or '.join(map(str, DISTORTIONS[self.distortion]))
            raise ValueError(
                f'distortion model {self.distortion} takes {wanted} coefficients, '
                f'got {len(self.coefficients)}'
            )

    def cropped(self, x: int, y: int, width: int, height: int) -> 'Camera':
        """Return the camera of the part that starts at (x, y)."""
        return replace(self, width=width, height=height, cx=self.cx - x, cy=self.cy - y)

    def resized(self, width: int, height: int) -> 'Camera':
        """Return the camera of the same view resampled to width x height; edges stay edges."""
        if (width, height) == (self.width, self.height):
            return self
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def rays(self) -> np.ndarray:
        """
        Return where each pixel's ray meets the plane z = 1.

        :return: (height, width, 2) float32, x and y; metres per metre of depth.
        """
        x = (np.arange(self.width) - self.cx) / self.fx
        y = (np.arange(self.height) - self.cy) / self.fy
        rays = np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1)
        if any(self.coefficients):
            rays = self._undistort(rays)
        return rays.astype(np.float32)

    def _undistort(self, rays: np.ndarray) -> np.ndarray:
        """Take the lens out of (height, width, 2) distorted, normalized coordinates."""
        points, lens = rays.reshape(-1, 1, 2), np.array(self.coefficients)
        still, one = np.zeros(3), np.eye(3)
        if self.distortion == 'equidistant':
            project: Callable[..., Any] = cv2.fisheye.projectPoints
            straight = cv2.fisheye.undistortPoints(points, one, lens)
        else:
            project = cv2.projectPoints
            until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
            straight = cv2.undistortPointsIter(points, one, lens, one, one, until)
        ahead = cv2.convertPointsToHomogeneous(straight)
        # In parts: OpenCV fills derivatives too, hundreds of bytes a point, and memory is slow.
        parts = np.array_split(ahead, 1 + len(ahead) // 65536)
        again = np.concatenate([project(part, still, still, one, lens)[0] for part in parts])
        off = np.abs(again - points).max(axis=-1) * max(self.fx, self.fy)  # pixels
        straight[~(off < 0.05)] = np.nan  # the lens model explains no such pixel
        return straight.reshape(rays.shape)
