"""Whether two plans know the same of a value, or have the same step."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.ops.range_check import DOMAIN
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.plan import Step

LARGEST = 1 << 14  # elements of a public array that is compared element by element


def same(one: Known, other: Known) -> bool:
    """Whether two values are known alike, so that planning a reader has the same result."""
    if one is other:
        return True
    plain = (one.type, one.client, one.constant, one.bound) == (
        other.type,
        other.client,
        other.constant,
        other.bound,
    )
    return plain and _equal(one.value, other.value) and _alike(one.operand, other.operand)


def _alike(one: Operand | None, other: Operand | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.name == other.name and one.content is other.content


def _equal(one: np.ndarray[Any, Any] | None, other: np.ndarray[Any, Any] | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape or one.size > LARGEST:
        return False
    return one.tobytes() == other.tobytes() if one.dtype.kind != "O" else False


def kept(before: Step, now: Step) -> Step:
    """The step of before, if this one is the same: it has found its price and its digest already."""
    if before is now:
        return now
    a, b = before.call, now.call
    as_before = (
        (before.index, before.operator, before.outputs, before.resolves, before.constant)
        == (now.index, now.operator, now.outputs, now.resolves, now.constant)
        and (a.node is b.node or _same_check(a.node, b.node))
        and _alike_calls(a, b)
    )
    return before if as_before else now


def _alike_calls(a: Call, b: Call) -> bool:
    mine, theirs = a.operands, b.operands
    return (
        (len(a.inputs), len(mine)) == (len(b.inputs), len(theirs))
        and dict(a.bounds) == dict(b.bounds)
        and all(one is other or _alike(one, other) for one, other in zip(mine, theirs, strict=True))
    )


def _same_check(a: Node, b: Node) -> bool:
    """Whether two nodes are one and the same of the range check, which every plan makes anew."""
    mine, theirs = ((n.domain, n.name, n.op, n.inputs, n.outputs) for n in (a, b))
    return a.domain == DOMAIN and mine == theirs and a.attribute_key == b.attribute_key
