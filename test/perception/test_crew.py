"""The number of threads that runs take least time with is found, and found again."""

from itertools import pairwise

from dpt_ros.perception import crew
from dpt_ros.perception.crew import Crew, LAST
import pytest
import torch

FREE = {8: 20.0, 4: 35.0, 2: 70.0, 1: 110.0}  # milliseconds with that many threads
ONE_IS_BUSY = {2: 250.0, 1: 115.0}
HALF_ARE_BUSY = {8: 200.0, 4: 60.0, 2: 80.0, 1: 120.0}
ALL_ARE_BUSY = {8: 300.0, 4: 220.0, 2: 160.0, 1: 120.0}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Give a machine without threads, and say how long its runs take."""

    class Machine:
        threads, clock = 2, 0.0

        def runs(
            self,
            crew: Crew,
            count: int,
            cost: dict[int, float],
            kind: object = 'a',
            pieces: int = 1,
        ) -> list[int]:
            """Run so often, and return the number of threads of each run."""
            sizes = []
            for _ in range(count):
                before = self.threads
                with crew.at_work(kind, pieces):
                    prepared = 1.0 if self.threads == before else 1.3
                    self.clock += prepared * cost[self.threads] * 1e-3
                sizes.append(self.threads)
            return sizes

    made = Machine()
    monkeypatch.setattr(torch, 'get_num_threads', lambda: made.threads)
    monkeypatch.setattr(torch, 'set_num_threads', lambda count: setattr(made, 'threads', count))
    monkeypatch.setattr(crew, 'perf_counter', lambda: made.clock)
    return made


def test_on_free_cores_all_are_used_and_trials_become_rare(machine):
    sizes = machine.runs(Crew(2), 1000, FREE)
    assert sizes[:8] == [2] * 8
    assert 1 in sizes[8:12]  # not to know is not to choose
    assert sizes.count(1) <= 30
    assert sizes[900:].count(1) <= 4


def test_where_another_process_has_a_core_one_is_used_within_a_few_runs(machine):
    tried = Crew(2)
    machine.runs(tried, 100, FREE)
    sizes = machine.runs(tried, 100, ONE_IS_BUSY)
    assert sizes[:6].count(2) <= 4
    assert sizes[6:].count(1) >= 85


def test_when_the_core_is_free_again_all_are_used_again(machine):
    tried = Crew(2)
    machine.runs(tried, 300, ONE_IS_BUSY)
    machine.runs(tried, LAST + 10, FREE)
    assert machine.runs(tried, 40, FREE).count(2) >= 36


@pytest.mark.parametrize(
    ('cost', 'wanted'), [(FREE, 8), (HALF_ARE_BUSY, 4), (ALL_ARE_BUSY, 1)], ids=str
)
def test_of_many_numbers_the_best_is_found_step_by_step(machine, cost, wanted: int):
    machine.threads = 8
    sizes = machine.runs(Crew(8), 600, cost)
    assert sizes[-200:].count(wanted) >= 180
    steps = {(one, other) for one, other in pairwise(sizes) if one != other}
    assert all(one in (2 * other, other // 2) for one, other in steps)


def test_a_gain_that_may_be_chance_is_none(machine):
    assert machine.runs(Crew(2), 200, {2: 100.0, 1: 95.0})[-100:].count(2) >= 95


def test_one_thread_has_no_choice(machine):
    machine.threads = 1
    assert set(machine.runs(Crew(1), 200, FREE)) == {1}


def test_runs_of_different_kinds_are_not_compared(machine):
    tried = Crew(2)
    small = {2: 10.0, 1: 16.0}
    sizes = []
    for _ in range(100):
        sizes += machine.runs(tried, 1, FREE, 'large') + machine.runs(tried, 1, small, 'small')
    assert set(sizes) == {2}
    machine.runs(tried, 50, ONE_IS_BUSY, 'large')
    assert machine.runs(tried, 5, small, 'small') == [2] * 5


def test_a_run_is_measured_by_its_pieces(machine):
    tried, sizes = Crew(2), []
    for run in range(400):
        pieces = 1 + run % 3
        cost = {threads: pieces * seconds for threads, seconds in FREE.items()}
        sizes += machine.runs(tried, 1, cost, 'a', pieces)
    assert sizes.count(2) >= 370


def test_a_run_that_fails_is_not_told(machine):
    tried = Crew(2)

    machine.runs(tried, 5, FREE)
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), tried.at_work('a'):
            machine.clock += 1e-6
            raise ZeroDivisionError
    assert machine.runs(tried, 3, FREE) == [2] * 3
