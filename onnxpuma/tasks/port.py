"""The one port through which a task reaches a model; pipelines cannot tell shares from the clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from onnxpuma.errors import ModelError
from onnxpuma.roles.client.outcome import described
from onnxpuma.roles.request.view import View

KeptValue: TypeAlias = Any  # stays where the model runs: `Kept` at the servers, an array in the clear


@dataclass(frozen=True)
class Port:
    """An input of a graph."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]  # symbols or None for lengths that vary

    def empty(self) -> np.ndarray:
        """One row, of length zero along every other axis that varies: a cache before the first token."""
        varying = (1 if axis == 0 else 0 for axis in range(len(self.shape)))
        sizes = [n if isinstance(n, int) else v for n, v in zip(self.shape, varying, strict=True)]
        return np.zeros(sizes, self.dtype)


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a graph."""

    inputs: dict[str, Port]
    outputs: tuple[str, ...]
    # Its past may stand behind padding that `attention_mask` hides, and the runner gains where a past keeps
    # its length from run to run (tasks/cache.py).
    blocks: bool = False


@dataclass
class Usage:
    """Totals over runs; in the clear, `bytes_sent` and `rounds` are zero."""

    requests: int = 0
    seconds: float = 0.0
    setup_seconds: float = 0.0
    bytes_sent: int = 0  # by all three servers
    rounds: int = 0

    def since(self, before: Usage) -> Usage:
        """The difference from `before`, an earlier copy."""
        return Usage(*(getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__))

    def copy(self) -> Usage:
        return Usage(*(getattr(self, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Run:
    """What a runner is asked for."""

    graph: str
    feed: Mapping[str, Any]  # arrays, or values that an earlier run kept
    outputs: Sequence[str]  # to open
    keep: Sequence[str] = ()  # outputs that stay where the model runs
    release: Sequence[KeptValue] = ()  # to forget once this run has succeeded


def view(value: KeptValue, skip: int, length: int, axis: int) -> KeptValue:
    """`length` entries along `axis` of a value that a run kept, from `skip` on; below zero, behind so many
    copies of the first.

    The runner keeps the whole, and `release` takes the whole.
    """
    if isinstance(value, np.ndarray):
        return View(skip, axis).of_array(value, length)
    return value.view(skip, length, axis)


@dataclass(repr=False)
class Result:
    """The outputs of one run: those that were opened, and those that stay where the model runs."""

    outputs: dict[str, np.ndarray]
    kept: dict[str, KeptValue] = field(default_factory=dict)

    def __repr__(self) -> str:
        kept = f"; keeps {', '.join(self.kept)}" if self.kept else ""
        return f"<Result: {described(self.outputs)}{kept}>"


class Runner(Protocol):
    """Runs the graphs of one model."""

    usage: Usage

    @property
    def graphs(self) -> Mapping[str, Signature]:
        """The graphs by name: `model`, or `encoder_model`, `decoder_model`, `decoder_with_past_model`."""
        ...

    def run(self, run: Run) -> Result:
        """Run one graph. Raises InputError for a feed that does not fit."""
        ...

    def release(self, kept: Sequence[KeptValue]) -> None:
        """Drop these values. Never raises: a value that cannot be dropped expires."""
        ...

    def close(self) -> None: ...


def signature(runner: Runner, graph: str) -> Signature:
    """The inputs and outputs of `graph`; ModelError if the model has no graph of this name."""
    if graph not in runner.graphs:
        raise ModelError(
            f"the model has no {graph}", f"it has {', '.join(runner.graphs)}: export it with tools/export.py"
        )
    return runner.graphs[graph]
