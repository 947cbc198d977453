"""What runs on the device: pure functions of tensors, in steps."""

from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter
from typing import Any

from dpt_ros.perception.bands import asking, at_once
from torch import Tensor

Tensors = dict[str, Tensor]  # by name
Step = Callable[[Any], Any]


@dataclass(frozen=True)
class Program:
    """A pure function of tensors in steps; nothing in it waits for the device."""

    name: str
    request: Hashable  # with the name and the forms of the tensors it decides what happens
    # Each takes what the one before gave, and hands on what is not its business; tensors by name
    # come in and go out, what is in between is theirs.
    steps: Mapping[str, Step]
    at_once: frozenset[str] = frozenset()  # steps whose loops may wait for those of the next

    def __call__(self, given: Tensors, seconds: dict[str, float] | None = None) -> Tensors:
        """Run step by step; `seconds` gets the time of each, on a GPU that of handing it over."""
        seconds = {} if seconds is None else seconds
        state: Any = given
        for waiting, names in groupby(self.steps, self.at_once.__contains__):
            with at_once(seconds) if waiting else nullcontext():
                for name in names:
                    asking(name)
                    with stage(seconds, name):
                        state = self.steps[name](state)
        return state

    def then(self, other: 'Program') -> 'Program':
        """Return a program that does what this one does, and with all that gives the other."""
        return Program(
            f'{self.name} and {other.name}',
            (self.request, other.request),
            {**self.steps, **other.steps},
            self.at_once | other.at_once,
        )


class stage:  # as context managers are called
    """Add the time spent inside to `seconds`."""

    def __init__(self, seconds: dict[str, float], name: str):
        """Begin when entered."""
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, *_: object) -> None:
        spent = perf_counter() - self._start
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + spent
