"""
What counts, and how: crops, caps, clamps and alignment of each data set, as published.

A network of metric depth is scored as it is. One of relative depth gets scale and offset of its
inverse depth fitted to the truth of each image first, by least squares, as its authors do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import math

from dpt_ros.evaluation.metrics import align, score_depth
import numpy as np

Window = Callable[[int, int], tuple[slice, slice]]  # of an image of so many rows and columns

KB_SIZE = (352, 1216)  # rows and columns of the images of KITTI's depth benchmark


def whole(rows: int, columns: int) -> tuple[slice, slice]:
    """Return all of an image."""
    return slice(0, rows), slice(0, columns)


def kb_crop(rows: int, columns: int) -> tuple[slice, slice]:
    """Return the bottom 352 rows and the middle 1216 columns, as BTS crops KITTI's images."""
    if rows < KB_SIZE[0] or columns < KB_SIZE[1]:
        raise ValueError(
            f'an image of {columns}x{rows} pixels cannot be cropped to the 1216x352 of the KITTI '
            'benchmark: give the images of KITTI as they were published'
        )
    top, left = rows - KB_SIZE[0], (columns - KB_SIZE[1]) // 2
    return slice(top, rows), slice(left, left + KB_SIZE[1])


def garg_crop(rows: int, columns: int) -> tuple[slice, slice]:
    """Return the part of KITTI's images that Garg et al. (ECCV 2016) score."""
    return (
        slice(int(0.40810811 * rows), int(0.99189189 * rows)),
        slice(int(0.03594771 * columns), int(0.96405229 * columns)),
    )


def eigen_crop(rows: int, columns: int) -> tuple[slice, slice]:
    """Return the part of NYU's images that Eigen et al. (NIPS 2014) score: no white border."""
    if (rows, columns) != (480, 640):
        raise ValueError(
            f'the crop of Eigen et al. is for images of 640x480 pixels, not {columns}x{rows}: '
            'give the images of NYU Depth v2 as they were published'
        )
    return slice(45, 471), slice(41, 601)


@dataclass(frozen=True)
class Protocol:
    """How depth is scored."""

    cap: float  # metres that a prediction is clamped to
    below: float  # truth counts that is nearer, metres
    above: float = 1e-3  # and farther; a metric prediction is clamped to it
    given: Window = whole  # what the network gets to see of an image
    counted: Window = whole  # what is scored
    aligned: bool = False  # fit scale and offset of inverse depth to each image

    def score(self, prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """
        Score one image.

        :param prediction: (H, W), metres (+Inf: nothing in range); inverse depth if aligned.
        :param truth: (H, W), metres; 0, NaN or Inf where not known.
        :return: see `metrics.score_depth`; nothing if no pixel counts.
        """
        counts = self.counts(truth)
        if not counts.any():
            return {}
        p, y = prediction[counts].astype(np.float64), truth[counts].astype(np.float64)
        if self.aligned:
            return score_depth(1 / np.maximum(align(p, 1 / y), 1 / self.cap), y)
        return score_depth(np.nan_to_num(p, nan=self.above).clip(self.above, self.cap), y)

    def counts(self, truth: np.ndarray) -> np.ndarray:
        """Return where the truth (H, W) counts, (H, W) bool."""
        counted = np.zeros(truth.shape, bool)
        counted[self.counted(*truth.shape)] = True
        return counted & (truth > self.above) & (truth < self.below)


# By data set; of each the first is its own, and the only one with published numbers.
METRIC: Mapping[str, Mapping[str, Protocol]] = {
    # BTS, eval_with_pngs.py --eigen_crop --max_depth_eval 10; DPT's Table 2
    'nyu': {'metric': Protocol(10, below=10, counted=eigen_crop)},
    # BTS, eval_with_pngs.py --garg_crop --do_kb_crop --max_depth_eval 80; DPT's Table 3
    'kitti': {'metric': Protocol(80, below=80, given=kb_crop, counted=garg_crop)},
    'folder': {'metric': Protocol(20, below=20), 'aligned': Protocol(20, below=20, aligned=True)},
    'worlds': {'metric': Protocol(20, below=20), 'aligned': Protocol(20, below=20, aligned=True)},
}
RELATIVE: Mapping[str, Mapping[str, Protocol]] = {
    # zero-shot, DPT's Table 1: no crops; what is known counts, KITTI's beyond the cap too
    'nyu': {'aligned': Protocol(10, below=10, above=0, aligned=True)},
    'kitti': {'aligned': Protocol(80, below=math.inf, above=0, aligned=True)},
    'folder': {'aligned': Protocol(20, below=20, aligned=True)},
    'worlds': {'aligned': Protocol(20, below=20, aligned=True)},
}
