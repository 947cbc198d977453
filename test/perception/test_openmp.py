"""PyTorch's threads are found, or none."""

from dpt_ros.perception import openmp
import pytest


def test_the_address_is_that_of_pytorchs_own_openmp():
    assert openmp.parallel() > 0
    with open('/proc/self/maps') as maps:
        (line,) = [line for line in maps if _holds(line, openmp.parallel())]
    assert 'omp' in line and 'torch' in line


def test_a_library_without_openmp_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openmp, 'CDLL', lambda _: object())
    assert openmp.parallel.__wrapped__() == 0


def _holds(line: str, address: int) -> bool:
    first, last = (int(edge, 16) for edge in line.split()[0].split('-'))
    return first <= address < last
