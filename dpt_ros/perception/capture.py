"""
A program captured once, so that running it again costs one launch: CUDA graphs.

A graph reads and writes where it did when it was captured. So inputs are copied to where it reads,
outputs are good until the next one runs, and whatever else it read then must outlive it.
"""

from collections.abc import Callable
from dataclasses import dataclass
import weakref

from dpt_ros.perception.program import Tensors
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WARM_UP = 2  # runs on the stream of the capture before it, which set up what cannot be captured

# Of what runs on standing tensors, and their device: what it writes, and how to repeat it.
Capture = Callable[[Callable[[], Tensors], torch.device], tuple[Tensors, Callable[[], object]]]


class Captured:
    """A function of tensors whose inputs and outputs stand still."""

    def __init__(self, run: Callable[[Tensors], Tensors], given: Tensors, capture: Capture):
        """Capture a run for inputs of these forms; it runs some times, and must be pure."""
        standing = {name: tensor.clone() for name, tensor in given.items()}
        device = next(iter(given.values())).device
        run(standing)  # fills what is cached, such as matrices of a size, before it is looked for
        with _Readings() as readings:
            run(standing)
        self._given, self._kept = standing, readings.outside
        self._outputs, self._repeat = capture(lambda: run(standing), device)

    def __call__(self, given: Tensors) -> Tensors:
        """Run; the outputs are good until the next run of any, and may be views of the inputs."""
        for name, tensor in given.items():
            self._given[name].copy_(tensor)
        self._repeat()
        return dict(self._outputs)


class Graphs:
    """
    Captures CUDA graphs as PyTorch documents it; other threads may use the device.

    They have their memory in common, as one runs at a time: a network takes no more of it however
    much differs in what is wanted. So what a graph gave is good until the next one runs.
    """

    def __init__(self) -> None:
        """Take no memory yet."""
        self._memory: Callable[[], _Memory | None] = lambda: None

    def __call__(
        self, run: Callable[[], Tensors], device: torch.device
    ) -> tuple[Tensors, Callable[[], object]]:
        """Capture a run."""
        memory = self._memory() or _Memory()
        self._memory = weakref.ref(memory)  # PyTorch wants another one once its graphs are gone
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, memory.pool, capture_error_mode='thread_local'):
                outputs = run()
        return outputs, _Replay(graph, memory)


class _Memory:
    """What graphs have in common as long as one of them is there."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()


@dataclass(frozen=True)
class _Replay:
    """Runs a graph again."""

    graph: torch.cuda.CUDAGraph
    memory: _Memory

    def __call__(self) -> None:
        self.graph.replay()


class _Readings(TorchDispatchMode):
    """Holds the tensors that a run reads and did not make: a cache may let go of them."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[Tensor] = []
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation of PyTorch and note what it read."""
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and id(value) not in self._known:
                self._known.add(id(value))
                self.outside.append(value)
        made = func(*args, **(kwargs or {}))
        self._known.update(id(value) for value in tree_leaves(made) if isinstance(value, Tensor))
        return made
