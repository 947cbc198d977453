"""
A network compiled for each size that it meets, told while it happens and kept on disk.

Only the network is compiled: it is where the time goes, and what is around it calls OpenCV on a
CPU and is captured on a GPU.
"""

from collections.abc import Callable, Collection
import os
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from dpt_ros.model.dpt import DPT
from dpt_ros.perception.program import Tensors
import torch
from torch import Tensor

SIZES = 8  # forms of input that one network is compiled for, PyTorch's own bound
CACHE = Path('~/.cache/dpt_ros/compiled')  # unless TORCHINDUCTOR_CACHE_DIR says where


class Log(Protocol):
    """A logger of Python or of ROS."""

    def info(self, message: str, /) -> Any:
        """Tell what happens."""

    def warning(self, message: str, /) -> Any:
        """Tell what is not as wanted."""


class Compiled:
    """A network like `DPT`, faster from the second image of a size on."""

    def __init__(
        self, network: DPT, backend: str, log: Log, fall_back: Callable[[str, Exception], object]
    ):
        """
        Prepare to compile.

        :param backend: of `torch.compile`.
        :param fall_back: called with what runs eager, and why, where compiling fails.
        """
        os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(CACHE.expanduser()))
        os.environ.setdefault('TORCHINDUCTOR_FX_GRAPH_CACHE', '1')
        self._network, self._log, self._fall_back = network, log, fall_back
        self._compiled = torch.compile(network, backend=backend, dynamic=False)
        self._works: dict[tuple, bool] = {}  # by form of input: whether it could be compiled

    def __call__(self, image: Tensor, wanted: Collection[str]) -> Tensors:
        """Run the tasks wanted on (B, 3, H, W), see `DPT.forward`; the first of a form waits."""
        form = (*image.shape, *sorted(wanted))
        works = self._works.get(form)
        if works is None and len(self._works) < SIZES:
            return self._build(form, image, wanted)
        return (self._compiled if works else self._network)(image, wanted)

    def _build(self, form: tuple, image: Tensor, wanted: Collection[str]) -> Tensors:
        """Compile for this form, or else find out that it cannot be, and run."""
        batch, _, height, width = image.shape
        what = f'the network for {batch} of {width}x{height}, {" and ".join(sorted(wanted))}'
        self._log.info(f'compiling {what}: the first time it can take minutes')
        started = perf_counter()
        try:
            raw = self._compiled(image, wanted)
        except Exception as error:
            raw = self._network(image, wanted)  # which raises what is wrong with the image itself
            self._works[form] = False
            self._fall_back(what, error)
        else:
            self._works[form] = True
            self._log.info(f'compiled {what} in {perf_counter() - started:.1f} s')
        return raw
