"""What runs on the device: pure functions of tensors, in steps."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from torch import Tensor

Tensors = dict[str, Tensor]  # by name
Step = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class Program:
    """A pure function of tensors in steps; nothing in it waits for the device."""

    name: str
    request: Hashable  # with the name and the forms of the tensors it decides what happens
    steps: Mapping[str, Step]  # each takes what the one before gave

    def __call__(self, given: Tensors, seconds: dict[str, float] | None = None) -> Tensors:
        """Run step by step; `seconds` gets the time of each, on a GPU that of handing it over."""
        seconds = {} if seconds is None else seconds
        for name, step in self.steps.items():
            with stage(seconds, name):
                given = step(given)
        return given


@contextmanager
def stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time spent inside to `seconds`."""
    start = perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + perf_counter() - start
