"""Where a constant is used: to decide a shape or an index, as a trained parameter, or to compute with.

What decides only shapes, axes, indices, sizes or which branch is taken is structure. It may be computed on
its way there, as long as no data comes in: a threshold that data are compared with is no structure, wherever
the outcome goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Literal

from onnxpuma.graph.model import Graph, Node

Use = tuple[Node, int]
Uses = dict[str, list[Use]]
Decides = Literal["shape", "index"]

_SHAPES: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "Attention": (6,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Dropout": (2,),
    "Expand": (1,),
    "GRU": (4,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "If": (0,),
    "LSTM": (4,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "NonMaxSuppression": (2,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "RNN": (4,),
    "Resize": (1, 2, 3),
    "ReverseSequence": (1,),
    "STFT": (1, 3),
    "SequenceAt": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    "Reshape": (1,),
} | dict.fromkeys(
    (
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
    ),
    (1,),
)
_INDICES: dict[str, tuple[int, ...]] = {
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "MaxUnpool": (1,),
    "OneHot": (0,),
    "RotaryEmbedding": (3,),
    "Scatter": (1,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "TensorScatter": (2,),
}
# Where an operator expects what is trained: there even a round number is a weight.
_TRAINED: dict[str, tuple[int, ...]] = {
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1, 2, 3),
    "Gemm": (0, 1, 2),
    "Conv": (1, 2),
    "ConvInteger": (1, 3),
    "ConvTranspose": (1, 2),
    "DeformConv": (1, 3),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "RMSNormalization": (1,),
    "BatchNormalization": (1, 2, 3, 4),
    "PRelu": (1,),
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (0, 1, 2),
    "QLinearMatMul": (0, 1, 2, 3, 4, 5, 6, 7),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
}
_LINEAR = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_LAYOUT = ("Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Flatten")
# What computes on shapes and indices; a value goes from these inputs (None: from all) into every output.
_CARRIERS: dict[str, tuple[int, ...] | None] = dict.fromkeys(
    (
        *("Abs", "Add", "And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr"),
        *("BitwiseXor", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Div", "Equal", "Exp", "Floor"),
        *("Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul"),
        *("Neg", "NonZero", "Not", "Or", "Pow", "Range", "Round", "Sign", "Sqrt", "Sub", "Sum", "Transpose"),
        *("Flatten", "Where", "Xor"),
    )
) | {
    "CumSum": (0,),
    "Expand": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Pad": (0, 2),
    "ReduceMax": (0,),
    "ReduceMin": (0,),
    "ReduceProd": (0,),
    "ReduceSum": (0,),
    "Reshape": (0,),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Trilu": (0,),
    "Unsqueeze": (0,),
}
_BLIND = ("Shape", "Size")
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_TOWARDS_ANGLES = (
    *("Mul", "MatMul", "Einsum", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Transpose", "Concat"),
    *("Gather", "Slice"),
)


def inner_nodes(nodes: Collection[Node]) -> Iterator[Node]:
    """All nodes, those of branches and bodies after the one that they belong to."""
    for node in nodes:
        yield node
        for graph in node.subgraphs:
            yield from inner_nodes(graph.nodes)


class Slots:
    """Who reads each value of a graph, and what follows from data: from an input, or from the initializers
    named `data`."""

    def __init__(self, graph: Graph, data: Collection[str]) -> None:
        self.uses: Uses = defaultdict(list)
        self._open: set[str] = set(graph.outputs)  # or to a body: what becomes of it is open
        self._chosen: dict[str, list[Use]] = defaultdict(list)  # by a branch: which If, and its output
        self._producers: dict[str, Node] = {}
        reals = [n for n, kind in graph.inputs.items() if kind.dtype.kind not in "iub"]
        self._data = self._following(graph, {*graph.inputs, *data})
        self._reals = self._following(graph, {*reals, *data})
        for node in inner_nodes(graph.nodes):
            for slot, name in enumerate(node.inputs):
                if name:
                    self.uses[name].append((node, slot))
            for body in node.subgraphs:
                self._hands_on(node, body)
        for node in graph.nodes:
            self._producers.update((output, node) for output in node.outputs)

    @staticmethod
    def _following(graph: Graph, known: set[str]) -> set[str]:
        """These values, and all that is computed from one of them; its shape alone does not count."""
        for node in graph.nodes:
            read = [n for n in (*node.inputs, *(c for g in node.subgraphs for c in g.captured())) if n]
            if not (node.op in _BLIND and not node.domain) and not known.isdisjoint(read):
                known.update(o for o in node.outputs if o)
        return known

    def _hands_on(self, node: Node, body: Graph) -> None:
        """Note what a branch or body of a node gives to it."""
        if node.op == "If" and not node.domain:
            for place, name in enumerate(body.outputs):
                self._chosen[name].append((node, place))
        else:
            self._open.update(body.outputs)

    def _is_given(self, name: str) -> bool:
        """Whether it goes out of its graph."""
        return name in self._open or name in self._chosen

    def decides(self, name: str) -> Decides | None:
        """What a value decides, if that is all that it does; an index where it decides both."""
        todo, seen, found = [name], {name}, set()
        while todo:
            value = todo.pop()
            used, chosen = self.uses.get(value, ()), self._chosen.get(value, ())
            if value in self._open or not (used or chosen):
                return None
            for node, place in chosen:
                output = node.outputs[place]
                if output in self._data:
                    return None
                if output and output not in seen:
                    todo.append(output)
                    seen.add(output)
            for node, slot in used:
                if node.op in _BLIND and not node.domain:
                    continue
                kind = None if node.domain else decided(node.op, slot)
                if kind is not None:
                    found.add(kind)
                    continue
                if not self._carries(node, slot):
                    return None
                todo += [o for o in node.outputs if o and o not in seen]
                seen.update(node.outputs)
        return "index" if "index" in found else "shape" if found else None

    def _carries(self, node: Node, slot: int) -> bool:
        """Whether a node computes on shapes and indices alone, and hands on what it is given here."""
        places = _CARRIERS.get(node.op, ())
        inside = places is None or slot in places
        return inside and not node.domain and self._data.isdisjoint(node.outputs)

    def is_trained(self, name: str, shaped: bool) -> bool:
        """Whether it stands where a parameter does; shaped: it has axes, as a bias behind a product has."""
        return any(self._is_trained_slot(node, slot, shaped) for node, slot in self.uses.get(name, ()))

    def _is_trained_slot(self, node: Node, slot: int, shaped: bool) -> bool:
        if node.domain:
            return False
        if expects_trained(node.op, slot):
            return True
        if node.op != "Add" or not shaped:
            return False
        other = self._producers.get(node.inputs[1 - slot] or "")
        while other is not None and other.op in _LAYOUT and not other.domain:
            other = self._producers.get(other.inputs[0] or "")
        return other is not None and other.op in _LINEAR

    def multiplies_data(self, name: str) -> bool:
        """Whether a product, or another operator that expects a parameter there, takes it to real data; but
        for those of which an angle is made."""
        beside = (
            other
            for node, slot in self.uses.get(name, ())
            if self._is_trained_slot(node, slot, False)
            for other in node.inputs
        )
        return any(other in self._reals and other != name for other in beside) and not self.becomes_angle(
            name
        )

    def only_in(self, name: str, places: Collection[tuple[str, int]]) -> bool:
        """Whether it is read in these places, (operator, input), and in no other."""
        used = self.uses.get(name, ())
        return bool(used) and not self._is_given(name) and all((n.op, slot) in places for n, slot in used)

    def is_compared(self, name: str) -> bool:
        """Whether it is compared for its value, by each of its readers."""
        used = self.uses.get(name, ())
        return bool(used) and not self._is_given(name) and all(n.op in _COMPARISONS for n, _ in used)

    def becomes_angle(self, name: str) -> bool:
        """Whether all that is computed from it, by products with positions and layout alone, ends in Cos or
        Sin."""
        todo, seen, ended = [name], {name}, False
        while todo:
            value = todo.pop()
            if self._is_given(value) or not self.uses.get(value):
                return False
            for node, _ in self.uses[value]:
                if node.op in ("Cos", "Sin"):
                    ended = True
                elif node.op in _BLIND:
                    continue
                elif node.op in _TOWARDS_ANGLES and not self._reads_reals(node, seen):
                    todo += [o for o in node.outputs if o not in seen]
                    seen.update(node.outputs)
                else:
                    return False
        return ended

    def _reads_reals(self, node: Node, beside: Collection[str]) -> bool:
        return any(n in self._reals and n not in beside for n in node.inputs if n)


def decided(op: str, slot: int) -> Decides | None:
    """What this input of an operator of the standard decides, if it decides anything."""
    if slot in _SHAPES.get(op, ()):
        return "shape"
    return "index" if slot in _INDICES.get(op, ()) else None


def expects_trained(op: str, slot: int) -> bool:
    """Whether this input of an operator of the standard is for what is trained."""
    return slot in _TRAINED.get(op, ())
