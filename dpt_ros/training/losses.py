"""
What training minimizes: the losses of the paper and of the networks it was fine-tuned like.

Shapes: B batch, (H, W) pixels, K classes. Every loss takes a mask of the pixels whose truth is
known, is a scalar, and is 0 where nothing is known.

Sources: Ranftl et al., "Towards Robust Monocular Depth Estimation" (MiDaS,
https://arxiv.org/abs/1907.01341), section 5; Eigen et al. 2014 (https://arxiv.org/abs/1406.2283),
section 3.2; Ranftl et al. 2021 (DPT, https://arxiv.org/abs/2103.13413), section 4.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TRIM = 0.2  # share of the largest residuals of an image that MiDaS leaves out
AUXILIARY = 0.2  # weight of the auxiliary segmentation head


def align(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """
    Fit scale and shift of each image by least squares: min over s, t of sum (s p + t - y)^2.

    :param prediction: (B, H, W), p.
    :param truth: (B, H, W), y.
    :param mask: (B, H, W) bool, pixels that count.
    :return: (B, H, W), s p + t; an image whose p is constant gets s = 0, t = mean of y.
    """
    m = mask.to(prediction.dtype)
    count = m.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    truth = torch.where(mask, truth, 0)
    p_mean = (m * prediction).sum(dim=(1, 2), keepdim=True) / count
    y_mean = truth.sum(dim=(1, 2), keepdim=True) / count
    p, y = m * (prediction - p_mean), m * (truth - y_mean)
    spread = (p * p).sum(dim=(1, 2), keepdim=True)
    scale = (p * y).sum(dim=(1, 2), keepdim=True) / spread.clamp_min(1e-9)
    return scale * (prediction - p_mean) + y_mean


def trimmed_absolute(prediction: Tensor, truth: Tensor, mask: Tensor, trim: float) -> Tensor:
    """
    Average |p - y| without the share `trim` of each image's largest: MiDaS, equation 8.

    As there, the sum runs over the U smallest residuals and is divided by 2 M, M all that count.
    """
    total = prediction.new_zeros(())
    for p, y, m in zip(prediction, truth, mask, strict=True):
        residuals = (p[m] - y[m]).abs()
        kept = round((1 - trim) * residuals.numel())
        if kept:
            total = total + residuals.sort().values[:kept].sum() / (2 * residuals.numel())
    return total / len(prediction)


def gradient_matching(prediction: Tensor, truth: Tensor, mask: Tensor, scales: int = 4) -> Tensor:
    """
    Compare the slopes of the residual R = p - y at several scales: MiDaS, equation 11.

    sum over scales k of 1 / M_k * sum |dR_k / dx| + |dR_k / dy|, where R_k is R at every 2^k-th
    pixel, d is the difference of neighbors that both count, and M_k is how many pixels count.
    """
    residual = torch.where(mask, prediction - torch.where(mask, truth, 0), 0)
    total = prediction.new_zeros(())
    for k in range(scales):
        r, m = residual[:, :: 2**k, :: 2**k], mask[:, :: 2**k, :: 2**k]
        across = ((r[:, :, 1:] - r[:, :, :-1]).abs() * (m[:, :, 1:] & m[:, :, :-1])).sum((1, 2))
        down = ((r[:, 1:] - r[:, :-1]).abs() * (m[:, 1:] & m[:, :-1])).sum((1, 2))
        total = total + ((across + down) / m.sum((1, 2)).clamp_min(1)).mean()
    return total


def scale_and_shift_invariant(
    prediction: Tensor, truth: Tensor, mask: Tensor, *, trim: float = TRIM, alpha: float = 0.5
) -> Tensor:
    """
    Return the loss of the relative networks: trimmed error + alpha * gradient matching, aligned.

    :param prediction: (B, H, W), inverse depth up to scale and shift.
    :param truth: (B, H, W), inverse depth, for instance in 1 / m.
    """
    aligned = align(prediction, truth, mask)
    slopes = gradient_matching(aligned, truth, mask)
    return trimmed_absolute(aligned, truth, mask, trim) + alpha * slopes


def silog(prediction: Tensor, truth: Tensor, mask: Tensor, focus: float = 0.85) -> Tensor:
    """
    Return the scale-invariant log error, for metric fine-tuning: Eigen et al., equation 4.

    sqrt(mean(g^2) - focus * mean(g)^2) with g = log p - log y over all pixels that count; 0.85 and
    the root are those of AdaBins and its successors. focus = 0 is the RMS log error.

    :param prediction: (B, H, W), metres, positive; `truth` likewise where `mask` is set.
    """
    if not mask.any():
        return prediction.sum() * 0
    g = prediction[mask].clamp_min(1e-6).log() - truth[mask].log()
    return (g.square().mean() - focus * g.mean().square()).clamp_min(1e-12).sqrt()


def log_depth(
    prediction: Tensor, truth: Tensor, mask: Tensor, *, alpha: float = 0.5, scales: int = 4
) -> Tensor:
    """
    Return the metric loss of the embedded network: mean |g| + alpha * gradient matching of g.

    g = log p - log y, so that |g| is the relative error to first order and one scale for all.
    """
    p = prediction.clamp_min(1e-6).log()
    y = torch.where(mask, truth, 1).log()
    level = ((p - y).abs() * mask).sum() / mask.sum().clamp_min(1)
    return level + alpha * gradient_matching(p, y, mask, scales)


def segmentation(
    scores: Tensor, auxiliary: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """
    Return cross-entropy(scores) + 0.2 cross-entropy(auxiliary), the paper's, section 4.2.

    Truth is read at the pixels that the scores stand on (`at_scores`), which spares upsampling.

    :param scores: (B, K, h, w); `auxiliary` likewise, at a size of its own.
    :param labels: (B, H, W) int64, 255 where not known.
    :param weights: (K,), of the classes.
    """
    main = _cross_entropy(scores, labels, weights)
    return main + AUXILIARY * _cross_entropy(auxiliary, labels, weights)


def absent(scores: Tensor, mask: Tensor, classes: Sequence[int]) -> Tensor:
    """
    Average -log(1 - p), p the probability of some classes, where it is known that they are not.

    :param scores: (B, K, h, w).
    :param mask: (B, H, W) bool, read where the scores stand (`at_scores`).
    """
    known = at_scores(mask, (scores.shape[2], scores.shape[3]))
    if not known.any():
        return scores.sum() * 0
    others = [index for index in range(scores.shape[1]) if index not in classes]
    logs = scores.float().log_softmax(dim=1)[:, others].logsumexp(dim=1)
    return -logs[known].mean()


def _cross_entropy(scores: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    truth = at_scores(labels, (scores.shape[2], scores.shape[3]))
    if (truth == 255).all():
        return scores.sum() * 0
    return F.cross_entropy(scores.float(), truth, weights, ignore_index=255)


def at_scores(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """
    Pick the labels (B, H, W) that scores of (h, w) = `size` stand on, their corners aligned.

    :return: (B, h, w), the pixel nearest to i (H - 1) / (h - 1).
    """
    rows, columns = (
        torch.linspace(0, side - 1, n, device=labels.device).round().long()
        for side, n in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows[:, None], columns]
