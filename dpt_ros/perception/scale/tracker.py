"""
The scale of one camera over time: smoothed, held while fits fail, and never changed in silence.

Times are those of the images, in seconds.
"""

from dataclasses import dataclass
import math

from dpt_ros.perception.scale.fit import Fit

CONFIRM = 3  # fits in a row that must agree before metres jump


@dataclass(frozen=True)
class Scale:
    """What makes metres of the inverse depth x of one frame: 1 / metres = factor * x + offset."""

    factor: float = 1.0
    offset: float = 0.0  # 1 / m
    lost: str = ''  # why this frame has no metres; empty: it has
    age: float = 0.0  # seconds since the fit that it rests on
    fit: Fit | None = None  # the last one believed
    notes: tuple[str, ...] = ()  # what changed with this frame that a human should read


@dataclass(frozen=True)
class Rules:
    """How a scale follows its fits."""

    smoothing: float  # time constant, seconds; 0: each fit counts alone
    hold: float  # seconds without a fit after which there are no metres
    jump: float  # share of metres that one fit alone cannot change


class Tracker:
    """Follows one camera."""

    def __init__(self) -> None:
        """Know nothing."""
        self._scale: tuple[float, float] | None = None
        self._fit: Fit | None = None
        self._fitted = self._now = -math.inf  # seconds
        self._count = 0  # fits that the scale averages
        self._rivals: list[Fit] = []  # fits that agree with each other, not with the scale
        self._missed = False  # metres came once, and stopped

    def follow(self, fit: Fit | str, seconds: float, rules: Rules) -> Scale:
        """
        Take the fit of a frame, or the reason why there is none, and tell the frame's scale.

        :param seconds: when the frame was taken.
        """
        notes: list[str] = []
        if seconds < self._now:
            back = self._now - seconds
            self._forget()
            notes.append(f'the stamps of the images went back by {back:.3g} s: scale begins anew')
        self._now = seconds
        reason = fit if isinstance(fit, str) else self._take(fit, rules, notes)
        age = seconds - self._fitted
        if self._scale is None or age > rules.hold:
            if self._scale is not None:
                notes.append(f'metres stop: no scale for {age:.1f} s: {reason}')
                self._missed = True
            self._scale = None
            return Scale(math.nan, math.nan, reason or 'no fit yet', age, self._fit, (*notes,))
        return Scale(*self._scale, '', age, self._fit, (*notes,))

    def _take(self, fit: Fit, rules: Rules, notes: list[str]) -> str:
        """Let the scale follow a fit; return why it does not, or nothing."""
        before, since = self._scale, self._now - self._fitted
        if not self._rivals and (before is None or since > rules.hold):
            if before is not None or self._missed:
                notes.append(f'metres are back after {since:.1f} s without a scale')
            else:
                notes.append(f'metres begin: {fit.inliers} of {fit.points} points agree on them')
            self._begin(fit)
        elif before is not None and (change := fit.change(*before)) <= rules.jump:
            self._blend(fit, before, since, rules.smoothing)
        else:
            self._rivals = [r for r in self._rivals if fit.change(r.factor, r.offset) < rules.jump]
            self._rivals.append(fit)
            if len(self._rivals) < CONFIRM:
                return 'the last fits disagree with each other or with those before'
            told = f'scale jumps: {CONFIRM} fits in a row agree on factor {fit.factor:.4g}'
            told += f', offset {fit.offset:.4g}'
            notes.append(told if before is None else f'{told}; metres change by {change:.0%}')
            self._begin(fit)
        return ''

    def _blend(
        self, fit: Fit, before: tuple[float, float], since: float, smoothing: float
    ) -> None:
        """Go a part of the way from the scale before to a fit."""
        self._rivals.clear()
        self._count += 1
        fresh = 1 - math.exp(-since / smoothing) if smoothing else 1.0
        share = max(fresh, 1 / self._count)  # the first ones are averaged
        self._scale = (
            before[0] + share * (fit.factor - before[0]),
            before[1] + share * (fit.offset - before[1]),
        )
        self._fit, self._fitted = fit, self._now

    def _forget(self) -> None:
        """Know nothing again."""
        self._scale, self._fit, self._fitted = None, None, -math.inf
        self._missed = False
        self._rivals.clear()

    def _begin(self, fit: Fit) -> None:
        """Rest on one fit alone."""
        self._scale, self._fit, self._fitted = (fit.factor, fit.offset), fit, self._now
        self._count, self._missed = 1, False
        self._rivals.clear()
