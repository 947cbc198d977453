"""
Scores of depth and of labels, defined as the published tables mean them.

Those of depth are of one image, averaged over images afterwards: every image counts alike. Those
of labels are of all pixels of all images together. Everything is computed in float64.
"""

from collections.abc import Iterable, Sequence

import numpy as np

DEPTH = (
    'abs_rel',
    'sq_rel',
    'rmse',
    'rmse_log',
    'silog',
    'log10',
    'delta1',
    'delta2',
    'delta3',
    'bad_pixels',
)
LABELS = ('miou', 'pixel_accuracy')
UNLABELLED = 255  # in the truth: the pixel does not count


def score_depth(depth: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """
    Compare depth p with the truth y, both (N,), metres, positive and finite.

    - abs_rel: mean of |p - y| / y; sq_rel: mean of (p - y)^2 / y, in metres.
    - rmse: root of the mean of (p - y)^2, in metres; rmse_log: of (ln p - ln y)^2.
    - silog: 100 times the standard deviation of ln p - ln y, blind to a common factor.
    - log10: mean of |log10 p - log10 y|.
    - delta1, delta2, delta3: share (0 to 1) with max(p / y, y / p) < 1.25, 1.25^2, 1.25^3.
    - bad_pixels: percentage with max(p / y, y / p) > 1.25.

    Sources: eval_with_pngs.py of BTS, as the DPT authors use it; `bad_pixels`: their Table 1.
    """
    p, y = depth.astype(np.float64), truth.astype(np.float64)
    ratio = np.maximum(p / y, y / p)
    error, log_error = p - y, np.log(p) - np.log(y)
    return {
        'abs_rel': float(np.mean(np.abs(error) / y)),
        'sq_rel': float(np.mean(error**2 / y)),
        'rmse': float(np.sqrt(np.mean(error**2))),
        'rmse_log': float(np.sqrt(np.mean(log_error**2))),
        'silog': float(100 * np.std(log_error)),
        'log10': float(np.mean(np.abs(log_error)) / np.log(10)),
        'delta1': float(np.mean(ratio < 1.25)),
        'delta2': float(np.mean(ratio < 1.25**2)),
        'delta3': float(np.mean(ratio < 1.25**3)),
        'bad_pixels': float(100 * np.mean(ratio > 1.25)),
    }


def mean_scores(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """Average the scores of images, each of the same weight; of no images there are none."""
    scores = list(scores)
    return {key: float(np.mean([s[key] for s in scores])) for key in scores[0]} if scores else {}


def align(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """
    Fit scale and offset: min over s, t of sum (s p + t - y)^2.

    :param prediction: p, (N,), inverse depth in any unit; a constant one gets s = 0.
    :param truth: y, (N,), inverse depth in 1 / m.
    :return: s p + t, (N,) float64, 1 / m.
    """
    p, y = prediction.astype(np.float64), truth.astype(np.float64)
    spread = p - p.mean()
    variance = spread @ spread
    scale = spread @ (y - y.mean()) / variance if variance > 0 else 0.0
    return y.mean() + scale * spread


class Confusion:
    """How often each class was taken for each, over all images."""

    def __init__(self, names: Sequence[str]):
        """Begin with no pixels; `names` are the classes, in the order of their ids."""
        self.names = names
        self.counts = np.zeros((len(names), len(names)), np.int64)  # truth by row

    def add(self, labels: np.ndarray, truth: np.ndarray) -> None:
        """Count the pixels of an image, (H, W) class ids, where the truth is not `UNLABELLED`."""
        known = truth != UNLABELLED
        pairs = truth[known].astype(np.int64) * len(self.names) + labels[known]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def scores(self) -> dict[str, float]:
        """
        Summarize: shares from 0 to 1.

        - miou: mean over the classes that occur, in truth or prediction, of
          intersection / union.
        - pixel_accuracy: pixels that are right.
        """
        return {
            'miou': float(np.mean(list(self.iou().values()))),
            'pixel_accuracy': float(np.trace(self.counts) / self.counts.sum()),
        }

    def iou(self) -> dict[str, float]:
        """Return intersection / union of each class that occurs."""
        right = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - right
        pairs = zip(self.names, right, union, strict=True)
        return {name: float(r / u) for name, r, u in pairs if u}
