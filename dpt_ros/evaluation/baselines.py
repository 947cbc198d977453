"""
What an answer is worth that never looks at the image: two baselines, fitted to the truth.

'constant' is the mean of log depth and the commonest class; 'row' is log depth linear in the row
of the image and the commonest class of each row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dpt_ros.evaluation.datasets import Sample
from dpt_ros.evaluation.metrics import UNLABELLED
import numpy as np

BANDS = 192  # parts of an image's height that have a class each


@dataclass(frozen=True)
class Rows:
    """A baseline, from the top of an image (0) to its bottom (1)."""

    slope: float = 0.0  # of log depth
    offset: float = 0.0
    classes: tuple[int, ...] = ()  # from top to bottom

    def depth(self, rows: int, columns: int) -> np.ndarray:
        """Answer with depth in metres, (H, W) of any size."""
        return np.repeat(np.exp(self.offset + self.slope * _down(rows))[:, None], columns, axis=1)

    def labels(self, rows: int, columns: int) -> np.ndarray:
        """Answer with class ids, (H, W) of any size."""
        ids = np.array(self.classes)[(_down(rows) * len(self.classes)).astype(int)]
        return np.repeat(ids[:, None], columns, axis=1)


def fit_baselines(
    samples: Iterable[Sample], counts: Callable[[np.ndarray], np.ndarray] | None, classes: int
) -> dict[str, Rows]:
    """
    Fit both.

    :param counts: where depth counts, see `Protocol.counts`; None: there is no depth.
    :param classes: how many there are; 0: there are no labels.
    """
    tally = np.zeros((BANDS, classes), np.int64)
    sums, pixels = np.zeros(BANDS), np.zeros(BANDS)  # of log depth, by band
    for sample in samples:
        band = (_down(sample.rgb.shape[0]) * BANDS).astype(int)
        if counts is not None and sample.depth is not None:
            known = counts(sample.depth)
            logs = np.log(np.where(known, sample.depth, 1).astype(np.float64))
            np.add.at(sums, band, logs.sum(axis=1))
            np.add.at(pixels, band, known.sum(axis=1))
        if classes and sample.labels is not None:
            known = sample.labels != UNLABELLED
            bands = np.broadcast_to(band[:, None], known.shape)[known]
            np.add.at(tally, (bands, sample.labels[known]), 1)
    mean = slope = offset = 0.0
    if pixels.any():
        mean = float(sums.sum() / pixels.sum())
        slope, offset = _line(sums / np.maximum(pixels, 1), pixels)
    common: tuple[int, ...] = ()
    by_row: tuple[int, ...] = ()
    if tally.any():
        seen = np.flatnonzero(tally.any(axis=1))  # the others take the class of the nearest
        nearest = seen[np.abs(seen[:, None] - np.arange(BANDS)).argmin(axis=0)]
        common = (int(tally.sum(axis=0).argmax()),)
        by_row = tuple(tally[nearest].argmax(axis=1).tolist())
    return {'constant': Rows(0.0, mean, common), 'row': Rows(slope, offset, by_row)}


def _line(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Fit slope and offset of values (N,), from the top (0) to the bottom (1), by weight."""
    if np.count_nonzero(weights) < 2:  # a line needs two points
        return 0.0, float(values[weights.argmax()])
    slope, offset = np.polyfit(_down(len(values)), values, 1, w=np.sqrt(weights))
    return float(slope), float(offset)


def _down(rows: int) -> np.ndarray:
    """Return how far down the image the middle of each row is, from 0 to 1."""
    return (np.arange(rows) + 0.5) / rows
