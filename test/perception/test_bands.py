"""Rows shared out among threads, each of them once."""

from concurrent.futures import ThreadPoolExecutor
from ctypes import c_uint, c_void_p, cast, CFUNCTYPE
import subprocess
import sys
from time import perf_counter
from types import SimpleNamespace

from dpt_ros.perception import bands, native
from dpt_ros.perception.openmp import parallel
import numba
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module')
def loops() -> SimpleNamespace:
    """Compile loops that do what can be checked."""

    def count(first, last, step, rows):
        for y in range(first, last):
            for x in range(rows.shape[1]):
                rows[y, x] += step

    def double(first, last, source, target):
        for y in range(first, last):
            target[y] = 2 * source[y]

    def add_neighbors(first, last, source, target):
        for y in range(first, last):
            begin, end = max(0, y - 3), y + 4
            target[y] = source[begin:end].sum()

    def take_much(first, last, rows):
        if first < last and last == rows:
            np.empty(1 << 60, np.float32)

    def turn(first, last, turns, results):
        for y in range(first, last):
            value = 1.0
            for _ in range(turns):
                value = value * 0.999999 + 0.5
            results[y] = value

    def meet(first, last, others, arrived, met):
        native._add_one(arrived, 0)
        looks = 0
        while native._read(arrived, 0) < others and looks < 10_000_000:
            native._sched_yield()
            looks += 1
        for y in range(first, last):
            met[y] = native._read(arrived, 0) == others

    given = count, double, add_neighbors, take_much, turn, meet
    return SimpleNamespace(**{loop.__name__: native.banded(loop) for loop in given})


@pytest.fixture(params=[1, 2, 3, 7])
def threads(request, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: request.param)
    return request.param


@pytest.mark.parametrize('rows', [0, 1, 2, 5, 100])
@pytest.mark.parametrize('most', [None, 1, 7, 1000])
@pytest.mark.usefixtures('threads')
def test_every_row_is_visited_once(loops: SimpleNamespace, rows: int, most: int | None):
    visited = torch.zeros(rows, 3, dtype=torch.int32)
    bands.in_bands(loops.count, rows, np.int32(2), visited, most=most)
    assert (visited == 2).all()


@pytest.mark.parametrize('most', [None, 1, 35, 1000])
@pytest.mark.parametrize('rows', [0, 1, 34, 71, 480, 5632])
def test_bands_are_all_rows_and_none_is_too_large(threads: int, rows: int, most: int | None):
    edges = bands._edges(rows, threads, most)
    sizes = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == rows and edges.dtype == np.int64
    assert (sizes >= 0).all()
    if most is not None:
        assert sizes.max() <= most
        assert len(sizes) % threads == 0  # all have as much to do
    elif threads == 1:
        assert len(sizes) <= 1
    elif rows >= 480:
        assert len(sizes) == 3 * threads
        assert sizes.max() <= 0.7 * rows / threads + 1  # what is left makes up for slow threads


@pytest.mark.parametrize('count', [2, 3, 7])
def test_bands_run_in_as_many_threads_at_the_same_time(loops, monkeypatch, count: int):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: count)
    arrived, met = torch.zeros(1, dtype=torch.int64), torch.zeros(count)
    bands.in_bands(loops.meet, count, count, arrived, met, most=1)
    assert parallel() and met.all()


@pytest.mark.parametrize('missing', ['parallel', 'a team of one'])
def test_fewer_threads_do_all(loops: SimpleNamespace, monkeypatch, missing: str):
    team = CFUNCTYPE(None, c_void_p, c_void_p, c_uint, c_uint)
    alone = team(lambda call, given, *_: CFUNCTYPE(None, c_void_p)(call)(given))
    address = 0 if missing == 'parallel' else cast(alone, c_void_p).value
    monkeypatch.setattr(bands, 'parallel', lambda: address)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    visited = torch.zeros(100, 3, dtype=torch.int32)
    bands.in_bands(loops.count, 100, np.int32(2), visited)
    assert (visited == 2).all()


@pytest.mark.usefixtures('threads')
def test_what_finds_no_memory_in_any_thread_is_told(loops: SimpleNamespace):
    for _ in range(3):
        with pytest.raises(MemoryError, match='no room for the buffers of a loop'):
            bands.in_bands(loops.take_much, 10, 10)
    visited = torch.zeros(10, 3, dtype=torch.int32)
    bands.in_bands(loops.count, 10, np.int32(2), visited)
    assert (visited == 2).all()


@pytest.mark.usefixtures('threads')
def test_loops_asked_for_at_once_run_at_the_end_in_their_order(loops: SimpleNamespace):
    source, middle, target = torch.ones(100), torch.zeros(100), torch.zeros(100)
    short = torch.zeros(1)
    with bands.at_once():
        bands.in_bands(loops.double, 100, source, middle)
        bands.in_bands(loops.double, 1, source[:1], short)
        bands.in_bands(loops.double, 100, middle, target)
        assert not middle.any() and not target.any()
        bands.catch_up()
        assert (target == 4).all()
        bands.in_bands(loops.double, 100, source, target)
        assert (target == 4).all()
    assert (target == 2).all() and short.item() == 2
    bands.in_bands(loops.double, 100, target, middle)
    assert (middle == 4).all()


@pytest.mark.usefixtures('threads')
def test_a_later_loop_finds_all_rows_of_one_before_done(loops: SimpleNamespace):
    source, middle, target = torch.ones(100), torch.zeros(100), torch.zeros(100)
    for _ in range(50):
        middle.zero_()
        with bands.at_once():
            bands.in_bands(loops.double, 100, source, middle)
            bands.in_bands(loops.add_neighbors, 100, middle, target)
        assert target.tolist() == [8, 10, 12, *[14] * 94, 12, 10, 8]


@pytest.mark.usefixtures('threads')
def test_any_number_of_loops_may_wait(loops: SimpleNamespace):
    visited = torch.zeros(10, 3, dtype=torch.int32)
    with bands.at_once():
        for step in range(3 * bands.SLOTS + 1):
            bands.in_bands(loops.count, 10, np.int32(step), visited)
    assert (visited == sum(range(3 * bands.SLOTS + 1))).all()


def test_what_waits_keeps_its_arrays(loops: SimpleNamespace):
    visited, values = torch.zeros(1000), torch.arange(2000.0)
    with bands.at_once():
        bands.in_bands(loops.double, 1000, values[::2], visited)  # of a copy that nobody else has
        bands._edges.cache_clear()
        torch.full((1000,), -1.0)  # which would take its memory
    assert torch.equal(visited, 2 * values[::2])


def test_what_is_copied_was_written_before(loops: SimpleNamespace):
    source, middle, target = torch.ones(100), torch.zeros(100), torch.zeros(50)
    with bands.at_once():
        bands.in_bands(loops.double, 100, source, middle)
        bands.in_bands(loops.double, 50, middle[::2], target)
    assert (target == 4).all()


def test_who_asked_is_told_what_loops_took(loops: SimpleNamespace):
    results, seconds = torch.zeros(64, dtype=torch.float64), {'one': 1.0}
    start = perf_counter()
    with bands.at_once(seconds):
        for stage, turns in (('one', 1000), ('other', 1_000_000), ('one', 1000)):
            bands.asking(stage)
            bands.in_bands(loops.turn, 64, turns, results)
    spent = perf_counter() - start
    assert set(seconds) == {'one', 'other'}
    assert 0 < seconds['one'] - 1 < seconds['other'] < spent


@pytest.mark.parametrize('count', [1, 16, 1000, 12345])
def test_room_begins_where_a_line_of_memory_does(count: int):
    rooms = [bands._loops().buffer(count) for _ in range(10)]
    assert {(room.ctypes.data % 64, room.shape, room.dtype) for room in rooms} == {
        (0, (count,), np.dtype('f4'))
    }


def test_of_what_fails_between_nothing_is_run_later(loops: SimpleNamespace):
    visited = torch.zeros(10, 3, dtype=torch.int32)
    with pytest.raises(ZeroDivisionError), bands.at_once():
        bands.in_bands(loops.count, 10, np.int32(1), visited)
        raise ZeroDivisionError
    with bands.at_once():
        pass
    bands.catch_up()
    assert not visited.any()


def test_two_callers_do_not_get_each_others_answers(loops: SimpleNamespace):
    def ask(step: int) -> int:
        visited, failed = torch.zeros(50, 3, dtype=torch.int32), 0
        for _ in range(200):
            bands.in_bands(loops.count, 50, np.int32(step), visited)
            try:
                bands.in_bands(loops.take_much, 50, 50)
            except MemoryError:
                failed += 1
        assert (visited == 200 * step).all()
        return failed

    with ThreadPoolExecutor(3) as callers:
        assert list(callers.map(ask, range(3))) == [200] * 3


def test_a_loop_sees_arrays_whose_values_lie_in_order():
    values = torch.arange(6).view(2, 3)
    (given,) = bands._arrays([values.T])
    assert given.flags.c_contiguous
    np.testing.assert_array_equal(given, values.T.numpy())


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
        'import dpt_ros.perception.bands as bands, torch\n'
        'numba.njit = njit\n'
        'loops = bands.loops_for(torch.zeros(1)); numba.njit = whole\n'
        'out = np.zeros((1, 2, 3), np.uint8)\n'
        'table = np.arange(768).reshape(256, 3).astype(np.uint8)\n'
        'bands.in_bands(loops.shade, 1, np.float32([[0, 1]]), table, np.float32(10), out)\n'
        'assert out.tolist() == [[[0, 1, 2], [30, 31, 32]]], out'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


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
