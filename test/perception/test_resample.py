"""Resampling on a CPU is that of PyTorch."""

from dpt_ros.perception.resample import resample
import pytest
import torch
from torch.nn import functional as F

SIZES = [(48, 64), (17, 23), (60, 31), (1, 1), (24, 32), (25, 500), (96, 16)]


def random_images(channels: int) -> torch.Tensor:
    return 255 * torch.rand((2, channels, 24, 32), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('channels', [1, 3])
def test_it_is_that_of_pytorch(size: tuple[int, int], channels: int):
    images = random_images(channels)
    wanted = F.interpolate(images, size, mode='bicubic', align_corners=False)
    found = resample(images, size)
    assert (found.dtype, found.shape) == (torch.float32, wanted.shape)
    torch.testing.assert_close(found, wanted, atol=255e-4, rtol=0)


def test_memory_may_lie_in_any_order():
    images = random_images(3)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(resample(images, (40, 50)), resample(last, (40, 50)))


def test_gradients_flow_where_they_are_wanted():
    images = random_images(1).requires_grad_()
    resample(images, (40, 50)).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_an_image_of_that_size_stays_as_it_is():
    images = random_images(3)
    assert resample(images, (24, 32)) is images
