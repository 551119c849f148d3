"""Operators on single elements, where a public number beside an element may be out of reach.

The result of such an element is public and computed in the clear: a sigmoid of minus infinity is zero. The
kernel computes the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

import numpy as np

from onnxpuma.graph.run import run_node
from onnxpuma.mpc.forms import Form
from onnxpuma.mpc.party import Protocol
from onnxpuma.ops.beside import Beside, any_beside, held, kept, out_of_reach
from onnxpuma.ops.registry import Call, Operand, Value
from onnxpuma.standard.mask_values import LOWEST_FLOAT, OUT

V = TypeVar("V")
Kernel = TypeVar("Kernel", bound=Callable[..., Protocol[Sequence[Form]]])


def settled(call: Call) -> np.ndarray:
    """The places where an output is public, because a number beside one of its operands is out of reach."""
    places = [out_of_reach(o) for o in call.secrets]
    return np.broadcast_to(np.logical_or.reduce(np.broadcast_arrays(*places)), call.outputs[0].shape)


def of_elements(call: Call) -> Beside:
    """The public results of an operator on single elements."""
    sure = settled(call) if any_beside(call) else np.zeros((), bool)
    if not sure.any():
        return [None] * len(call.outputs)
    values: list[np.ndarray | None] = []
    for operand in call.inputs:
        if operand is None or operand.value is not None:
            values.append(None if operand is None else operand.value)
        else:
            there = np.zeros(operand.shape)
            if operand.beside is not None:
                there = np.where(np.abs(operand.beside) >= OUT, operand.beside, 0.0)
            values.append(np.clip(there, LOWEST_FLOAT, -LOWEST_FLOAT).astype(operand.dtype))
    made = run_node(call.node, values, call.opset)
    return [kept(np.where(sure, v, 0.0), o.shape) for v, o in zip(made, call.outputs, strict=True)]


def near(x: V, operand: Operand | None) -> V:
    """A secret plus the numbers beside it, zero where they are out of reach."""
    if operand is None or operand.beside is None or not isinstance(x, Form):
        return x
    far = out_of_reach(operand)
    return x.zeroed(far).plus_numbers(np.where(far, 0.0, operand.beside))


def by_element(kernel: Kernel) -> Kernel:
    """A kernel on single elements that computes those within reach and sets the settled ones to zero."""

    @wraps(kernel)
    def computed(party: object, call: Call, *values: Value) -> Protocol[Sequence[Form]]:
        given = [near(v, call.operand(place)) for place, v in enumerate(values)]
        results = yield from kernel(party, call, *given)
        if not any_beside(call):
            return results
        sure = settled(call)
        return [r.zeroed(sure) for r in results] if sure.any() else results

    return computed  # type: ignore[return-value]


# -- the largest or smallest of several ---------------------------------------------------------------


def _ends(call: Call) -> tuple[list[np.ndarray], bool]:
    """The public numbers beside each operand, or in its place; and whether this is a Max."""
    found = []
    for operand in call.inputs:
        assert operand is not None
        part = operand.beside if operand.value is None else operand.value.astype(np.float64)
        found.append(np.zeros(()) if part is None else part)
    return found, call.node.op == "Max"


def settled_ends(call: Call) -> np.ndarray | None:
    """Where Max or Min is public: one operand is out of reach at the winning end, all at the losing end."""
    if not any_beside(call):
        return None
    parts, largest = _ends(call)
    parts = list(np.broadcast_arrays(*(part if largest else -part for part in parts)))
    sure = np.logical_or.reduce([p >= OUT for p in parts]) | np.logical_and.reduce([p <= -OUT for p in parts])
    return np.broadcast_to(sure, call.outputs[0].shape) if sure.any() else None


def of_extreme(call: Call) -> Beside:
    """Max and Min."""
    sure = settled_ends(call)
    if sure is None:
        return [None]
    parts, largest = _ends(call)
    furthest_out = (np.maximum if largest else np.minimum).reduce(np.broadcast_arrays(*parts))
    return [kept(np.where(sure, furthest_out, 0.0), call.outputs[0].shape)]


def near_end(x: V, operand: Operand | None) -> V:
    """A secret plus the numbers beside it; a number out of reach becomes the end of the compared range."""
    if operand is None or operand.beside is None or not isinstance(x, Form):
        return x
    return x.zeroed(out_of_reach(operand)).plus_numbers(held(operand.beside, 2 * OUT))
