"""How a graph uses its weights: which values are computed from weights alone, and which facts matter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from onnxpuma.graph.by_rows import Rows, rows_and_columns
from onnxpuma.graph.model import Graph, Node
from onnxpuma.graph.run import run_node

_WIDEST = 1 << 14  # columns; a wider matrix belongs to a vocabulary, and has no heads
_COUNTS = ("q_num_heads", "kv_num_heads", "num_heads")  # attributes
_CUTS = ("Reshape", "Transpose", "Attention", "RotaryEmbedding")
_ON = ("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Split", "Slice", "Cast", "Identity", "Concat")
_HEADS = range(8, 513)  # elements of a head
_MOST_HEADS = 3  # sizes of heads that are tried
_MADE = 1 << 28  # elements; a larger array computed from weights is not measured


class Uses:
    """The roles of every weight, and of every value computed from weights and public constants alone."""

    def __init__(self, graph: Graph, secret: Collection[str], public_inputs: Collection[str]) -> None:
        self._graph = graph
        self._makers: dict[str, Node] = {}
        constant = set(graph.initializers) - set(public_inputs)
        weights = set(secret)
        self.roles: dict[str, set[str]] = {name: set() for name in secret}
        for node in graph.nodes:
            named = [name for name in node.inputs if name]
            made = bool(named) and all(n in constant for n in named) and not node.subgraphs
            if made and any(n in weights for n in named):
                constant.update(node.outputs)
                weights.update(o for o in node.outputs if o)
                self._makers.update((o, node) for o in node.outputs if o)
            for reader, slot, name in _reads([node]):
                if name in weights:
                    self.roles.setdefault(name, set()).add(_role(reader, slot))
        self.heads = _heads(graph)
        readers: dict[str, list[Node]] = {}
        for reader, _, name in _reads(graph.nodes):
            readers.setdefault(name, []).append(reader)
        self.split = {
            name
            for name in self.roles
            if any(_falls_into_heads(node, readers) for node in readers.get(name, []))
        }

    def widths(self, name: str) -> Callable[[int], list[int]]:
        """Number of elements in a row computed from this value -> the sizes that heads in it may have."""
        return lambda width: head_sizes(width, self.heads) if name in self.split else []

    def stored(self, name: str) -> tuple[str, bool]:
        """The value that this one only names, or turns: a matrix with rows and columns exchanged."""
        turned, place = [], name
        while place in self._makers:
            node = self._makers[place]
            if node.domain or node.inputs[0] is None or node.op not in ("Identity", "Transpose"):
                break
            if node.op == "Transpose":
                turned.append(node.attribute("perm") or [1, 0])
            place = node.inputs[0]
        initializer = self._graph.initializers.get(place)
        matrix = initializer is not None and len(initializer.shape) == 2
        if initializer is None or (turned and not matrix):
            return name, False
        return place, turned.count([1, 0]) % 2 == 1

    def open(self, name: str) -> tuple[Rows, tuple[int, ...], str] | None:
        """A function that reads a value by rows, its shape, the kind of its numbers; None as `value`."""
        initializer = self._graph.initializers.get(name)
        if initializer is not None:
            kind = initializer.dtype.kind
            return (initializer.rows(), initializer.shape, kind) if initializer.available else None
        values = self.value(name)
        if values is None:
            return None
        whole = values.reshape(rows_and_columns(values.shape))
        return lambda start, stop: whole[start:stop], values.shape, values.dtype.kind

    def value(self, name: str) -> np.ndarray | None:
        """The array, computed again if it depends on others; None if it is too large or not available."""
        initializer = self._graph.initializers.get(name)
        if initializer is not None:
            return initializer.numpy() if initializer.available else None
        node = self._makers[name]
        inputs = [None if n is None else self.value(n) for n in node.inputs]
        absent = any(v is None and n is not None for v, n in zip(inputs, node.inputs, strict=True))
        if absent or sum(v.size for v in inputs if v is not None) > _MADE:
            return None
        made = run_node(node, inputs, self._graph.opset)
        return np.asarray(made[node.outputs.index(name)])


def _reads(nodes: Iterable[Node]) -> Iterator[tuple[Node, int, str]]:
    """(node, place, name) of every input, including those inside branches and loops."""
    for node in nodes:
        for slot, name in enumerate(node.inputs):
            if name:
                yield node, slot, name
        for inner in node.subgraphs:
            yield from _reads(inner.nodes)


def _role(node: Node, slot: int) -> str:
    """Which facts a reader needs: x @ W needs those of the columns, x @ W' those of the rows."""
    if node.domain:
        return "numbers"
    if node.op == "MatMul" and slot == 1:
        return "columns"
    if node.op == "MatMul" or (node.op == "Gemm" and slot == 1 and node.attribute("transB")):
        return "rows"
    if node.op == "Gemm" and slot < 2:
        return "columns"
    return "filters" if node.op == "Conv" and slot == 1 else "numbers"


def _falls_into_heads(node: Node, readers: Mapping[str, Sequence[Node]], depth: int = 5) -> bool:
    """Whether a result of a node may be cut into heads within the next few nodes."""
    if not depth:
        return False
    for reader in (r for output in node.outputs for r in readers.get(output, [])):
        if reader.op in _CUTS or (reader.op in _ON and _falls_into_heads(reader, readers, depth - 1)):
            return True
    return False


def _heads(graph: Graph) -> tuple[set[int], set[int]]:
    """(sizes, numbers) of heads that the graph names: last extents of shapes, and attributes."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    sizes: set[int] = set()
    counts: set[int] = set()
    for node in graph.nodes:
        given = (value for key, value in node.attributes.items() if key in _COUNTS)
        counts.update(value for value in given if isinstance(value, int) and value > 1)
        name = node.inputs[1] if node.op == "Reshape" else None
        while name in makers and makers[name].op in ("Concat", "Cast", "Unsqueeze", "Identity"):
            name = makers[name].inputs[-1 if makers[name].op == "Concat" else 0]
        shape = graph.initializers.get(name or "")
        if shape is not None and shape.available and shape.dtype.kind == "i" and 0 < shape.size < 16:
            extent = int(shape.numpy().reshape(-1)[-1])
            sizes.update([extent] if extent in _HEADS else [])
    return sizes, counts


def head_sizes(width: int, heads: tuple[set[int], set[int]]) -> list[int]:
    """The sizes that heads may have in a row of this many elements: a row of queries alone, of keys and
    values side by side, or of all three.
    """
    if width > _WIDEST:
        return []
    sizes, counts = heads
    parts = {width // (count * times) for count in counts for times in (1, 3) if width % (count * times) == 0}
    fitting = sorted(b for b in {*sizes, *parts} if b in _HEADS and b < width and width % b == 0)
    return fitting[-_MOST_HEADS:]
