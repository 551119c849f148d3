"""What the walk knows: of a value, of who reads it, and of a node that cannot run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxpuma.graph.model import Initializer, Node, ValueType
from onnxpuma.ops.bounds import UNKNOWN, Bound
from onnxpuma.ops.registry import Operand, Result, altered, find, operators, resting_fraction

_FEW = 16


@dataclass(frozen=True)
class Known:
    """What is known of a value while planning: one of public (value), client's, or secret (operand)."""

    type: ValueType
    value: np.ndarray | None = None
    client: bool = False
    operand: Operand | None = None
    constant: bool = True  # independent of the request
    bound: Bound = UNKNOWN  # of a client's

    def stand_in(self) -> np.ndarray:
        """An array of this type and shape: the value where it is public."""
        if self.value is not None:
            return self.value
        return np.zeros([int(d) for d in self.type.shape or () if d is not None], self.type.dtype)


@dataclass(frozen=True)
class Refusal:
    """A node that cannot run, and why."""

    node: str
    operator: str
    opset: int
    reason: str
    sizes: bool = False  # it would run at others

    def __str__(self) -> str:
        return f"{self.node} ({self.operator}, opset {self.opset}): {self.reason}"


def no_kernel(node: Node) -> str:
    near = (
        ", ".join(sorted(n for n in operators() if n[:3].lower() == node.op[:3].lower()))
        or "see docs/operators.md"
    )
    return f"there is no secure kernel for {node.op} (supported and near: {near})"


def way_out(
    node: Node, weights: Mapping[str, Initializer], nodes: Iterable[Node] = (), sizes: bool = False
) -> str:
    """What its owner may do about a node that takes no secret where it has one of these; "" where the node
    has none but in the first place, which is what operators compute on, and follows from none by way of the
    others in `nodes`, or from more than integers and few numbers. sizes: it would run at other sizes, so
    that a weight it computes with is not in its way."""
    if find(node) is None and not node.traits.control:
        return "" if sizes else _way_behind(node, weights, nodes)
    named = [
        f"'{name}'"
        for place, name in enumerate(node.inputs)
        if name and name in weights and ((place and not sizes) or weights[name].dtype.kind != "f")
    ]
    if not named:
        return "" if sizes else _way_behind(node, weights, nodes)
    if len(named) == 1:
        return f"; its input {named[0]} is a secret constant: --public shows it, if everybody may see it"
    return f"; {' and '.join(named)} are secret constants: --public shows them, if everybody may see them"


def _way_behind(node: Node, weights: Mapping[str, Initializer], nodes: Iterable[Node]) -> str:
    makers = {output: maker for maker in nodes for output in maker.outputs}
    computes_on = node.inputs[0] if find(node) is not None else None
    todo = [name for name in node.inputs if name and not (name == computes_on and name in weights)]
    found: dict[str, None] = {}
    for name in todo:
        if name in weights:
            if weights[name].dtype.kind == "f" and weights[name].size > _FEW:
                return ""
            found[name] = None
        elif name in makers and not makers[name].traits.of_shape:
            todo += [n for n in makers[name].inputs if n and n not in todo]
    if not found:
        return ""
    named = " and ".join(f"'{name}'" for name in found)
    which = "a secret constant" if len(found) == 1 else "secret constants"
    return f"; it follows from {named}, {which}: --public shows {'it' if len(found) == 1 else 'them'}"


def draft_operand(name: str, kind: ValueType) -> Operand:
    shape = tuple(int(d) for d in kind.shape or ())  # type: ignore[arg-type]
    return Operand(name, shape, kind.dtype, fraction=resting_fraction(kind.dtype))


def expected(values: Mapping[str, Known], name: str | None) -> Operand | None:
    """An input of a node that is planned later; one not known yet is secret, as far as can be told."""
    if name is None:
        return None
    known = values.get(name)
    if known is None:
        return Operand(name, (), np.dtype(np.float32))
    if known.operand is not None:
        return known.operand
    return Operand(name, tuple(known.type.shape or ()), known.type.dtype, known.value)  # type: ignore[arg-type]


def needed(nodes: Sequence[Node], outputs: Iterable[str], shapes: bool = True) -> list[Node]:
    """The nodes that these outputs need, in the graph's order.

    shapes: those as well that are needed for the shape of what they yield alone, and so never run.
    """
    wanted = set(outputs)
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            found.append(node)
            if node.traits.of_shape and not shapes:
                continue
            wanted.update(name for name in node.inputs if name)
            wanted.update(name for graph in node.subgraphs for name in graph.captured())
    return found[::-1]


def left_in(outputs: Sequence[Operand], result: Result) -> list[Operand]:
    """The outputs in the form in which a kernel leaves them; places beside reals are whole words."""
    reals = [o.dtype.kind == "f" for o in outputs]
    return [
        altered(o, form=result.form, fraction=result.fraction) if real or not reals[0] else o
        for o, real in zip(outputs, reals, strict=True)
    ]


class Reads(dict[str, "list[tuple[Node, int] | None]"]):
    """Who reads the words of each value; None stands for the model's caller or a subgraph. far: what has been
    found of some (masks.far_enough)."""

    def __init__(self) -> None:
        super().__init__()
        self.far: dict[str, float] = {}


def uses_of(nodes: Iterable[Node], outputs: Iterable[str]) -> Reads:
    """The readers of all values."""
    uses = Reads()
    for node in nodes:
        if node.traits.of_shape:
            continue
        for place, name in enumerate(node.inputs):
            if name:
                uses.setdefault(name, []).append((node, place))
        for graph in node.subgraphs:
            for name in graph.captured():
                uses.setdefault(name, []).append(None)
    for name in outputs:
        uses.setdefault(name, []).append(None)
    return uses


def given_types(values: Mapping[str, Known], node: Node) -> list[ValueType | None]:
    """The types of what a node reads; None where it reads nothing."""
    return [None if name is None else values[name].type for name in node.inputs]
