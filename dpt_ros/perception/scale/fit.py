"""
Robust fit of inverse depth: y = factor * x + offset, whatever a third of the points may say.

x is the inverse depth of a network in its own unit, y the true one in 1 / m. Residuals are
relative to y, so that every range counts alike: an error of 2 % at 1 m weighs as 2 % at 5 m. Only
what is farther than `FAR` times the median is not weighed up any more, since there a network has
nothing but noise to offer.

The start is the least median of squares over random pairs (Rousseeuw 1984: half of the points
may be wrong), the end Tukey's bisquare by iteratively reweighted least squares in closed form
(Holland and Welsch 1977). All of it runs on the device of the points; one small tensor comes back.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 8192  # points that a fit looks at; more add time and no accuracy
FAR = 4.0
PAIRS, JUDGES = 256, 512  # first guesses, and the points that judge them
ROUNDS, STEPS = 4, 5  # the deviation is estimated anew after each round of steps
TUKEY = 4.685  # deviations beyond which a point has no say: 95 % efficiency on normal errors
INLIER = 2.5  # deviations
EXACT = 1e-4  # deviation below which nothing real lies

# What a fit must be to be believed.
LEAST_RATIO = 0.4  # of points that agree
MOST_RESIDUAL = 0.2  # median relative error of those
LEAST_SPREAD = 1.25  # farthest to nearest of those (95 % to 5 %), where an offset is fitted

_DRAWS = torch.rand((3, max(PAIRS, JUDGES)), generator=torch.Generator().manual_seed(0))


class UnfitError(ValueError):
    """These points give no scale; the text says why."""


@dataclass(frozen=True)
class Fit:
    """Scale and offset of one frame, 1 / metres = factor * x + offset, and how sure they are."""

    factor: float
    offset: float  # 1 / m
    points: int  # looked at
    inliers: int  # of these, in agreement
    residual: float  # median relative error of the inliers
    quartiles: tuple[float, float, float]  # of x among the inliers

    def change(self, factor: float, offset: float) -> float:
        """Return by what share another scale would give other metres where these points lie."""
        tiny = 1e-9
        ratios = [
            max(self.factor * x + self.offset, tiny) / max(factor * x + offset, tiny)
            for x in self.quartiles
        ]
        return max(max(ratio, 1 / ratio) for ratio in ratios) - 1


def thin(count: int) -> Tensor:
    """Return at most `MOST` indices of `count` points, evenly apart."""
    return torch.linspace(0, count - 1, min(count, MOST), dtype=torch.float64).round().long()


def fit_inverse_depth(x: Tensor, y: Tensor, *, with_offset: bool, least: int) -> Fit:
    """
    Fit scale and offset, or the scale alone.

    :param x: (N,), inverse depth in the unit of the network.
    :param y: (N,), true inverse depth, 1 / m; what is not positive and finite does not count.
    :param with_offset: False where x is 0 at infinity, as of metric networks: no offset then.
    :param least: points that must agree.
    :raises UnfitError: where the points do not tell.
    """
    known = x.isfinite() & y.isfinite() & (y > 0)
    x, y = x[known].double(), y[known].double()
    if len(x) < max(least, 2):
        raise UnfitError(f'{len(x)} points with depth are seen, at least {least} are needed')
    chosen = thin(len(x)).to(x.device)
    x, y = x[chosen], y[chosen]
    trust = 1 / y.clamp_min(y.median() / FAR)  # residuals times this are relative
    factor, offset, deviation = _start(x, y, trust, with_offset)
    for _ in range(ROUNDS):
        for _ in range(STEPS):
            pull = ((factor * x + offset - y) * trust / (TUKEY * deviation)).square()
            weight = (1 - pull).clamp_min(0).square() * trust.square()
            factor, offset = _least_squares(x, y, weight, with_offset)
        residual = ((factor * x + offset - y) * trust).abs()
        residual = residual.where(residual < INLIER * deviation, torch.nan)
        deviation = (1.4826 * residual.nanmedian()).nan_to_num(EXACT).clamp_min(EXACT)
    residual = ((factor * x + offset - y) * trust).abs()
    agrees = residual < INLIER * deviation
    return _believed(x, y, residual, agrees, factor, offset, with_offset, least)


def _start(
    x: Tensor, y: Tensor, trust: Tensor, with_offset: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return factor, offset and deviation by the least median of squares."""
    count = len(x)
    if with_offset:
        draws = _DRAWS[:2, :PAIRS].to(x.device, x.dtype)
        order = x.argsort()
        near = order[(draws[0] * (count // 2)).long()]  # a pair lies in both halves: a long base
        far = order[count - 1 - (draws[1] * (count // 2)).long()]
        factors = (y[far] - y[near]) / (x[far] - x[near])
        offsets = y[near] - factors * x[near]
    else:
        factors = (y / x)[(_DRAWS[0, :PAIRS] * count).long().to(x.device)]
        offsets = torch.zeros_like(factors)
    judges = (_DRAWS[2, :JUDGES] * count).long().to(x.device)
    errors = torch.addcmul(offsets[:, None], factors[:, None], x[judges]) - y[judges]
    cost = (errors * trust[judges]).abs().median(dim=1).values
    cost = cost.where((factors > 0) & factors.isfinite() & cost.isfinite(), torch.inf)
    best = cost.argmin()
    deviation = 1.4826 * (1 + 5 / count) * cost[best]
    return factors[best], offsets[best], deviation.clamp(EXACT, 1.0)


def _least_squares(
    x: Tensor, y: Tensor, weight: Tensor, with_offset: bool
) -> tuple[Tensor, Tensor]:
    """Solve the weighted normal equations."""
    if not with_offset:
        return (weight * x * y).sum() / (weight * x * x).sum(), y.new_zeros(())
    total = weight.sum()
    middle, height = (weight * x).sum() / total, (weight * y).sum() / total
    away = x - middle
    factor = (weight * away * (y - height)).sum() / (weight * away.square()).sum()
    return factor, height - factor * middle


def _believed(
    x: Tensor,
    y: Tensor,
    residual: Tensor,
    agrees: Tensor,
    factor: Tensor,
    offset: Tensor,
    with_offset: bool,
    least: int,
) -> Fit:
    """Bring a fit to the host, or refuse it."""
    steps = x.new_tensor((0.05, 0.25, 0.5, 0.75, 0.95))
    ends = y.where(agrees, torch.nan).nanquantile(steps[[0, 4]])
    quartiles = x.where(agrees, torch.nan).nanquantile(steps[1:4])
    error = residual.where(agrees, torch.nan).nanmedian()
    told = torch.stack((factor, offset, agrees.sum(), error, *ends, *quartiles)).tolist()
    factor_, offset_, inliers, error_, low, high, *quarters = told
    fit = Fit(factor_, offset_, len(x), int(inliers), error_, (*quarters,))
    if not factor_ > 0:
        raise UnfitError('what is nearer is not nearer to the network: no scale fits')
    if inliers < least:
        raise UnfitError(f'{int(inliers)} of {len(x)} points agree, {least} are needed')
    if inliers < LEAST_RATIO * len(x):
        raise UnfitError(
            f'{inliers / len(x):.0%} of the points agree, {LEAST_RATIO:.0%} are needed'
        )
    if not error_ <= MOST_RESIDUAL:
        raise UnfitError(f'the points disagree by {error_:.0%}, {MOST_RESIDUAL:.0%} may be')
    if with_offset and not high / low >= LEAST_SPREAD:
        raise UnfitError(
            f'the points that agree lie between {1 / high:.2f} and {1 / low:.2f} m: too little '
            'of depth to tell scale from offset'
        )
    return fit
