from dpt_ros.perception import bands
import pytest


@pytest.fixture(params=['compiled loops', 'whole arrays'])
def each_way(request, monkeypatch):
    """Compute as a CPU with Numba does, then as one without it, and every other device, do."""
    if request.param == 'whole arrays':
        monkeypatch.setattr(bands, '_loops', lambda: None)
