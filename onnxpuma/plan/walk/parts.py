"""Nodes that replace another node, one by one.

Each builder of the walk is a generator. The walk plans a node that it yields before it asks for the next, so
a builder finds the results of the nodes that it yielded in `state.values`. A builder that plans its node
itself yields nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from onnxpuma.graph.model import Node, ValueType
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.standard.signature import since_version

_Result = TypeVar("_Result")
Parts: TypeAlias = Generator[Node, None, _Result]


class Refused(Exception):
    """The node being built cannot run. sizes: it could at other sizes."""

    def __init__(self, reason: str, *, sizes: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.sizes = reason, sizes


def part(
    state: State, op: str, name: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Any
) -> Node:
    """A standard node that is not in the graph."""
    version = since_version(op, "", {"": state.opset})
    return Node(name, op, "", version, tuple(inputs), tuple(outputs), attributes)


def made(state: State, name: str, op: str, inputs: tuple[str, ...], **attributes: Any) -> Parts[str]:
    """A part and its only result, both with this name."""
    yield part(state, op, name, inputs, (name,), attributes)
    return name


def add_constant(state: State, name: str, value: np.ndarray) -> str:
    """A public value under this name."""
    state.values[name] = Known(ValueType(value.dtype, value.shape), value)
    return name
