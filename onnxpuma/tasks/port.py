"""The one port through which a task reaches a model: on shares or in the clear, the pipelines cannot tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from onnxpuma.errors import ModelError

KeptValue: TypeAlias = Any
"""A value that stays where the model runs: `Kept` at the servers, an array in the clear."""


@dataclass(frozen=True)
class Port:
    """An input: its name, its type, its shape with symbols where it varies."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]

    def empty(self) -> np.ndarray:
        """One row, with nothing along every other axis that varies: a cache before the first word."""
        varying = (1 if axis == 0 else 0 for axis in range(len(self.shape)))
        sizes = [n if isinstance(n, int) else v for n, v in zip(self.shape, varying, strict=True)]
        return np.zeros(sizes, self.dtype)


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives."""

    inputs: dict[str, Port]
    outputs: tuple[str, ...]


@dataclass
class Usage:
    """What runs took, added up. bytes_sent: by all three servers; in the clear both last are zero."""

    requests: int = 0
    seconds: float = 0.0
    setup_seconds: float = 0.0
    bytes_sent: int = 0
    rounds: int = 0

    def since(self, before: Usage) -> Usage:
        """What was added after `before`."""
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


@dataclass
class Result:
    """What a run gives."""

    outputs: dict[str, np.ndarray]
    kept: dict[str, KeptValue] = field(default_factory=dict)


class Runner(Protocol):
    """Runs the graphs of one model."""

    usage: Usage

    @property
    def graphs(self) -> Mapping[str, Signature]:
        """The graphs by name: `model`, or `encoder_model`, `decoder_model`, `decoder_with_past_model`."""
        ...

    def run(self, run: Run) -> Result:
        """Raises InputError for a feed that does not fit."""
        ...

    def release(self, kept: Sequence[KeptValue]) -> None:
        """Forget these. Never raises: what cannot be released expires."""
        ...

    def close(self) -> None: ...


def signature(runner: Runner, graph: str) -> Signature:
    """What `graph` takes and gives; ModelError when the model has no graph of this name."""
    if graph not in runner.graphs:
        raise ModelError(
            f"the model has no {graph}", f"it has {', '.join(runner.graphs)}: export it with tools/export.py"
        )
    return runner.graphs[graph]
