"""The long run sees what it is there to see, and a short one finds nothing."""

import numpy as np
import pytest
from soak import judge, Run, watch


def seen(
    memory=lambda t: 500.0 + 0 * t,
    latency=lambda t: 50.0 + 0 * t,
    pace=lambda t: 2.0 + 0 * t,
    lost=0,
    missed=3,
    files=(9, 9),
):
    """Make up ten minutes at one frame a second."""
    times = np.arange(600.0)
    counts = {'in': 597, 'out': 587 - lost, 'dropped': 10, 'missed': missed, 'faults': 0}
    memories, latencies = memory(times).tolist(), latency(times).tolist()
    entities = [files[0]] * 300 + [files[1]] * 300
    paces, seconds = pace(times).tolist(), times.tolist()
    return Run(seconds, memories, entities, entities, paces, seconds, latencies, 600, counts)


def broken(run):
    return [promise for promise, (kept, _) in judge(run).items() if not kept]


def test_a_steady_run_keeps_every_promise():
    assert broken(seen()) == []


def test_a_machine_that_becomes_slower_excuses_as_much_latency():
    def slower(times):
        return 1 + 0.3 * (times > 300)

    assert broken(seen(latency=lambda t: 50 * slower(t), pace=slower)) == []
    assert broken(seen(latency=lambda t: 50 * slower(t) ** 2, pace=slower)) == ['latency']
    assert broken(seen(latency=slower, pace=lambda t: 1 / slower(t))) == ['latency']


@pytest.mark.parametrize(
    ('run', 'promise'),
    [
        (seen(memory=lambda t: 500 + 10 * t / 600), 'memory'),  # 2 % in ten minutes
        (seen(latency=lambda t: 50 + 10 * t / 600), 'latency'),
        (seen(files=(9, 10)), 'threads and files'),
        (seen(lost=1), 'counted'),
        (seen(missed=2), 'delivered'),
    ],
)
def test_what_goes_wrong_slowly_is_seen(run, promise):
    assert broken(run) == [promise]


def test_what_is_taken_at_the_beginning_is_no_growth():
    assert broken(seen(memory=lambda t: 500.0 - 100 * (t < 100))) == []


@pytest.mark.graph
def test_a_third_of_a_minute_keeps_what_can_be_told_so_soon(new_domain, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(new_domain()))
    run = watch(1 / 3, rate=30, width=320, height=240)
    verdicts = judge(run)
    for promise in ('memory', 'threads and files', 'counted', 'delivered'):
        kept, figures = verdicts[promise]
        assert kept, figures
    assert len(run.latency) == len(run.answered) > 20
    assert 0 < min(run.latency) <= max(run.latency) < 20_000
