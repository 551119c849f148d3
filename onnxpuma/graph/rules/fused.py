"""onnxruntime's own operators (domain com.microsoft) become standard ones: the walk over the graph.

A function in a family's file (`fused_norm`, `fused_attention`, ...) converts each operator. It gets a writer
for the new nodes and the old node, and returns a value for each output, or says why it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

import onnxpuma.graph.rules.fused_attributes  # noqa: F401  (declares the attributes)
from onnxpuma.graph.dialect import DOMAIN
from onnxpuma.standard.signature import default_of


class NotConvertedError(Exception):
    """The reason why an operator has no standard form here; without a reason, it is none of these
    operators."""


class Writer:
    """Writes standard nodes: `w.Add(a, b)` is the sum; `_outputs=3` gives a tuple of three."""

    def __init__(self, model: ir.Model, made: dict[Any, ir.Value]) -> None:
        self.model = model
        self.nodes: list[ir.Node] = []
        self._made = made

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if not op[:1].isupper():
            raise AttributeError(op)

        def write(*inputs: ir.Value | None, _outputs: int = 1, **attributes: Any) -> Any:
            given = {n: a for n, a in attributes.items() if a is not None}
            node = ir.node(op, list(inputs), given, num_outputs=_outputs)
            self.nodes.append(node)
            return node.outputs[0] if _outputs == 1 else node.outputs

        return write

    def ints(self, *numbers: int) -> ir.Value:
        """A constant vector of integers."""
        return self.constant(np.array(numbers, np.int64))

    def constant(self, array: Any) -> ir.Value:
        value: ir.Value = self.Constant(value=ir.tensor(np.asarray(array)))
        return value

    def number(self, x: ir.Value, axis: int) -> ir.Value:
        """Dimension `axis` of `x`, as a vector of one integer."""
        value: ir.Value = self.Shape(x, start=axis, end=axis + 1)
        return value

    def count(self, length: ir.Value) -> ir.Value:
        """0, 1, ... up to the vector of one integer `length`, as a vector."""
        value: ir.Value = self.Range(
            self.constant(np.int64(0)), self.Squeeze(length), self.constant(np.int64(1))
        )
        return value

    def weight(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """A new initializer; its values are read when asked for."""
        graph, free = self.model.graph, name
        while free in graph.initializers:
            free += "_"
        shape = ir.Shape([int(d) for d in tensor.shape.numpy()])
        value = ir.Value(name=free, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        graph.register_initializer(value)
        return value

    def shared(self, key: Any, make: Callable[[], ir.Value]) -> ir.Value:
        """The value that `make` made for this key the first time, for any node."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class Old:
    """The node to convert: inputs and attributes with their defaults, and which outputs are read."""

    def __init__(self, node: ir.Node) -> None:
        self.node = node

    def __getitem__(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def given(self, index: int) -> ir.Value:
        value = self[index]
        if value is None:
            raise NotConvertedError(f"its input {index} is missing")
        return value

    def attribute(self, name: str) -> Any:
        """An attribute as given, else its default (fused_attributes.py, or the standard's schema)."""
        given = self.node.attributes.get(name)
        default = default_of(self.node.op_type, name, domain=self.node.domain)
        return default if given is None else given.value

    def wants(self, index: int) -> bool:
        if index >= len(self.node.outputs):
            return False
        output = self.node.outputs[index]
        return bool(output.uses()) or output.is_graph_output()

    def refuse_outputs(self, *indices: int) -> None:
        for index in indices:
            if self.wants(index):
                raise NotConvertedError(f"its output {index} is read")

    def refuse_inputs(self, **indices: int) -> None:
        for name, index in indices.items():
            if self[index] is not None:
                raise NotConvertedError(f"its input {name} is not supported")


Conversion = Callable[[Writer, Old], Sequence["ir.Value | None"]]


def convert(
    model: ir.Model,
    conversions: Mapping[tuple[str, str], Conversion],
    infer: Callable[[ir.Model], None],
) -> tuple[dict[str, int], dict[str, str]]:
    """Replace every node that has a conversion; return (operator -> count, node -> why it stayed).

    `conversions` is by domain and operator. `infer` fills in shapes; it runs again as long as that lets
    another node be converted. Cost: one sweep where all the shapes are known.
    """
    counts: dict[str, int] = {}
    made: dict[Any, ir.Value] = {}
    while True:
        missed: dict[str, str] = {}
        done = 0
        for graph, node in [(g, n) for g in model.graphs() for n in g]:
            conversion = conversions.get((node.domain, node.op_type), _unknown)
            if conversion is _unknown and node.domain != DOMAIN:
                continue
            writer = Writer(model, made)
            try:
                results = conversion(writer, Old(node))
            except NotConvertedError as reason:
                if str(reason):
                    missed[str(node.name)] = str(reason)
                continue
            put(graph, node, writer, results)
            operator = f"{node.domain} {node.op_type}".strip()
            counts[operator] = counts.get(operator, 0) + 1
            done += 1
        if not done or not missed:
            return counts, missed
        infer(model)


def _unknown(w: Writer, old: Old) -> Sequence[ir.Value | None]:
    raise NotConvertedError(f"{old.node.op_type} of {DOMAIN} has no standard form")


def put(graph: ir.Graph, node: ir.Node, writer: Writer, results: Sequence[ir.Value | None]) -> None:
    """Replace a node by the written ones."""
    for number, new in enumerate(writer.nodes):
        new.name = f"{node.name}/{new.op_type}_{number}"
    old_values, new_values = [], []
    for old, result in zip(node.outputs, results, strict=False):
        if result is None or not (old.uses() or old.is_graph_output()):
            continue
        if result.producer() not in writer.nodes or result in new_values:
            result = writer.Identity(result)
        old_values.append(old)
        new_values.append(result)
    ir.convenience.replace_nodes_and_values(graph, node, [node], writer.nodes, old_values, new_values)
