"""
Memory of others, such as that of messages, pinned: a GPU writes to it by itself.

What PyTorch allocates pinned is its own; what is there already has to be registered with CUDA.
"""

from contextlib import suppress
from typing import Any
import weakref

from dpt_ros.perception.compiled import Log
import numpy as np
import torch

PORTABLE = 1  # cudaHostRegisterPortable: for all GPUs


class Pins:
    """Pins memory on its first use, for as long as it lives."""

    def __init__(self, device: torch.device, log: Log, cuda: Any = None):
        """
        Have nothing pinned.

        :param device: a GPU.
        :param log: told once if memory cannot be pinned.
        :param cuda: `cudaHostRegister` and `cudaHostUnregister` as PyTorch has them; None: those.
        """
        self._device, self._log = device, log
        self._cuda = torch.cuda.cudart() if cuda is None else cuda
        # By address and size of memory that lives, whether it is pinned.
        self._pinned: dict[tuple[int, int], bool] = {}
        self._told = False

    def __call__(self, memory: np.ndarray) -> bool:
        """
        Pin memory, if it is not yet.

        :param memory: contiguous, a view of something that can be referred to weakly, such as
            array.array: it is unregistered before that frees it.
        :return: whether it is pinned.
        """
        place = memory.__array_interface__['data'][0], memory.nbytes
        if place not in self._pinned:
            end = weakref.finalize(_owner(memory), self._release, place)
            end.atexit = False  # CUDA ends then, too
            error = int(self._cuda.cudaHostRegister(*place, PORTABLE))
            self._pinned[place] = error == 0
            if error:
                self._tell(error)
        return self._pinned[place]

    def _release(self, place: tuple[int, int]) -> None:
        """Unregister memory that is about to be freed, in whatever thread does so."""
        if self._pinned.pop(place, False):
            self._cuda.cudaHostUnregister(place[0])

    def _tell(self, error: int) -> None:
        with suppress(RuntimeError):  # with which CUDA would meet whoever launches next
            torch.ones(1, device=self._device)
        if not self._told:
            self._log.warning(
                f'messages cannot be pinned (CUDA error {error}), so that the GPU would write to '
                'them: what comes down is copied once more'
            )
        self._told = True


def _owner(memory: np.ndarray) -> object:
    """Return what frees the memory that an array looks at."""
    owner: Any = memory
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return owner.obj if isinstance(owner, memoryview) else owner
