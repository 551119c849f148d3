"""What the planner knows of masks: the public numbers beside a value, and how far a secret one has to reach.

A number that a secret condition chooses to mean "not this one", the lowest float say, is in the words of the
value. Who reads it decides how far out it has to be there: a Softmax, which asks for differences, wants less
than others do.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxpuma.graph.model import Node, ValueType
from onnxpuma.ops.beside import LARGEST, hollow_of, reach_of
from onnxpuma.ops.registry import Call, Operand, Operator, find
from onnxpuma.plan.known import draft_operand
from onnxpuma.plan.plan import SecretInput

MASK = 2.0**14  # as far out as a Softmax wants what is masked: scores lie nearer
_SUMS = ("Add", "Sub", "Sum", "Where", "Concat", "Cast")
Uses = Mapping[str, Sequence["tuple[Node, int] | None"]]


def with_beside(call: Call, operator: Operator, outputs: Sequence[Operand]) -> tuple[Operand, ...]:
    """The outputs of a step with what stands beside them, and how far out they may be."""
    besides = operator.beside(call) if operator.beside is not None else [None] * len(outputs)
    reach, hollow = reach_of(call, operator), hollow_of(call, operator)
    return tuple(
        replace(o, beside=beside, reach=reach, hollow=hollow)
        if o.dtype.kind == "f"
        else replace(o, beside=beside)
        for o, beside in zip(outputs, besides, strict=True)
    )


def drafted(uses: Uses, node: Node, types: Sequence[ValueType]) -> tuple[Operand, ...]:
    """The outputs of a node before its operator is asked, with what is far enough for their readers."""
    drafts = (draft_operand(name, kind) for name, kind in zip(node.outputs, types, strict=True))
    return tuple(replace(o, enough=far_enough(uses, o.name)) if o.name else o for o in drafts)


def far_enough(uses: Uses, name: str) -> float:
    """How far from zero a number of this value has to be that means "not this one", for all who read it."""
    return min(LARGEST, *(_wanted(uses, name, set()) or [LARGEST]))


def given(uses: Uses, constants: Container[str], name: str, kind: ValueType) -> tuple[SecretInput, Operand]:
    """A value that the client shares: what it shares, and what the first reader has."""
    reach, operand = given_reach(uses, constants, name, kind.dtype), draft_operand(name, kind)
    entry = SecretInput(name, operand.shape, kind.dtype, reach=reach)
    return entry, replace(operand, reach=reach, hollow=reach > 0)


def given_reach(uses: Uses, constants: Container[str], name: str, dtype: np.dtype[Any]) -> float:
    """How far out a value that the client gives may be, 0 where it is no mask.

    It is one where it is only added to scores, which are none of the `constants`, or is that of an attention.
    """
    mask = dtype.kind == "f" and _joins_scores(uses, constants, name) and far_enough(uses, name) == MASK
    return MASK if mask else 0.0


def _joins_scores(uses: Uses, constants: Container[str], name: str) -> bool:
    for use in uses.get(name, ()):
        if use is None:
            continue
        node, place = use
        operator = find(node)
        others = [n for p, n in enumerate(node.inputs) if n and p != place and n not in constants]
        if (node.op in ("Add", "Sub", "Sum") and others) or (node.op == "Attention" and place == 3):
            return True
        moved = operator is not None and (operator.layout or node.op in _SUMS)
        if moved and any(_joins_scores(uses, constants, output) for output in node.outputs if output):
            return True
    return False


def _wanted(uses: Uses, name: str, seen: set[str]) -> list[float]:
    """What each reader wants: one that is not known, all there is."""
    found: list[float] = []
    for use in uses.get(name, ()):
        if use is None:
            return [LARGEST]
        node, place = use
        operator = find(node)
        if node.op == "Softmax" or (node.op == "Attention" and place == 3):
            found.append(MASK)
        elif operator is not None and (operator.layout or node.op in _SUMS):
            for output in node.outputs:
                if output and output not in seen:
                    seen.add(output)
                    found += _wanted(uses, output, seen)
        elif node.op == "TopK":
            found.append(LARGEST / 2.0**17)
        else:
            return [LARGEST]
    return [max(found)] if found else []
