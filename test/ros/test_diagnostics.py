"""Diagnostics: rates, percentiles and changes of state, worked out by hand."""

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from dpt_ros.ros.diagnostics import encode_diagnostics, Report, Statistics, WINDOW
from dpt_ros.ros.faults import FAULTS
import pytest


def report(statistics: Statistics, period: float = 1.0, idle: str = '', **counts: int) -> Report:
    totals = {name.replace('_', ' '): total for name, total in counts.items()}
    return statistics.report(totals, {}, idle=idle, period=period)


def test_nothing_is_zero_not_missing():
    values = report(Statistics()).values
    assert values == {
        'frames in': '0',
        'frames out': '0',
        'frames dropped': '0',
        'frames missed': '0',
        'frames in [Hz]': '0.0',
        'frames out [Hz]': '0.0',
        'frames dropped [Hz]': '0.0',
        'frames missed [Hz]': '0.0',
    }


def test_rates_are_of_the_time_since_the_last_report():
    statistics = Statistics()
    for _ in range(18):
        statistics.record({})
    first = report(statistics, 2.0, frames_in=30, frames_dropped=12).values
    assert (first['frames in [Hz]'], first['frames out [Hz]']) == ('15.0', '9.0')
    assert first['frames dropped [Hz]'] == '6.0'
    statistics.record({})
    second = report(statistics, 0.5, frames_in=32, frames_dropped=13).values
    assert (second['frames in [Hz]'], second['frames out [Hz]']) == ('4.0', '2.0')
    assert second['frames dropped [Hz]'] == '2.0'
    assert (second['frames in'], second['frames out'], second['frames dropped']) == (
        '32',
        '19',
        '13',
    )


def test_a_count_that_starts_anew_gives_no_negative_rate():
    # Each activation of the node has a mailbox of its own, which counts from zero.
    statistics = Statistics()
    report(statistics, frames_in=300, frames_dropped=100)
    values = report(statistics, frames_in=5, frames_dropped=0).values
    assert not any(value.startswith('-') for value in values.values())


def test_percentiles_of_a_hundred_even_steps():
    statistics = Statistics()
    for milliseconds in range(101):
        statistics.record({'network': milliseconds * 1e-3})
    values = report(statistics).values
    assert values['network [ms] p50, p95, max'] == '50.0, 95.0, 100.0'


def test_what_others_tell_is_among_the_values():
    values = Statistics().report({}, {'device memory [MiB]': '512'}, idle='', period=1.0).values
    assert values['device memory [MiB]'] == '512'


def test_stages_are_told_apart():
    statistics = Statistics()
    statistics.record({'network': 0.2, 'publish': 0.001})
    statistics.record({'network': 0.4})
    values = report(statistics).values
    assert values['network [ms] p50, p95, max'] == '300.0, 390.0, 400.0'
    assert values['publish [ms] p50, p95, max'] == '1.0, 1.0, 1.0'


def test_old_frames_leave_the_percentiles():
    statistics = Statistics()
    statistics.record({'network': 9.0})
    for _ in range(WINDOW):
        statistics.record({'network': 0.01})
    assert report(statistics).values['network [ms] p50, p95, max'] == '10.0, 10.0, 10.0'


def test_faults_are_counted_by_kind():
    statistics = Statistics()
    for kind in ('image', 'camera_info', 'image'):
        statistics.fault(kind)
    values = report(statistics, **{'frames in': 3}).values
    assert (values['faults: image'], values['faults: camera_info']) == ('2', '1')


def test_a_fault_costs_no_frame_out_of_the_count():
    statistics = Statistics()
    statistics.fault('image')
    assert report(statistics, frames_in=1).frames == 0


def test_only_new_faults_are_news():
    statistics = Statistics()
    statistics.fault('image')
    first = report(statistics, frames_in=1)
    second = report(statistics, frames_in=2)
    assert (first.level, first.faults) == (DiagnosticStatus.WARN, ['image'])
    assert first.message == 'image: an image could not be read, and is lost'
    assert (second.level, second.faults) == (DiagnosticStatus.OK, [])
    assert second.values['faults: image'] == '1'
    statistics.fault('image')
    statistics.fault('internal')
    third = report(statistics, frames_in=3)
    assert third.level == DiagnosticStatus.ERROR
    assert [part.partition(':')[0] for part in third.message.split('; ')] == ['internal', 'image']


@pytest.mark.parametrize(('kind', 'fault'), FAULTS.items(), ids=FAULTS.keys())
def test_the_level_is_that_of_the_worst_fault(kind, fault):
    statistics = Statistics()
    statistics.fault(kind)
    statistics.fault('image')
    state = report(statistics, frames_in=1)
    assert state.level == max(fault.level, DiagnosticStatus.WARN)
    assert fault.cause in state.message


def test_a_frame_that_hangs_is_an_error_and_named_first():
    statistics = Statistics()
    statistics.fault('image')
    state = statistics.report({}, {}, '', 1.0, hanging='a frame has taken 12 s in x.py, run')
    assert state.level == DiagnosticStatus.ERROR
    assert state.message == 'stalled: a frame has taken 12 s in x.py, run'


def test_a_camera_that_falls_silent_is_a_warning_until_it_is_back():
    statistics, states = Statistics(), []
    for frames_in in (5, 5, 9):
        statistics.record({})
        state = report(statistics, frames_in=frames_in)
        states.append((state.level, state.message))
    assert states == [
        (DiagnosticStatus.OK, '1 frames out'),
        (DiagnosticStatus.WARN, 'no image came'),
        (DiagnosticStatus.OK, '1 frames out'),
    ]


def test_frames_that_nobody_listens_to_are_no_fault():
    state = report(Statistics(), frames_in=10)
    assert (state.level, state.message) == (DiagnosticStatus.OK, 'nobody listens')


def test_a_node_that_is_paused_is_no_warning_and_says_so():
    state = report(Statistics(), idle='paused')
    assert (state.level, state.message) == (DiagnosticStatus.OK, 'paused')


def test_a_fault_says_more_than_a_pause():
    statistics = Statistics()
    statistics.fault('image')
    state = report(statistics, idle='paused')
    assert (state.level, state.faults) == (DiagnosticStatus.WARN, ['image'])
    assert state.message.startswith('image: ')


def test_a_fault_says_more_than_a_silent_camera():
    statistics = Statistics()
    statistics.fault('camera_info')
    assert report(statistics).message.startswith('camera_info: ')


@pytest.mark.parametrize('fault', [False, True])
def test_the_message_is_one_status_with_its_values(fault: bool):
    statistics = Statistics()
    statistics.record({'network': 0.1})
    if fault:
        statistics.fault('image')
    stamp = Time(sec=12, nanosec=34)
    state = report(statistics, frames_in=1)
    message = encode_diagnostics(stamp, '/camera/dpt: perception', 'cuda:0', state)
    (status,) = message.status
    assert message.header.stamp == stamp
    assert (status.name, status.hardware_id) == ('/camera/dpt: perception', 'cuda:0')
    assert status.level == (DiagnosticStatus.WARN if fault else DiagnosticStatus.OK)
    assert status.message == state.message
    assert {pair.key: pair.value for pair in status.values} == state.values
