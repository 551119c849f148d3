"""A small graph while it is drawn: every node is evaluated in double precision as soon as it is added."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxpuma.graph.protobuf import element_type
from trial.doubles import node_in_doubles

OPSET = 23
LARGEST = 1e7  # finite values of a graph stay below it between two steps
MOST_ELEMENTS = 200
T = TypeVar("T")


class Unfit(Exception):
    """A node that would test nothing here: its result is NaN, or too large."""


@dataclass
class Sketch:
    """Nodes, constants and inputs so far, and the double-precision value of each."""

    chosen: random.Random
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    feed: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    slack: dict[str, float] = field(default_factory=dict)  # value -> error allowed: shares do not round
    steps: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    count: int = 0

    # -- what is drawn ----------------------------------------------------------------------

    def among(self, choices: Sequence[T]) -> T:
        return self.chosen.choice(choices)

    def whole(self, least: int, most: int) -> int:
        return self.chosen.randint(least, most)

    def chance(self, percent: int) -> bool:
        return self.whole(0, 99) >= 100 - percent

    def magnitude(self, least: float, most: float) -> float:
        """A positive number, its logarithm uniform."""
        share = self.whole(0, 1000) / 1000
        return float(least * math.exp(share * math.log(most / least)))

    def numbers(self, shape: Sequence[int]) -> np.random.Generator:
        return np.random.default_rng(self.whole(0, 2**32 - 1))

    def reals(self, shape: Sequence[int], scale: float, kind: str = "") -> np.ndarray:
        """Numbers as in real data: around zero, around another number, with one outlier, ..."""
        rng = self.numbers(shape)
        kind = kind or self.among(("normal", "normal", "uniform", "offset", "outlier", "positive", "sparse"))
        x = rng.normal(size=tuple(shape))
        if kind == "uniform":
            x = rng.uniform(-1, 1, tuple(shape))
        elif kind == "offset":
            x = rng.choice([-1.0, 1.0]) + 10.0 ** rng.uniform(-3, -1) * x
        elif kind == "outlier" and x.size:
            x.flat[rng.integers(x.size)] *= 10.0 ** rng.uniform(1, 3)
            x /= np.abs(x).max()
        elif kind == "positive":
            x = np.abs(x)
        elif kind == "sparse":
            x = np.where(rng.random(x.shape) < 0.5, 0.0, x)
        return np.asarray(x * scale, np.float32)

    # -- what is put in ---------------------------------------------------------------------

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def constant(self, array: Any, stem: str = "c") -> str:
        """A constant whose visibility the rules decide: a lone round number is public, an array is a
        weight."""
        name = self.name(stem)
        array = np.asarray(array)
        self.constants[name] = array.astype(np.float32) if array.dtype == np.float64 else array
        self.values[name] = (
            self.constants[name].astype(np.float64) if array.dtype.kind == "f" else self.constants[name]
        )
        return name

    def public(self, array: Any) -> str:
        """A constant that the owner declares public."""
        return self.constant(array, "pub")

    def given(self, array: np.ndarray, stem: str = "x") -> str:
        """An input; one whose name starts with "keep" is public."""
        name = self.name(stem)
        self.feed[name] = array
        self.values[name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape

    def add(self, op: str, *inputs: str, outputs: int = 1, known_as: str = "", **attributes: Any) -> Any:
        """Add one node and return the name of its result, or several names. known_as: the operator that
        replaces the node and those before it, whose error counts. Raises Unfit."""
        names = [self.name(op.lower()) for _ in range(outputs)]
        node = helper.make_node(
            op, list(inputs), names, name=f"{known_as or op}_{len(self.nodes)}", **attributes
        )
        with np.errstate(all="ignore"):
            try:
                found = node_in_doubles(node, [self.values[n] if n else None for n in inputs], OPSET)
            except Exception as error:
                raise Unfit(f"{op}: {error}") from error
        for name, value in zip(names, found, strict=True):
            value = np.asarray(value)
            if np.isnan(value.astype(np.float64)).any():
                raise Unfit(op)
            if value.size > 4 * MOST_ELEMENTS or value.size == 0:
                raise Unfit(op)
            self.values[name] = value
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def fits(self, name: str) -> bool:
        """Whether a value may be computed with: finite and within the size of values in a graph."""
        value = self.values[name]
        return bool(value.dtype.kind == "f" and np.isfinite(value).all() and np.abs(value).max() <= LARGEST)

    def model(self) -> onnx.ModelProto:
        """The graph so far, in single precision."""
        made = {n for node in self.nodes for n in node.output}
        read = {n for node in self.nodes for n in node.input}
        outputs = self.outputs or [n for node in self.nodes for n in node.output if n not in read]
        kinds = {"f": np.dtype(np.float32)}
        declared = [
            helper.make_tensor_value_info(
                n, element_type(kinds.get(self.values[n].dtype.kind, self.values[n].dtype)), self.shape(n)
            )
            for n in outputs
            if n in made
        ]
        graph = helper.make_graph(
            self.nodes,
            "drawn",
            [helper.make_tensor_value_info(n, element_type(v.dtype), v.shape) for n, v in self.feed.items()],
            declared,
            [numpy_helper.from_array(v, n) for n, v in self.constants.items() if n in read],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
