"""The number of threads that runs take least time with is found, and found again."""

from itertools import pairwise
import threading

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
            self, crew: Crew, count: int, cost: dict[int, float], kind: object = 'a'
        ) -> list[int]:
            """Run so often, each time one image, and return the number of threads of each run."""
            sizes = []
            for _ in range(count):
                before = self.threads

                def work(share: slice, before: int = before) -> None:
                    assert share == slice(0, 1)
                    prepared = 1.0 if self.threads == before else 1.3
                    self.clock += prepared * cost[self.threads] * 1e-3

                crew.run(work, 1, kind)
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


def test_a_run_that_fails_is_not_told(machine):
    tried = Crew(2)

    def fail(_: slice) -> None:
        machine.clock += 1e-6
        raise ZeroDivisionError

    machine.runs(tried, 5, FREE)
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            tried.run(fail, 1, 'a')
    assert machine.runs(tried, 3, FREE) == [2] * 3


@pytest.mark.parametrize(
    ('threads', 'images', 'shares'),
    [(2, 2, 2), (2, 3, 2), (2, 8, 2), (4, 3, 3), (4, 4, 4), (4, 7, 4)],
)
def test_images_are_shared_out_and_come_back_in_their_order(threads, images, shares):
    def work(share: slice) -> tuple[list[int], int, int]:
        together.wait(10)  # breaks unless all shares are at work at once
        return list(range(images))[share], torch.get_num_threads(), threading.get_ident()

    together, before = threading.Barrier(shares), torch.get_num_threads()
    found = Crew(threads).run(work, images, 'a')
    assert [image for share, _, _ in found for image in share] == list(range(images))
    assert max(len(share) for share, _, _ in found) <= -(-images // shares)
    assert [own for _, own, _ in found] == [1] * shares
    assert len({thread for _, _, thread in found}) == shares
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(('threads', 'images'), [(1, 1), (1, 3), (2, 1), (4, 1), (4, 2), (4, 5)])
def test_what_cannot_be_shared_evenly_stays_together(machine, threads: int, images: int):
    machine.threads = threads
    found = Crew(threads).run(lambda share: (share, threading.get_ident()), images, 'a')
    assert found == [(slice(0, images), threading.get_ident())]
    assert machine.threads == threads


def test_a_run_of_several_images_is_measured_by_one_of_them(machine):
    machine.threads, tried = 8, Crew(8)
    for run in range(400):
        images = 1 + run % 3  # fewer than make eight shares

        def work(_: slice, images: int = images) -> None:
            machine.clock += images * FREE[machine.threads] * 1e-3

        tried.run(work, images, 'a')
    assert machine.runs(tried, 100, FREE).count(8) >= 90


@pytest.mark.parametrize('failing', [0, 1])
def test_whichever_share_fails_the_others_have_ended_and_the_next_run_is_whole(failing: int):
    ended = []

    def work(share: slice) -> int:
        if share.start == failing:
            raise ZeroDivisionError
        started.wait(10)
        ended.append(share)
        return share.start

    tried, before, started = Crew(2), torch.get_num_threads(), threading.Event()
    threading.Timer(0.2, started.set).start()  # long after the other one has failed
    with pytest.raises(ZeroDivisionError):
        tried.run(work, 2, 'a')
    assert ended == [slice(1 - failing, 2 - failing)]
    assert torch.get_num_threads() == before
    assert tried.run(lambda share: share.start, 2, 'a') == [0, 1]
