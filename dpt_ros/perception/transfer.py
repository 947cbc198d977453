"""
One copy up and one copy down.

On a GPU both go through pinned memory, which the device reads and writes by itself: up from a
copy of the images, down into the messages where those are there. What else is needed PyTorch hands
out again when nobody has it any more, so it does not grow with frames.
"""

from collections.abc import Mapping, Sequence

from dpt_ros.perception.bands import room
from dpt_ros.perception.compiled import Log
from dpt_ros.perception.pinned import Pins
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
            return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)
        shape = (len(tensors), *tensors[0].shape)
        staged = torch.stack(tensors, out=torch.empty(shape, dtype=torch.uint8, pin_memory=True))
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._side):
            pixels = staged.to(self._device, non_blocking=True)
        current.wait_stream(self._side)
        pixels.record_stream(current)
        return pixels


class Download:
    """Brings products from one device to the host."""

    def __init__(self, device: torch.device, log: Log):
        """Have nothing under way; the log is told once if messages cannot be pinned."""
        self._device = device
        self._pin = Pins(device, log) if device.type == 'cuda' else None
        self._under_way: list[Tensor] = []  # which nobody may free before it is written

    def __call__(
        self, values: Tensors, spare: Mapping[str, np.ndarray], *, reused: bool
    ) -> Tensors:
        """
        Bring tensors to the host, contiguous; `finish` must follow.

        :param spare: by name, bytes that nobody needs any more: a tensor of as many goes there.
        :param reused: the tensors are written again, so on a CPU, too, a copy is needed.
        """
        if self._pin is None and not reused:
            return {name: tensor.contiguous() for name, tensor in values.items()}
        down = {name: self._place(tensor, spare.get(name)) for name, tensor in values.items()}
        self._under_way += down.values()
        for name, place in down.items():
            place.copy_(values[name], non_blocking=True)
        return down

    def _place(self, tensor: Tensor, spare: np.ndarray | None) -> Tensor:
        """Return memory of the host for a tensor."""
        shape, kind, pin = tensor.shape, tensor.dtype, self._pin
        if spare is not None and spare.nbytes == tensor.nbytes and (pin is None or pin(spare)):
            return room(torch.from_numpy(spare), *shape, dtype=kind)
        return torch.empty(shape, dtype=kind, pin_memory=pin is not None)

    def finish(self) -> None:
        """Wait until all is down."""
        if self._device.type == 'cuda':
            torch.cuda.current_stream(self._device).synchronize()
        self._under_way.clear()
