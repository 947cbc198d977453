"""Where a network runs, and what is said to who asks for what is not there."""

from dpt_ros.perception.runtime import choose_device, choose_precision
import pytest
import torch

CPU = torch.device('cpu')
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
