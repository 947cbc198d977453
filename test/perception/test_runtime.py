"""Where a network runs, and what is said to who asks for what is not there."""

import sys
from types import ModuleType

from dpt_ros.perception.runtime import (
    choose_device,
    choose_precision,
    choose_runtime,
    open_runtime,
)
import pytest
import torch

CPU, GPU = torch.device('cpu'), torch.device('cuda:0')
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')


@NO_GPU
def test_auto_is_the_cpu_where_there_is_no_gpu():
    assert choose_device('auto') == CPU


@NO_GPU
@pytest.mark.parametrize('name', ['cuda', 'cuda:0'])
def test_a_gpu_that_is_not_there_is_refused(name: str):
    with pytest.raises(ValueError, match=f"'{name}' is not there.*sees 0 GPUs.*or use 'cpu'"):
        choose_device(name)


@pytest.mark.parametrize('name', ['gpu', 'cuda:x', '', 'meta', 'cuda:99999999999999999999'])
def test_a_device_that_nobody_knows_is_refused(name: str):
    with pytest.raises(
        ValueError, match=f"must be 'auto', 'cpu', 'cuda' or 'cuda:N', got '{name}'"
    ):
        choose_device(name)


def test_auto_is_whole_precision_on_a_cpu_and_half_on_a_gpu():
    assert choose_precision('auto', CPU) == torch.float32
    assert choose_precision('auto', torch.device('cuda:0')) == torch.float16


@pytest.mark.parametrize('name', ['float32', 'float16', 'bfloat16'])
def test_a_precision_has_the_name_of_torch(name: str):
    assert str(choose_precision(name, CPU)) == f'torch.{name}'


def test_a_precision_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="auto, float32, float16, bfloat16, got 'int8'"):
        choose_precision('int8', CPU)


def test_auto_is_eager_on_a_cpu_and_a_graph_on_a_gpu():
    assert choose_runtime('auto', CPU) == 'eager'
    assert choose_runtime('auto', GPU) == 'graph'
    assert not open_runtime('auto', CPU).reuses
    assert open_runtime('auto', GPU).reuses


@pytest.mark.parametrize('name', ['eager', 'graph', 'compile'])
def test_a_gpu_runs_as_it_is_told(name: str):
    assert choose_runtime(name, GPU) == name


def test_on_a_gpu_all_but_eager_is_captured():
    assert not open_runtime('eager', GPU).reuses
    assert open_runtime('compile', GPU).reuses
    assert not open_runtime('compile', CPU).reuses


@pytest.mark.parametrize('name', ['graph', 'tensorrt'])
def test_what_needs_a_gpu_is_refused_on_a_cpu(name: str):
    with pytest.raises(
        ValueError, match=f"runtime '{name}' needs a GPU, .* 'cpu': set runtime to eager.*compile"
    ):
        choose_runtime(name, CPU)


def test_tensorrt_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'torch_tensorrt', None)
    with pytest.raises(ValueError, match=r'needs the Python package torch_tensorrt.* install'):
        choose_runtime('tensorrt', GPU)


def test_tensorrt_that_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'torch_tensorrt', ModuleType('torch_tensorrt'))
    assert choose_runtime('tensorrt', GPU) == 'tensorrt'


def test_a_runtime_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="eager, graph, compile, tensorrt, got 'jit'"):
        choose_runtime('jit', CPU)
