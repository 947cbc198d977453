"""
A network compiled for each size that it meets, told while it happens and kept on disk.

Only the network is compiled: it is where the time goes, and what is around it calls OpenCV on a
CPU and is captured on a GPU.
"""

from collections.abc import Callable, Collection
from hashlib import sha256
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
ENGINES = 4 << 30  # bytes that the engines of one network may take on disk


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
        folder = Path(os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(CACHE.expanduser())))
        os.environ.setdefault('TORCHINDUCTOR_FX_GRAPH_CACHE', '1')
        options = _options_of_tensorrt(network, folder) if backend == 'tensorrt' else None
        self._network, self._log, self._fall_back = network, log, fall_back
        self._compiled = torch.compile(network, backend=backend, dynamic=False, options=options)
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
            self._fall_back(what, getattr(error, 'inner_exception', error))  # of the backend
        else:
            self._works[form] = True
            self._log.info(f'compiled {what} in {perf_counter() - started:.1f} s')
        return raw


def _options_of_tensorrt(network: DPT, folder: Path) -> dict[str, Any]:
    """
    Have Torch-TensorRT compute in the types that the network has, fail aloud, and keep engines.

    It would keep them where everybody may write, and knows one again by its operations alone, not
    by their numbers: so each network has a folder, and with each GPU and PyTorch another.
    """
    kept = folder / 'tensorrt' / _fingerprint(network)
    return {
        'use_explicit_typing': True,
        'pass_through_build_failures': True,
        'cache_built_engines': True,
        'reuse_cached_engines': True,
        'immutable_weights': False,  # an engine is kept without weights
        'engine_cache_dir': str(kept),
        'engine_cache_size': ENGINES,
        'timing_cache_path': str(kept / 'timing_cache.bin'),
    }


def _fingerprint(network: DPT) -> str:
    """Return what tells a network, on its device and with this PyTorch, from all others."""
    device = next(network.parameters()).device
    where = torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type
    digest = sha256(f'{torch.__version__} {where} {network}'.encode())
    for name, values in network.state_dict().items():
        digest.update(f'{name} {values.dtype}'.encode())
        digest.update(values.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
