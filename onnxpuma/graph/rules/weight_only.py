"""Expressions of weights alone are computed by the model's owner, whatever the exporter left of them.

Integers cast and scaled, four bits taken out of a byte, a lookup in a codebook, a sign or a mask selected for
each weight: the result of a node that reads constants alone, one of them a weight, becomes one weight,
computed when it is read. The integers disappear from the graph: no server sees them, and no kernel computes
on them.

A node that only moves the elements of a float weight stays: it costs nothing on shares, and a weight that is
read in two layouts is stored once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.infer import infer_node
from onnxpuma.graph.marks import is_marked, mark
from onnxpuma.graph.model import Graph, Initializer, Node, ValueType, to_graph
from onnxpuma.graph.rules.hoisted import hoist
from onnxpuma.graph.rules.table_rows import lift
from onnxpuma.graph.run import run_node
from onnxpuma.graph.visibility import classify, secrets_of

TITLE = "computed from weights alone"
LARGEST_GROWTH = 16  # elements that one element of the weights may expand to
_SMALL = 1 << 16  # elements that any expression may have
_LEAST_MOVED = 8192  # elements: a smaller weight that is moved is stored as it is read
_COMPUTED = "onnxpuma.computed"  # marks a weight that was an expression
_MOVES = ("Expand", "Slice", "Split")  # besides layout
Classify = Callable[[Graph], Collection[str]]  # names of the initializers that are secret


def by_rule(graph: Graph) -> list[str]:
    """The weights of a graph whose owner gives no patterns."""
    return secrets_of(classify(graph))


def fold(model: ir.Model, secret: Classify) -> dict[str, int]:
    """Replace such expressions in place by weights; return title -> how many there are now.

    secret: which of a graph's initializers are weights; it is asked about those that such expressions read.
    An expression stays where its shape depends on a weight's values, or where it is more than 16 times as
    large as the weights that it is computed from: it would have to be stored. Reads no weight.
    """
    hoist(model, secret)
    lift(model, secret)
    graph = to_graph(model)
    found = _Expressions(graph)
    sources = found.sources()
    asked = Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, sources, graph.opset, graph.domains)
    marks = {name for name in sources if is_marked(model.graph.initializers[name])}
    found.taint({*secret(asked), *marks})
    values = {v.name: v for node in model.graph for v in node.outputs}
    wanted = found.wanted()
    for name in wanted:
        _replace(model, values[name], found.reader(name), found.types[name])
    if wanted:
        passes.RemoveUnusedNodesPass()(model)
    for name in found.secrets:
        if name in model.graph.initializers:
            mark(model.graph.initializers[name])
    count = sum(bool(value.meta.get(_COMPUTED)) for value in model.graph.initializers.values())
    return {TITLE: count} if count else {}


def marked(model: ir.Model) -> list[str]:
    """The names of these weights."""
    return [str(value.name) for value in model.graph.initializers.values() if is_marked(value)]


@dataclass
class _Expressions:
    """The nodes of a graph that read constants alone, and the known facts about their values."""

    graph: Graph
    types: dict[str, ValueType] = field(default_factory=dict)
    makers: dict[str, Node] = field(default_factory=dict)  # value -> the node that computes it from constants
    secrets: set[str] = field(default_factory=set)
    weights: dict[str, int] = field(default_factory=dict)  # value -> elements of the weights behind it

    def __post_init__(self) -> None:
        self.constants: dict[str, Initializer] = self.graph.initializers
        for name, initializer in self.constants.items():
            self.types[name] = ValueType(initializer.dtype, initializer.shape)
        known = set(self.constants)
        for node in self.graph.nodes:
            read = _read(node)
            if read and not node.traits.random and all(name in known for name in read):
                self.makers.update((output, node) for output in node.outputs if output)
                known.update(output for output in node.outputs if output)

    def sources(self) -> dict[str, Initializer]:
        """The constants that these nodes read."""
        read = dict.fromkeys(name for node in self._nodes() for name in _read(node))
        return {name: self.constants[name] for name in read if name in self.constants}

    def _nodes(self) -> list[Node]:
        return [node for node in self.graph.nodes if any(self.makers.get(o) is node for o in node.outputs)]

    def taint(self, secret: Collection[str]) -> None:
        """Find the nodes that compute on weights, and drop those that cannot be computed beforehand."""
        self.secrets = set(secret)
        self.weights = {name: self.constants[name].size for name in secret}
        for node in self._nodes():
            read = _read(node)
            of_shape = node.traits.of_shape
            hidden = [name for name in read if name in self.secrets and not of_shape]
            if all(name in self.types for name in read) and self._typed(node, hidden):
                if hidden:
                    self.secrets.update(o for o in node.outputs if o)
                continue
            for output in node.outputs:
                self.makers.pop(output, None)

    def _typed(self, node: Node, hidden: Collection[str]) -> bool:
        """Note the types of the node's outputs; False where they depend on secrets, or are too large."""
        types = [None if n is None else self.types[n] for n in node.inputs]
        values = [None if n is None or n in hidden else self._small(n) for n in node.inputs]
        try:
            made = infer_node(node, types, values, self.graph.opset)
        except OnnxpumaError:
            return False
        size = sum(_size(kind) for kind, name in zip(made, node.outputs, strict=True) if name)
        weights = sum(self.weights.get(name, 0) for name in hidden)
        if hidden and size > max(_SMALL, LARGEST_GROWTH * weights):
            return False
        for kind, name in zip(made, node.outputs, strict=True):
            if name:
                self.types[name] = kind
                self.weights[name] = weights
        return True

    def _small(self, name: str) -> np.ndarray | None:
        """A public value that a shape may depend on."""
        return self._value(name, {}) if _size(self.types[name]) <= 4096 else None

    def wanted(self) -> dict[str, None]:
        """The values to be computed: secret, and read by a node that stays, or by the model's caller."""
        staying = [node for node in self.graph.nodes if not self._goes(node)]
        read = [*self.graph.outputs, *(name for node in staying for name in _read(node))]
        found: dict[str, None] = {}
        todo = [name for name in dict.fromkeys(read) if name in self.makers and name in self.secrets]
        while todo:
            name = todo.pop(0)
            node = self.makers[name]
            if not self._only_moves(node):
                found[name] = None
                continue
            source = str(node.inputs[0])  # the node stays, and its input is computed
            if source in self.makers and source not in todo:
                todo.append(source)
        return found

    def _goes(self, node: Node) -> bool:
        return any(o in self.secrets and o in self.makers for o in node.outputs)

    def _only_moves(self, node: Node) -> bool:
        first, *others = (name for name in node.inputs if name)
        return (
            (node.traits.layout or node.op in _MOVES)
            and not node.domain
            and self.types[first].dtype.kind == "f"
            and (_size(self.types[first]) > _LEAST_MOVED or node.op == "Identity")
            and not any(name in self.secrets for name in others)
        )

    def reader(self, name: str) -> Callable[[], np.ndarray]:
        """A function that computes the value, each time from the files of the weights."""
        return lambda: self._value(name, {})

    def _value(self, name: str, made: dict[str, np.ndarray]) -> np.ndarray:
        if name in made:
            return made[name]
        if name in self.constants:
            values = np.array(self.constants[name].numpy())
            self.constants[name].release()
            return values
        node = self.makers[name]
        inputs = [None if n is None else self._value(n, made) for n in node.inputs]
        outer = {n: self._value(n, made) for g in node.subgraphs for n in g.captured()}
        results = run_node(node, inputs, self.graph.opset, outer)
        made.update((o, np.asarray(r)) for o, r in zip(node.outputs, results, strict=True) if o)
        return made[name]


def _read(node: Node) -> list[str]:
    """Everything that a node reads, including in its branches."""
    inner = (name for graph in node.subgraphs for name in graph.captured())
    return [name for name in (*node.inputs, *inner) if name]


def _size(kind: ValueType) -> int:
    return int(np.prod([int(d) for d in kind.shape or () if d is not None], dtype=np.int64))


def _replace(model: ir.Model, value: ir.Value, read: Callable[[], np.ndarray], kind: ValueType) -> None:
    """Make a node's output an initializer of the same name that `read` computes."""
    shape = tuple(int(d) for d in kind.shape or () if d is not None)
    element = ir.DataType.from_numpy(kind.dtype)

    def tensor() -> ir.TensorProtocol:
        values = np.ascontiguousarray(read(), dtype=kind.dtype).reshape(shape)
        return ir.Tensor(values, dtype=element)

    made = ir.LazyTensor(tensor, dtype=element, shape=ir.Shape(shape), name=value.name)
    new = ir.Value(name=value.name, shape=made.shape, type=ir.TensorType(element), const_value=made)
    node, graph = value.producer(), model.graph
    assert node is not None
    value.name = f"{value.name}/before"
    for reader, slot in list(value.uses()):
        reader.replace_input_with(slot, new)
    if value.is_graph_output():  # a graph may not return an initializer directly
        moved = ir.node("Identity", [new])
        graph.insert_after(node, moved)
        moved.outputs[0].name, new.name = new.name, f"{new.name}/weight"
        moved.outputs[0].type, moved.outputs[0].shape = new.type, new.shape
        graph.outputs[:] = [moved.outputs[0] if v is value else v for v in graph.outputs]
    mark(new)
    new.meta[_COMPUTED] = True
    graph.register_initializer(new)
