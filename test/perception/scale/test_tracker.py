"""A scale over time: smooth, held, and never changed in silence."""

from dpt_ros.perception.scale.fit import Fit
from dpt_ros.perception.scale.tracker import CONFIRM, Rules, Scale, Tracker
import pytest

RULES = Rules(smoothing=1.0, hold=2.0, jump=0.2)


def fit(factor: float, offset: float = 0.0) -> Fit:
    return Fit(factor, offset, 100, 70, 0.01, (1.0, 2.0, 3.0))


def follow(
    fits: list[Fit | str], rules: Rules = RULES, period: float = 0.1, start: float = 50.0
) -> list[Scale]:
    """Let a tracker follow fits at a steady rate."""
    tracker = Tracker()
    return [tracker.follow(f, start + i * period, rules) for i, f in enumerate(fits)]


def notes(scales: list[Scale]) -> str:
    return '\n'.join(note for scale in scales for note in scale.notes)


def test_the_first_fit_gives_metres_at_once():
    (scale,) = follow([fit(2.0, 0.1)])
    assert (scale.factor, scale.offset, scale.lost, scale.age) == (2.0, 0.1, '', 0.0)
    assert 'metres begin: 70 of 100 points' in notes([scale])


def test_before_any_fit_the_reason_is_told():
    (scale,) = follow(['no reference_depth has come'])
    assert scale.lost == 'no reference_depth has come'
    assert not scale.notes


def test_a_step_within_the_limit_is_approached_by_its_time_constant():
    # 1 - exp(-1) of the step after one time constant, once the first ones are averaged away.
    scales = follow([fit(1.0)] * 50 + [fit(1.1)] * 10)
    assert scales[-1].factor == pytest.approx(1 + 0.1 * 0.632, abs=1e-3)


def test_without_smoothing_each_fit_counts_alone():
    scales = follow([fit(1.0), fit(1.1, 0.2), fit(1.05)], Rules(0.0, 2.0, 1.0))
    assert [s.factor for s in scales] == [1.0, 1.1, 1.05]


def test_the_first_fits_are_averaged():
    scales = follow([fit(1.0), fit(1.1), fit(1.05)], Rules(1e6, 2.0, 1.0))
    assert scales[-1].factor == pytest.approx(1.05)


@pytest.mark.parametrize('wild', [fit(0.3), fit(3.0), fit(1.0, 5.0)])
def test_one_wild_fit_changes_nothing(wild: Fit):
    scales = follow([fit(1.0), wild, fit(1.0)])
    assert [s.factor for s in scales] == [1.0, 1.0, 1.0]
    assert 'jumps' not in notes(scales)


def test_fits_that_agree_make_metres_jump_and_it_is_told():
    scales = follow([fit(1.0)] * 5 + [fit(2.0)] * CONFIRM)
    assert [s.factor for s in scales[-CONFIRM:]] == [1.0] * (CONFIRM - 1) + [2.0]
    assert 'metres change by 100%' in notes(scales)


def test_wild_fits_that_disagree_never_make_metres_jump():
    scales = follow([fit(1.0), *(fit(f) for f in (2.0, 4.0, 8.0, 0.3, 5.0))], Rules(1, 99, 0.2))
    assert {s.factor for s in scales} == {1.0}


def test_a_failed_fit_keeps_the_last_good_one_and_its_age_grows():
    scales = follow([fit(1.0), 'blind', 'blind'])
    assert [s.factor for s in scales] == [1.0] * 3
    assert scales[-1].age == pytest.approx(0.2)
    assert not any(s.lost for s in scales)


def test_after_the_hold_metres_stop_and_the_reason_is_told_once():
    scales = follow([fit(1.0), *['too little ground'] * 30])
    lost = [bool(s.lost) for s in scales]
    assert lost == [False] * 21 + [True] * 10  # held for 2.0 s at 10 Hz
    assert scales[-1].lost == 'too little ground'
    assert notes(scales).count('metres stop: no scale for 2.1 s: too little ground') == 1


def test_after_the_stop_a_good_fit_brings_metres_back_whatever_it_is():
    scales = follow([fit(1.0), *['blind'] * 25, fit(7.0)])
    assert (scales[-1].factor, scales[-1].lost) == (7.0, '')
    assert 'metres are back after 2.6 s' in notes(scales)


def test_wild_fits_alone_hold_no_scale_and_begin_none():
    scales = follow([fit(1.0), *(fit(2.0 * 3**i) for i in range(30))])
    assert [bool(scale.lost) for scale in scales] == [False] * 21 + [True] * 10
    assert 'metres stop: no scale for 2.1 s: the last fits disagree' in notes(scales)


def test_after_wild_fits_metres_begin_again_with_those_that_agree():
    scales = follow([fit(1.0), *(fit(2.0 * 3**i) for i in range(30)), *[fit(5.0)] * CONFIRM])
    first = len(scales) - CONFIRM - 1
    assert [bool(scale.lost) for scale in scales[first:]] == [True] * CONFIRM + [False]
    assert scales[-1].factor == 5.0


def test_a_clock_that_goes_back_begins_anew_and_tells():
    tracker = Tracker()
    tracker.follow(fit(1.0), 100.0, RULES)
    scale = tracker.follow(fit(3.0), 5.0, RULES)
    assert (scale.factor, scale.age) == (3.0, 0.0)
    assert 'went back by 95 s' in scale.notes[0]
