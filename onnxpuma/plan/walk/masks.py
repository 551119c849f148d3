"""Masks in a plan: public numbers beside a value, and how far out a secret mask must reach.

A number that a secret condition chooses to mean "not this one", the lowest float for example, is in the words
of the value. Its readers decide how far out it must lie: a Softmax, which reads differences, needs less than
others do.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnxpuma.graph.model import Graph, Node, ValueType
from onnxpuma.mpc.format import Format
from onnxpuma.ops.beside import unheld
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.faint import faint_in
from onnxpuma.ops.reach import reach_of, unread
from onnxpuma.ops.registry import Call, Operand, Operator, altered, find
from onnxpuma.plan.bounds.beside_masks import scores_beside
from onnxpuma.plan.known.readers import Reader, Readers
from onnxpuma.plan.known.values import draft_operand
from onnxpuma.plan.plan import SecretInput
from onnxpuma.standard.mask_values import GIVEN, LARGEST, MASK

ReadersOf = Mapping[str, Sequence[Reader]]


def refusal(call: Call, operator: Operator) -> str | None:
    """Why an operator cannot run on these operands: by its own declaration, or because of masks in them."""
    return operator.refuse(call) or unheld(call, operator) or unread(call, operator)


def with_beside(call: Call, operator: Operator, outputs: Sequence[Operand]) -> tuple[Operand, ...]:
    """The outputs of a step with the numbers beside them, and how far out a secret mask may put them."""
    besides = operator.beside(call) if operator.beside is not None else [None] * len(outputs)
    reach, faint = vars(reach_of(call, operator)), faint_in(call, operator)
    return tuple(
        altered(o, beside=beside, faint=faint, **reach) if o.dtype.kind == "f" else altered(o, beside=beside)
        for o, beside in zip(outputs, besides, strict=True)
    )


def drafted(readers: ReadersOf, node: Node, types: Sequence[ValueType], reals: Format) -> tuple[Operand, ...]:
    """The outputs of a node before its kernel declares them: types, and the distance that readers need."""
    drafts = (draft_operand(name, kind, reals) for name, kind in zip(node.outputs, types, strict=True))
    return tuple(altered(o, enough=far_enough(readers, o.name)) if o.name else o for o in drafts)


def far_enough(readers: ReadersOf, name: str) -> float:
    """The distance from zero that makes a number of this value mean "not this one" to all its readers."""
    return _farthest(readers, name) or LARGEST


def _farthest(readers: ReadersOf, name: str) -> float:
    """The largest distance that a reader needs, of the value or a result of it; 0 without readers."""
    known = readers.far if isinstance(readers, Readers) else {}
    if name not in known:
        most = 0.0
        for reader in readers.get(name, ()):
            if reader is not None and _moves(reader[0]):
                most = max([most, *(_farthest(readers, output) for output in reader[0].outputs if output)])
            else:
                most = max(most, _wanted(reader))
        known[name] = most
    return known[name]


def _moves(node: Node) -> bool:
    """Whether a node passes numbers on to its own readers."""
    operator = find(node)
    return operator is not None and (_hands_on(node, operator) or node.op == "Neg")


def _hands_on(node: Node, operator: Operator) -> bool:
    """Whether a mask in an operand is also a mask in the result."""
    return operator.moves or node.traits.sums or node.traits.joins or node.op == "Cast"


def _wanted(reader: Reader) -> float:
    if reader is not None and _is_softmax(reader):
        return MASK
    return LARGEST / 2.0**17 if reader is not None and reader[0].op == "TopK" else LARGEST


def _is_softmax(reader: tuple[Node, int]) -> bool:
    node, place = reader
    return node.traits.scores == place


def _behind(readers: ReadersOf, name: str, seen: set[str]) -> Iterator[Reader]:
    """The readers of a value, and of sums, choices and rearrangements of it."""
    for reader in readers.get(name, ()):
        operator = None if reader is None else find(reader[0])
        moved = reader is not None and operator is not None and _hands_on(reader[0], operator)
        if reader is None or not moved:
            yield reader
            continue
        for output in reader[0].outputs:
            if output and output not in seen:
                seen.add(output)
                yield from _behind(readers, output, seen)


def given(
    readers: ReadersOf, graph: Graph, public: Collection[str], name: str, kind: ValueType, reals: Format
) -> tuple[SecretInput, Operand]:
    """A value that the client shares: the entry of the plan, and the operand of its first reader."""
    reach, operand = given_reach(readers, graph, public, name, kind.dtype), draft_operand(name, kind, reals)
    needs = (Need(0, "below", scores_beside(reach, 0.0)),) if reach else ()
    entry = SecretInput(name, operand.shape, kind.dtype, operand.format, reach=reach, needs=needs)
    return entry, altered(operand, down=reach, hollow=reach > 0, unit=kind.dtype.kind == "f")


def given_reach(
    readers: ReadersOf, graph: Graph, public: Collection[str], name: str, dtype: np.dtype[Any]
) -> float:
    """How far out a value that the client shares may lie; 0 where it is no mask.

    It is a mask where it is added to the scores of a softmax, or is the mask of an attention. Constants and
    public inputs are no scores, nor are values computed from booleans and integers alone.
    """
    if dtype.kind != "f":
        return 0.0
    softmaxes = [reader is not None and _is_softmax(reader) for reader in _behind(readers, name, set())]
    if not any(softmaxes) or not _joins_scores(readers, _no_scores(graph, public), name):
        return 0.0
    return MASK if all(softmaxes) else GIVEN


def _no_scores(graph: Graph, public: Collection[str]) -> set[str]:
    """Values that are no scores: results of constants, of public inputs, and of inputs other than reals."""
    constants = set(graph.initializers)
    found = {name for name, kind in graph.inputs.items() if kind.dtype.kind != "f"}
    found.update(public)
    for node in graph.nodes:
        reads = {name for name in node.inputs if name}
        if (
            0 not in node.traits.tables  # looked up at ids, their numbers may be of any kind
            and not node.subgraphs
            and all(n in constants or n in found for n in reads)
        ):
            (found if reads & found else constants).update(name for name in node.outputs if name)
    return found | set(graph.initializers)


def _joins_scores(readers: ReadersOf, no_scores: Container[str], name: str) -> bool:
    for reader in readers.get(name, ()):
        if reader is None:
            continue
        node, place = reader
        operator = find(node)
        others = [n for p, n in enumerate(node.inputs) if n and p != place and n not in no_scores]
        traits = node.traits
        if (traits.sums and others) or (traits.masks and traits.scores == place):
            return True
        moved = operator is not None and _hands_on(node, operator)
        if moved and any(_joins_scores(readers, no_scores, output) for output in node.outputs if output):
            return True
    return False
