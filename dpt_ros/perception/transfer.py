"""
One copy up and one copy down.

On a GPU both go through pinned memory, which the device reads and writes by itself. PyTorch
hands pinned memory out again when nobody needs it any more, so it does not grow with frames.
"""

from collections.abc import Sequence

from dpt_ros.perception.program import Tensors
import numpy as np
import torch
from torch import Tensor


class Upload:
    """Brings images to one device, on a GPU on a stream of its own."""

    def __init__(self, device: torch.device):
        """Open the stream."""
        self._device = device
        self._side = torch.cuda.Stream(device) if device.type == 'cuda' else None

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """
        Bring up images of one size, (H, W, 3) uint8 each.

        :return: (B, H, W, 3) uint8; on a CPU a single one is a view.
        """
        tensors = [torch.from_numpy(image) for image in images]
        if self._side is None:
            return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
        shape = (len(tensors), *tensors[0].shape)
        staged = torch.stack(tensors, out=torch.empty(shape, dtype=torch.uint8, pin_memory=True))
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._side):
            pixels = staged.to(self._device, non_blocking=True)
        current.wait_stream(self._side)
        pixels.record_stream(current)
        return pixels


def download(values: Tensors, *, copied: bool) -> Tensors:
    """
    Bring tensors to the host, contiguous; after a GPU `finish_download` must follow.

    :param copied: they are written again, so on a CPU, too, a copy is needed.
    """
    return {name: _down(tensor, copied) for name, tensor in values.items()}


def _down(tensor: Tensor, copied: bool) -> Tensor:
    if tensor.device.type == 'cpu':
        kept = tensor.contiguous()
        return kept.clone() if copied and kept is tensor else kept
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def finish_download(device: torch.device) -> None:
    """Wait until all is down."""
    if device.type == 'cuda':
        torch.cuda.current_stream(device).synchronize()


def to_numpy(values: Tensor) -> np.ndarray:
    """View a finished product; integers that torch has no name for are narrowed."""
    array = values.numpy()
    return array.astype(np.uint16) if array.dtype == np.int32 else array
