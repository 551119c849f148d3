"""What the planner knows of masks: the public numbers beside a value, and how far a secret one has to reach.

A number that a secret condition chooses to mean "not this one", the lowest float say, is in the words of the
value. Who reads it decides how far out it has to be there: a Softmax, which asks for differences, wants less
than others do.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.graph.model import Graph, Node, ValueType
from onnxpuma.ops.beside import unheld
from onnxpuma.ops.bounds import Need
from onnxpuma.ops.reach import reach_of, unread
from onnxpuma.ops.registry import Call, Operand, Operator, altered, find
from onnxpuma.ops.scores import SPREAD
from onnxpuma.ops.softmax import farthest_apart
from onnxpuma.plan.known import Reads, draft_operand
from onnxpuma.plan.plan import SecretInput
from onnxpuma.standard.mask_values import GIVEN, LARGEST, MASK, MOST_REACH

_SUMS = ("Add", "Sub", "Sum", "Where", "Concat", "Cast")
Use: TypeAlias = "tuple[Node, int] | None"
Uses = Mapping[str, Sequence[Use]]


def refusal(call: Call, operator: Operator) -> str | None:
    """Why an operator cannot run on these operands, as it says itself or for what masks put into them."""
    return operator.refuse(call) or unheld(call, operator) or unread(call, operator)


def with_beside(call: Call, operator: Operator, outputs: Sequence[Operand]) -> tuple[Operand, ...]:
    """The outputs of a step with what stands beside them, and how far out they may be."""
    besides = operator.beside(call) if operator.beside is not None else [None] * len(outputs)
    reach = reach_of(call, operator)
    return tuple(
        altered(o, beside=beside, **vars(reach)) if o.dtype.kind == "f" else altered(o, beside=beside)
        for o, beside in zip(outputs, besides, strict=True)
    )


def drafted(uses: Uses, node: Node, types: Sequence[ValueType]) -> tuple[Operand, ...]:
    """The outputs of a node before its operator is asked, with what is far enough for their readers."""
    drafts = (draft_operand(name, kind) for name, kind in zip(node.outputs, types, strict=True))
    return tuple(altered(o, enough=far_enough(uses, o.name)) if o.name else o for o in drafts)


def far_enough(uses: Uses, name: str) -> float:
    """How far from zero a number of this value has to be that means "not this one", for all who read it."""
    return _farthest(uses, name) or LARGEST


def _farthest(uses: Uses, name: str) -> float:
    """The most that anybody wants who reads it, or what is made of it; 0 where nobody does."""
    known = uses.far if isinstance(uses, Reads) else {}
    if name not in known:
        most = 0.0
        for use in uses.get(name, ()):
            if use is not None and _moves(use[0]):
                most = max([most, *(_farthest(uses, output) for output in use[0].outputs if output)])
            else:
                most = max(most, _wanted(use))
        known[name] = most
    return known[name]


def _moves(node: Node) -> bool:
    """Whether it reads on for others."""
    operator = find(node)
    return operator is not None and (operator.layout or node.op in (*_SUMS, "Neg"))


def _wanted(use: Use) -> float:
    if use is not None and _is_softmax(use):
        return MASK
    return LARGEST / 2.0**17 if use is not None and use[0].op == "TopK" else LARGEST


def _is_softmax(use: tuple[Node, int]) -> bool:
    node, place = use
    return node.traits.scores == place


def _readers(uses: Uses, name: str, seen: set[str]) -> Iterator[Use]:
    """Who reads a value, or what sums, choices and layout make of it; None is the model's caller."""
    for use in uses.get(name, ()):
        operator = None if use is None else find(use[0])
        moved = use is not None and operator is not None and (operator.layout or use[0].op in _SUMS)
        if use is None or not moved:
            yield use
            continue
        for output in use[0].outputs:
            if output and output not in seen:
                seen.add(output)
                yield from _readers(uses, output, seen)


def given(uses: Uses, graph: Graph, name: str, kind: ValueType) -> tuple[SecretInput, Operand]:
    """A value that the client shares: what it shares, and what the first reader has."""
    reach, operand = given_reach(uses, graph, name, kind.dtype), draft_operand(name, kind)
    needs = (Need(0, "below", scores_beside(reach, 0.0)),) if reach else ()
    entry = SecretInput(name, operand.shape, kind.dtype, reach=reach, needs=needs)
    return entry, altered(operand, down=reach, hollow=reach > 0, unit=kind.dtype.kind == "f")


def given_reach(uses: Uses, graph: Graph, name: str, dtype: np.dtype[Any]) -> float:
    """How far out a value that the client gives may be, 0 where it is no mask.

    It is one where it is added to scores of a softmax, which are no constants, nor made of booleans alone, or
    is that of an attention.
    """
    if dtype.kind != "f":
        return 0.0
    softmaxes = [use is not None and _is_softmax(use) for use in _readers(uses, name, set())]
    if not any(softmaxes) or not _joins_scores(uses, _no_scores(graph), name):
        return 0.0
    return MASK if all(softmaxes) else GIVEN


def scores_beside(down: float, up: float) -> float:
    """How far from zero scores may be beside a secret mask of this reach: all that are read for it."""
    down, up = min(down, MOST_REACH), min(up, MOST_REACH)
    apart = farthest_apart(SPREAD + down + up) - down - up
    return min(apart / 2, MOST_REACH / 2)


def _no_scores(graph: Graph) -> set[str]:
    """Constants, and what is made of inputs of no reals and constants: masks, and not what they mask."""
    constants = set(graph.initializers)
    found = {name for name, kind in graph.inputs.items() if kind.dtype.kind != "f"}
    for node in graph.nodes:
        reads = {name for name in node.inputs if name}
        if (
            0 not in node.traits.tables  # of ids they make numbers of any kind
            and not node.subgraphs
            and all(n in constants or n in found for n in reads)
        ):
            (found if reads & found else constants).update(name for name in node.outputs if name)
    return found | set(graph.initializers)


def _joins_scores(uses: Uses, known: Container[str], name: str) -> bool:
    for use in uses.get(name, ()):
        if use is None:
            continue
        node, place = use
        operator = find(node)
        others = [n for p, n in enumerate(node.inputs) if n and p != place and n not in known]
        found = node.traits
        if (found.sums and others) or (found.masks and found.scores == place):
            return True
        moved = operator is not None and (operator.layout or node.op in _SUMS)
        if moved and any(_joins_scores(uses, known, output) for output in node.outputs if output):
            return True
    return False
