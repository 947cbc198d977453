"""Memory that a GPU writes to by itself; a stand-in notes what CUDA is told."""

from array import array
import gc
import logging

from dpt_ros.perception.pinned import Pins
import numpy as np
import pytest
import torch

LOG = logging.getLogger('test_pinned')
CPU = torch.device('cpu')  # which launches nothing that could meet an error


class Cuda:
    """Registers memory as CUDA does: none twice, and no part of what is registered."""

    def __init__(self, error: int = 0):
        self.error, self.registered = error, dict[int, int]()
        self.count = 0

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        assert flags == 1
        self.count += 1
        overlaps = (a < address + size and address < a + s for a, s in self.registered.items())
        if self.error or any(overlaps):
            return self.error or 712
        self.registered[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        del self.registered[address]
        return 0


def message(size: int = 1000) -> array:
    return array('B', bytes(size))


def view(data: array) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def test_memory_is_pinned_once_however_often_it_is_used():
    cuda, data = Cuda(), message()
    pin = Pins(CPU, LOG, cuda)
    for _ in range(3):
        assert pin(view(data))
    assert cuda.registered == {data.buffer_info()[0]: 1000}
    assert cuda.count == 1


def test_memory_is_let_go_of_before_it_is_freed():
    cuda, data, other = Cuda(), message(), message()
    pin = Pins(CPU, LOG, cuda)
    assert pin(view(data))
    assert pin(view(other))
    del data
    gc.collect()
    assert cuda.registered == {other.buffer_info()[0]: 1000}
    for _ in range(100):  # some of them where another one was
        data = message()
        assert pin(view(data))
        assert cuda.registered.keys() == {data.buffer_info()[0], other.buffer_info()[0]}


def test_a_view_does_not_end_with_the_view_of_it():
    cuda, memory = Cuda(), np.zeros((10, 100), np.uint8)
    pin = Pins(CPU, LOG, cuda)
    assert pin(memory[2:4].reshape(-1))
    assert cuda.registered == {memory[2].ctypes.data: 200}
    del memory
    gc.collect()
    assert cuda.registered == {}


def test_what_cannot_be_pinned_is_told_once_and_not_tried_again(caplog: pytest.LogCaptureFixture):
    cuda, datas = Cuda(error=2), [message(), message()]
    pin = Pins(CPU, LOG, cuda)
    for data in datas * 2:
        assert not pin(view(data))
    assert cuda.count == 2
    (told,) = caplog.records
    assert 'messages cannot be pinned (CUDA error 2)' in told.getMessage()
    del data, datas
    gc.collect()  # nothing is unregistered that was not registered


def test_memory_that_somebody_else_pinned_stays_pinned():
    cuda, data = Cuda(), message()
    owner, guest = Pins(CPU, LOG, cuda), Pins(CPU, LOG, cuda)
    assert owner(view(data))
    assert not guest(view(data))
    del guest
    gc.collect()
    assert cuda.registered == {data.buffer_info()[0]: 1000}


def test_memory_that_nobody_could_let_go_of_in_time_is_refused():
    with pytest.raises(TypeError, match='weak reference'):
        Pins(CPU, LOG, Cuda())(np.frombuffer(bytes(100), np.uint8))


@pytest.mark.gpu
def test_a_gpu_pins_the_memory_of_a_message():
    if not torch.cuda.is_available():
        pytest.skip('there is no GPU')
    size = 40_000_017  # of which none shares a page with others, see M_MMAP_THRESHOLD of malloc
    device, datas = torch.device('cuda:0'), [message(size) for _ in range(4)]
    pin = Pins(device, LOG)
    for data in datas:
        assert pin(view(data))
        assert torch.from_numpy(view(data)).is_pinned()
    guest = Pins(device, LOG)
    assert not guest(view(datas[0]))
    assert torch.ones(3, device=device).sum().item() == 3  # the error met nobody
