"""PyTorch's threads at other work."""

import threading

from dpt_ros.perception import openmp
from dpt_ros.perception.openmp import in_parallel
import pytest
import torch


def bands_of(bands: int) -> list[tuple[int, int]]:
    """Return which bands were run, and each in which thread of the system."""
    found: list[tuple[int, int]] = []
    meeting = threading.Barrier(bands, timeout=60)

    def run(band: int) -> None:
        if openmp._openmp() is not None:
            meeting.wait()  # so all of them run at the same time
        found.append((band, threading.get_native_id()))

    in_parallel(run, bands)
    return sorted(found)


@pytest.mark.parametrize('bands', [1, 2, 3, 7])
def test_each_band_runs_once_in_a_thread_of_its_own(bands: int):
    found = bands_of(bands)
    assert [band for band, _ in found] == list(range(bands))
    threads = {thread for _, thread in found}
    assert len(threads) == bands and threading.get_native_id() in threads


def test_each_band_has_the_same_thread_each_time_and_the_first_that_of_the_caller():
    first, second = (bands_of(3) for _ in range(2))
    assert first == second and first[0] == (0, threading.get_native_id())


def test_a_smaller_team_runs_all_bands(monkeypatch: pytest.MonkeyPatch):
    team = (lambda call, function, *_: call(function)), lambda: 0
    monkeypatch.setattr(openmp, '_openmp', lambda: team)
    found: list[int] = []
    in_parallel(found.append, 3)
    assert found == [0, 1, 2]


def test_where_pytorch_has_no_openmp_one_thread_does_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openmp, '_openmp', lambda: None)
    assert bands_of(3) == [(band, threading.get_native_id()) for band in range(3)]


def test_a_library_without_openmp_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openmp, 'CDLL', lambda _: object())
    assert openmp._openmp.__wrapped__() is None


def test_pytorch_computes_as_before_inside_and_afterwards():
    values = torch.rand(500, 500)
    sums: list[float] = []
    in_parallel(lambda *_: sums.append(float(values.sum())), 2)
    wanted = float(values.sum())
    assert sums == pytest.approx([wanted, wanted], rel=1e-5)
    assert torch.get_num_threads() >= 1
