"""Where and how things run: device, precision, memory; eager, captured or compiled."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from importlib import import_module
import logging

from dpt_ros.memory import give_back_free_memory, resident_memory
from dpt_ros.model.dpt import DPT
from dpt_ros.perception.capture import Capture, Captured, Graphs
from dpt_ros.perception.compiled import Compiled, Log
from dpt_ros.perception.crew import Crew
from dpt_ros.perception.lean import use_lean_blocks
from dpt_ros.perception.pointwise import use_products
from dpt_ros.perception.program import Program, stage, Tensors
from dpt_ros.perception.winograd import use_winograd
import torch
from torch import Tensor

# How programs run; 'auto' chooses. On a GPU all but 'eager' are captured.
RUNTIMES = ('auto', 'eager', 'graph', 'compile', 'tensorrt')
BACKENDS = {'compile': 'inductor', 'tensorrt': 'tensorrt'}  # of torch.compile, for the network
GRAPHS = 16  # that are kept; the one longest unused goes first
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
    return resident_memory()


class NetworkError(RuntimeError):
    """A network gave nothing that could be a result."""


def free_memory() -> None:
    """Give memory that no tensor holds back to the device, and that of the host to the system."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    give_back_free_memory()


def choose_runtime(name: str, device: torch.device) -> str:
    """Return how programs run: 'auto' is a graph on a GPU and eager on a CPU."""
    if name not in RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got '{name}'")
    on_gpu = device.type == 'cuda'
    if name == 'auto':
        return 'graph' if on_gpu else 'eager'
    if name in ('graph', 'tensorrt') and not on_gpu:
        raise ValueError(
            f"runtime '{name}' needs a GPU, but the device is '{device}': set runtime to eager, "
            'which a CPU is used to, or to compile'
        )
    if name == 'tensorrt':
        try:
            import_module('torch_tensorrt')  # which makes its backend known to torch.compile
        except (ImportError, OSError) as error:
            raise ValueError(
                "runtime 'tensorrt' needs the Python package torch_tensorrt, which cannot be "
                f'imported ({error}): install the one that belongs to this PyTorch '
                f'({torch.__version__}), or set runtime to graph or compile'
            ) from None
    return name


def open_runtime(
    name: str, device: torch.device, log: Log | None = None, threads: int | None = None
) -> 'Runtime':
    """
    Return the runtime called `name`, one of `RUNTIMES`, on a device.

    :param threads: that eager networks may take on a CPU, where fewer are taken if that is faster;
        what is compiled is compiled for a number of threads. None: as many as PyTorch has.
    """
    name = choose_runtime(name, device)
    captured = device.type == 'cuda' and name != 'eager'
    crew = None
    if threads is not None and device.type == 'cpu' and name == 'eager':
        crew = Crew(threads)
    return Runtime(name, log, Graphs() if captured else None, crew)


class Runtime:
    """How programs run."""

    def __init__(
        self,
        name: str = 'eager',
        log: Log | None = None,
        capture: Capture | None = None,
        crew: Crew | None = None,
    ):
        """
        Prepare to run.

        :param name: one of `RUNTIMES`, not 'auto'.
        :param log: told what is built, and what cannot be.
        :param capture: how programs are captured; None: they are not.
        :param crew: who runs networks; None: all threads that PyTorch has, together.
        """
        self.name = name
        self.log: Log = logging.getLogger('dpt_ros') if log is None else log
        self._capture, self._crew, self._eager = capture, crew, ''
        self._captured: OrderedDict[object, Captured | None] = OrderedDict()

    def __call__(self, program: Program, given: Tensors, seconds: dict[str, float]) -> Tensors:
        """
        Run a program on what is given.

        :param seconds: gets the time of each step, or of the program where that is one.
        :return: what it gives; if `reuses`, good until the next program runs.
        """
        if self._capture is None:
            return program(given, seconds)
        forms = frozenset((name, *tensor.shape, tensor.dtype) for name, tensor in given.items())
        key = (program.name, program.request, forms)
        if key not in self._captured:
            while len(self._captured) >= GRAPHS:
                self._captured.popitem(last=False)
            try:
                self._captured[key] = Captured(program, given, self._capture)
            except Exception as error:
                if isinstance(error, torch.OutOfMemoryError):
                    self._captured.clear()
                    free_memory()
                result = program(given, seconds)  # which raises what is wrong with the frame
                self._captured[key] = None
                self.fall_back(f"'{program.name}'", error)
                return result
        self._captured.move_to_end(key)
        captured = self._captured[key]
        if captured is None:
            return program(given, seconds)
        with stage(seconds, program.name):
            return captured(given)

    @property
    def reuses(self) -> bool:
        """Whether what a program gives is written to when the next one runs."""
        return self._capture is not None

    @property
    def state(self) -> str:
        """The name, and what does not run so."""
        return f'{self.name}; {self._eager}' if self._eager else self.name

    def share(
        self, work: Callable[[slice], Tensors], images: int, kind: Hashable
    ) -> Sequence[Tensors]:
        """Run networks on images, in shares where a crew does it; see `Crew.run`."""
        if self._crew is None:
            return [work(slice(0, images))]
        return self._crew.run(work, images, kind)

    def compiled(self, network: DPT) -> Callable[[Tensor, Collection[str]], Tensors]:
        """Return a network as this runtime calls it."""
        if self.name not in BACKENDS:
            use_winograd(network)
            use_products(network)
            use_lean_blocks(network)
            return network
        return Compiled(network, BACKENDS[self.name], self.log, self.fall_back)

    def fall_back(self, what: str, error: Exception) -> None:
        """Tell that something runs eager, and why."""
        reason = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
        self._eager = f'{what} runs eager: {reason}'
        self.log.warning(f'runtime {self.name}: {self._eager}')


class Network:
    """One network on one device."""

    def __init__(
        self,
        network: DPT,
        device: torch.device,
        dtype: torch.dtype,
        runtime: Runtime | None = None,
    ):
        """Move the network there; its convolutions run channels last, which all devices prefer."""
        self.device, self.dtype = device, dtype
        self._network = network.to(device, dtype).to(memory_format=torch.channels_last)
        self._run = (runtime or Runtime()).compiled(self._network)

    @torch.inference_mode()
    def __call__(self, image: Tensor, wanted: Collection[str]) -> Tensors:
        """Run the tasks wanted on a normalized image (B, 3, h, w); see `DPT.forward`."""
        image = image.to(self.dtype, memory_format=torch.channels_last)
        return self._run(image, wanted)
