"""Rows shared out among threads, each of them once."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
import os
import subprocess
import sys

from dpt_ros.perception import bands
import numba
import numpy as np
import pytest
import torch


def count(first, last, step, rows):
    rows[first:last] += step


@pytest.fixture(params=[1, 2, 3, 7])
def threads(request, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: request.param)


@pytest.mark.parametrize('rows', [1, 2, 5, 100])
@pytest.mark.usefixtures('threads')
def test_every_row_is_visited_once(rows: int):
    visited = torch.zeros(rows, 3, dtype=torch.int32)
    bands.in_bands(count, rows, np.int32(2), visited)
    assert (visited == 2).all()


def test_bands_become_as_wide_as_their_threads_are_fast(monkeypatch: pytest.MonkeyPatch):
    now, turn, visited = 0.0, 0, np.zeros(1000)
    seconds_a_row = [1.0, 3.0, 2.0]

    def work(first, last):
        nonlocal now
        now += seconds_a_row[turn] * (last - first)
        visited[first:last] += 1

    def run_each_from_the_same_time(run, count):
        nonlocal now, turn
        start, ends = now, []
        for turn in range(count):
            now = start
            run(turn)
            ends.append(now)
        now = max(ends)

    monkeypatch.setattr(bands, '_shares', {})
    monkeypatch.setattr(bands, 'perf_counter', lambda: now)
    monkeypatch.setattr(bands, 'in_parallel', run_each_from_the_same_time)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    taken = []
    for _ in range(100):
        before = now
        bands.in_bands(work, 1000)
        taken.append(now - before)
    assert (visited == 100).all()
    assert taken[0] == pytest.approx(1000, abs=5)  # a third of the rows, each 3 seconds
    assert taken[-1] == pytest.approx(1000 / (1 + 1 / 3 + 1 / 2), abs=5)
    assert all(a >= b - 5 for a, b in pairwise(taken))  # it is no swing
    seconds_a_row[0] = 9.0  # somebody takes most of that core
    for _ in range(100):
        before = now
        bands.in_bands(work, 1000)
    assert now - before == pytest.approx(1000 / (1 / 9 + 1 / 3 + 1 / 2), abs=10)


@pytest.mark.usefixtures('threads')
def test_what_goes_wrong_in_any_thread_is_told():
    def fail(first, last, rows):
        if first < last == rows:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bands.in_bands(fail, 10, 10)


@pytest.mark.usefixtures('threads')
def test_an_interrupt_in_any_thread_is_raised_when_all_are_done():
    def stop(_first, last):
        if last == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bands.in_bands(stop, 100)


@pytest.mark.usefixtures('threads')
def test_loops_asked_for_at_once_run_at_the_end_in_their_order():
    def double(first, last, source, target):
        target[first:last] = 2 * source[first:last]

    source, middle, target = torch.ones(100), torch.zeros(100), torch.zeros(100)
    short = torch.zeros(1)
    with bands.at_once():
        bands.in_bands(double, 100, source, middle)
        bands.in_bands(double, 1, source[:1], short)
        bands.in_bands(double, 100, middle, target)
        assert not middle.any() and not target.any()
        bands.catch_up()
        assert (target == 4).all()
        bands.in_bands(double, 100, source, target)
        assert (target == 4).all()
    assert (target == 2).all() and short.item() == 2
    bands.in_bands(double, 100, target, middle)
    assert (middle == 4).all()


@pytest.mark.usefixtures('threads')
def test_a_later_loop_finds_the_rows_beside_its_band_done_that_were_asked_for():
    def double(first, last, source, target):
        target[first:last] = 2 * source[first:last]

    def add_neighbors(first, last, source, target):
        for y in range(first, last):
            begin, end = max(0, y - 3), y + 4
            target[y] = source[begin:end].sum()

    source, middle, target = torch.ones(100), torch.zeros(100), torch.zeros(100)
    with bands.at_once():
        bands.in_bands(double, 100, source, middle, margin=3)
        bands.in_bands(add_neighbors, 100, middle, target)
    assert target.tolist() == [8, 10, 12, *[14] * 94, 12, 10, 8]


@pytest.mark.parametrize('count', [1, 16, 1000, 12345])
def test_room_begins_where_a_line_of_memory_does(count: int):
    rooms = [bands._loops().buffer(count) for _ in range(10)]
    assert {(room.ctypes.data % 64, room.shape, room.dtype) for room in rooms} == {
        (0, (count,), np.dtype('f4'))
    }


def test_of_what_fails_between_nothing_is_run_later():
    visited = torch.zeros(10, 3, dtype=torch.int32)
    with pytest.raises(ZeroDivisionError), bands.at_once():
        bands.in_bands(count, 10, np.int32(1), visited)
        raise ZeroDivisionError
    with bands.at_once():
        pass
    assert not visited.any()


def test_two_callers_do_not_get_each_others_answers():
    def fail(*_):
        raise ZeroDivisionError

    def ask(step: int) -> int:
        visited, failed = torch.zeros(50, 3, dtype=torch.int32), 0
        for _ in range(200):
            bands.in_bands(count, 50, np.int32(step), visited)
            try:
                bands.in_bands(fail, 50, 1)
            except ZeroDivisionError:
                failed += 1
        assert (visited == 200 * step).all()
        return failed

    with ThreadPoolExecutor(3) as callers:
        assert list(callers.map(ask, range(3))) == [200] * 3


def test_a_loop_sees_arrays_whose_values_lie_in_order():
    def look(_first, _last, *arrays):
        assert all(array.flags.c_contiguous for array in arrays)
        np.testing.assert_array_equal(arrays[0], values.T.numpy())

    values = torch.arange(6).view(2, 3)
    bands.in_bands(look, 1, values.T)


def test_only_a_cpu_has_loops_and_this_one_does():
    assert bands.loops_for(torch.zeros(1)) is not None
    assert bands.loops_for(torch.zeros(1, device='meta')) is None


def test_without_numba_there_are_none():
    code = (
        "import sys, torch; sys.modules['numba'] = None\n"
        'from dpt_ros.perception.bands import loops_for; assert not loops_for(torch.zeros(1))'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


def test_where_no_folder_can_be_written_to_loops_are_compiled_all_the_same():
    code = (
        'import numba, numpy as np; whole = numba.njit\n'
        'def njit(**options):\n'
        "    if options.pop('cache', False):\n"
        "        raise RuntimeError('cannot cache function')\n"
        '    return whole(**options)\n'
        'import dpt_ros.perception.bands, torch, sys\n'
        'numba.njit = njit\n'
        'loops = dpt_ros.perception.bands.loops_for(torch.zeros(1)); numba.njit = whole\n'
        'out = np.zeros((1, 2, 3), np.uint8)\n'
        'table = np.arange(768).reshape(256, 3).astype(np.uint8)\n'
        'loops.shade(0, 1, np.float32([[0, 1]]), table, np.float32(10), out)\n'
        'assert out.tolist() == [[[0, 1, 2], [30, 31, 32]]], out'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


@pytest.mark.parametrize('chosen', ['', 'NUMBA_CPU_FEATURES', 'NUMBA_CPU_NAME'])
def test_wide_registers_are_taken_unless_the_user_chose(chosen: str):
    value = {'': '', 'NUMBA_CPU_FEATURES': '+sse2', 'NUMBA_CPU_NAME': 'generic'}[chosen]
    code = (
        'from numba.core import config\n'
        'from numba.core import codegen\n'
        "codegen.get_host_cpu_features = lambda: '+avx512vl,+avx512f'\n"
        'from dpt_ros.perception.bands import _take_wide_registers\n'
        '_take_wide_registers()\n'
        'print(config.CPU_FEATURES)\n'
    )
    environment = {**os.environ, **({chosen: value} if chosen else {})}
    told = subprocess.run(
        [sys.executable, '-c', code],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout.strip()
    wanted = {'': '+avx512vl,+avx512f,-prefer-256-bit', 'NUMBA_CPU_FEATURES': '+sse2'}
    assert told == wanted.get(chosen, '')


def test_that_a_loop_has_to_be_compiled_is_told_once():
    told: list[str] = []
    double, half = (numba.njit(f) for f in (lambda x: 2 * x, lambda x: x / 2))
    with bands.compiling_told(torch.device('cpu'), told.append):
        assert double(2) == 4 and half(2) == 1
    assert told == ['compiling loops for this CPU: the first time it takes up to half a minute']
    with bands.compiling_told(torch.device('cpu'), told.append):
        assert double(3) == 6
    double(1.5)  # outside
    assert len(told) == 1
