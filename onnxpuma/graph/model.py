"""An ONNX model as the rest of the house sees it: plain dataclasses, no protobuf.

`to_graph` turns an `onnx_ir.Model` into a `Graph`. Values are named by strings, as in ONNX; weights stay in
their place (in the file, memory-mapped, when they are stored outside the protobuf) until `Initializer.numpy`
is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Union

import numpy as np
import onnx_ir as ir

from onnxpuma.errors import ModelError, UnsupportedModelError
from onnxpuma.graph.initializer import Initializer as Initializer
from onnxpuma.standard.operators import traits
from onnxpuma.standard.signature import default_of, since_version
from onnxpuma.standard.traits import Traits

Attribute = Union[int, float, str, list[Any], np.ndarray, "Graph"]


@dataclass(frozen=True)
class ValueType:
    """Element type and shape of a value."""

    dtype: np.dtype[Any]
    # A dimension is an int, a symbol (str) or None when unknown; the shape is None when the rank is unknown.
    shape: tuple[int | str | None, ...] | None

    @property
    def concrete(self) -> bool:
        """True when every dimension is an int."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of the graph."""

    name: str  # unique within its graph, and never empty
    op: str
    domain: str
    version: int  # since-version of its schema (13 for Softmax at opset 20); else the version imported
    inputs: tuple[str | None, ...]  # None: an optional input is absent
    outputs: tuple[str, ...]  # "": nothing reads the output
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def attribute(self, name: str) -> Any:
        """An attribute as given, else its default. A KeyError where the operator has none of this name."""
        return self.attributes.get(name, default_of(self.op, name, self.version, self.domain))

    @cached_property
    def traits(self) -> Traits:
        """The traits of its operator."""
        return traits(self.op, self.domain)

    @cached_property
    def reads(self) -> list[str]:
        """The names that it reads, including those that its subgraphs capture."""
        return [n for n in (*self.inputs, *(c for g in self.subgraphs for c in g.captured())) if n]

    @cached_property
    def attribute_key(self) -> tuple[Any, ...]:
        """The attributes as one hashable value: equal for two nodes that have equal attributes."""
        return tuple((k, _hashable(v)) for k, v in sorted(self.attributes.items()))

    @cached_property
    def subgraphs(self) -> tuple[Graph, ...]:
        """The graphs among the attributes (the branches of If, the body of Loop and Scan)."""
        found: list[Graph] = []
        for value in self.attributes.values():
            found += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, Graph)]
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Graph:
    """A model, or a branch of it: typed inputs and outputs in order, nodes in topological order, constants.

    `inputs` lists only the values that a caller must feed: a graph input with an initializer counts as a
    constant. A branch (attribute of If, Loop, Scan) may read values of the graph around it: see `captured`.
    """

    name: str
    inputs: dict[str, ValueType]
    outputs: dict[str, ValueType]
    nodes: list[Node]
    initializers: dict[str, Initializer]
    opset: int
    """The version of the standard operator set (domain "")."""
    domains: dict[str, int] = field(default_factory=dict)
    """Every imported operator set by domain, including the standard one ("")."""

    def captured(self) -> tuple[str, ...]:
        """Names this graph reads but does not define, in order of first use: values of the graph around
        it."""
        known = {*self.inputs, *self.initializers}
        missing: dict[str, None] = {}
        for node in self.nodes:
            inner = (n for g in node.subgraphs for n in g.captured())
            missing.update((n, None) for n in (*node.inputs, *inner) if n and n not in known)
            known.update(node.outputs)
        missing.update((n, None) for n in self.outputs if n not in known)
        return tuple(missing)

    def histogram(self) -> dict[str, int]:
        """Operator name -> number of nodes, most frequent first, including branches; `domain::op`
        off-standard."""
        counts: dict[str, int] = {}
        for node in self._all_nodes():
            op = f"{node.domain}::{node.op}" if node.domain else node.op
            counts[op] = counts.get(op, 0) + 1
        return dict(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))

    def _all_nodes(self) -> Iterator[Node]:
        for node in self.nodes:
            yield node
            for g in node.subgraphs:
                yield from g._all_nodes()


def to_graph(model: ir.Model) -> Graph:
    """The model as a `Graph`, without copying its weights.

    Raises UnsupportedModelError when an input or output is not a dense tensor, or local functions remain
    (`canonicalise` inlines them).
    """
    if model.functions:
        names = ", ".join(sorted(str(f.name) for f in model.functions.values()))
        raise UnsupportedModelError(
            f"the model still contains local functions: {names}", "canonicalise it first: that inlines them"
        )
    domains = {("" if d == "ai.onnx" else d): int(v) for d, v in model.opset_imports.items()}
    return _graph(model.graph, domains)


def _graph(graph: ir.Graph, domains: dict[str, int], inner: bool = False) -> Graph:
    initializers = {name: _initializer(value) for name, value in graph.initializers.items()}
    taken: set[str] = set()
    return Graph(
        name=graph.name or "",
        inputs={v.name: _value_type(v, inner) for v in graph.inputs if v.name not in initializers},
        outputs={v.name: _value_type(v, inner) for v in graph.outputs},
        nodes=[_node(n, taken, domains) for n in graph],
        initializers=initializers,
        opset=domains.get("", 1),
        domains=dict(domains),
    )


def _node(node: ir.Node, taken: set[str], domains: dict[str, int]) -> Node:
    domain = "" if node.domain == "ai.onnx" else node.domain
    inputs = tuple(v.name if v is not None else None for v in node.inputs)
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    outputs = tuple(v.name or "" for v in node.outputs)
    stem = name = node.name or f"{node.op_type}_{next((o for o in outputs if o), '')}"
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    attributes = {a.name: _attribute(a, domains) for a in node.attributes.values()}
    return Node(
        name, node.op_type, domain, since_version(node.op_type, domain, domains), inputs, outputs, attributes
    )


def _attribute(attribute: ir.Attr, domains: dict[str, int]) -> Attribute:
    kind, value = attribute.type, attribute.value
    if kind == ir.AttributeType.GRAPH:
        return _graph(value, domains, inner=True)
    if kind == ir.AttributeType.GRAPHS:
        return [_graph(g, domains, inner=True) for g in value]
    if kind == ir.AttributeType.TENSOR:
        return np.asarray(value.numpy())
    if kind == ir.AttributeType.TENSORS:
        return [np.asarray(t.numpy()) for t in value]
    if kind == ir.AttributeType.FLOAT:  # a file stores a float32, whatever made the attribute
        return float(np.float32(value))
    if kind == ir.AttributeType.FLOATS:
        return [float(np.float32(v)) for v in value]
    if kind == ir.AttributeType.INT:
        return int(value)
    if kind == ir.AttributeType.INTS:
        return [int(v) for v in value]
    if kind == ir.AttributeType.STRING:
        return str(value)
    if kind == ir.AttributeType.STRINGS:
        return [str(v) for v in value]
    raise UnsupportedModelError(
        f"attribute '{attribute.name}' has the unsupported kind {kind.name}",
        "only dense tensors are supported",
    )


def _initializer(value: ir.Value) -> Initializer:
    tensor = value.const_value
    if tensor is None:
        raise ModelError(f"initializer '{value.name}' has no value", "the file is damaged: export it again")
    return Initializer(value.name, np.dtype(tensor.dtype.numpy()), tuple(tensor.shape.numpy()), tensor)


UNDECLARED = ValueType(np.dtype("V"), None)
"""The type of an input or output of a branch that does not declare it: the graph around the branch does."""


def _value_type(value: ir.Value, inner: bool) -> ValueType:
    if value.type is None and inner:
        return UNDECLARED
    if value.type is None or not isinstance(value.type, ir.TensorType):
        kind = "an undeclared type" if value.type is None else type(value.type).__name__
        raise UnsupportedModelError(
            f"'{value.name}' has {kind}: inputs and outputs must be dense tensors",
            "export the model with tensors at its border (no lists, no optional values)",
        )
    if value.shape is None:
        return ValueType(np.dtype(value.dtype.numpy()), None)
    shape = tuple(d if isinstance(d, int) else d.value for d in value.shape)
    return ValueType(np.dtype(value.dtype.numpy()), shape)


def _hashable(value: Attribute) -> Any:
    if isinstance(value, np.ndarray):
        content = tuple(value.flat) if value.dtype == object else value.tobytes()
        return ("array", value.dtype.str, value.shape, content)
    if isinstance(value, list):
        return ("list", *(_hashable(v) for v in value))
    if isinstance(value, Graph):
        return ("graph", id(value))
    return (type(value).__name__, value)
