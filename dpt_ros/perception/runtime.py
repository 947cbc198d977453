"""Where and how things run: device, precision, memory, and programs of tensors."""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import resource
from time import perf_counter

from dpt_ros.model.dpt import DPT
import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Step = Callable[[Tensors], Tensors]
PRECISIONS = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """
    Return the device called `name`: 'auto', 'cpu', 'cuda' or 'cuda:1'.

    'auto' is the first GPU if there is one that this build of PyTorch can use, else the CPU.
    """
    if name == 'auto':
        return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        known = device.type in ('cpu', 'cuda')
    except RuntimeError:
        known = False
    if not known:
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got '{name}'")
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device '{name}' is not there: PyTorch {torch.__version__} sees "
            f'{torch.cuda.device_count()} GPUs; check nvidia-smi and that this build of PyTorch '
            "has CUDA, or use 'cpu'"
        )
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type that weights and activations have: 'auto' is half precision on a GPU."""
    if name == 'auto':
        return torch.float16 if device.type == 'cuda' else torch.float32
    if name not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got '{name}'")
    return PRECISIONS[name]


def memory_in_use(device: torch.device) -> int:
    """Return the bytes that this process holds: on a GPU by its tensors, on a CPU in all."""
    if device.type == 'cuda':
        return torch.cuda.memory_allocated(device)
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])  # resident
    return pages * resource.getpagesize()


class NetworkError(RuntimeError):
    """A network gave nothing that could be a result."""


def free_memory() -> None:
    """Give memory that no tensor holds back to the device."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Network:
    """One network on one device."""

    def __init__(self, network: DPT, device: torch.device, dtype: torch.dtype):
        """Move the network there; its convolutions run channels last, which all devices prefer."""
        self.device, self.dtype = device, dtype
        self._network = network.to(device, dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, image: Tensor, wanted: Collection[str]) -> Tensors:
        """Run the tasks wanted on a normalized image (B, 3, h, w); see `DPT.forward`."""
        image = image.to(self.dtype, memory_format=torch.channels_last)
        return self._network(image, wanted)


@dataclass(frozen=True)
class Program:
    """A pure function of tensors in steps; nothing in it waits for the device."""

    name: str
    request: Hashable  # with the name and the forms of the tensors it decides what happens
    steps: Mapping[str, Step]  # each takes what the one before gave


class Runtime:
    """How programs run."""

    def __call__(self, program: Program, given: Tensors, seconds: dict[str, float]) -> Tensors:
        """
        Run a program on what is given.

        :param seconds: gets the time of each step; on a GPU that of handing it over.
        """
        for name, step in program.steps.items():
            with stage(seconds, name):
                given = step(given)
        return given


@contextmanager
def stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time spent inside to `seconds`."""
    start = perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + perf_counter() - start
