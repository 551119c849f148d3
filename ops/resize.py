"""Resize: a linear map along each axis, with public coefficients that the operator itself reveals.

Resize runs in the clear on lines with a single one, and the results are the coefficients. Nearest is a choice
of elements, exact and free; linear and cubic are products with public numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.graph.run import run_node
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.spread import shift_cost, truncated

BITS = 20  # fraction bits of a coefficient


def _axes(call: Call) -> list[int]:
    rank = len(call.given(0).shape)
    return [int(a) % rank for a in call.attribute("axes") or range(rank)]


def _matrix(call: Call, axis: int) -> np.ndarray:
    """(out, in): the coefficients along this axis."""
    lines = _lines(call, axis)
    return (lines[:-1] - lines[-1]).T


def _outside(call: Call, axis: int) -> np.ndarray:
    """(out,): the number at places beyond the end of the line, zero elsewhere."""
    return _lines(call, axis)[-1]


def _lines(call: Call, axis: int) -> np.ndarray:
    """The results for each line with a single one, and for a line of zeros."""
    place = _axes(call).index(axis)
    size, out = call.given(0).shape[axis], call.outputs[0].shape[axis]
    roi, scales = call.public(1), call.public(2)
    wanted: dict[str, Any] = {k: v for k, v in call.node.attributes.items() if k != "axes"}
    wanted["axes"] = [1]
    wanted.pop("keep_aspect_ratio_policy", None)
    scale = None if scales is None or not scales.size else scales.reshape(-1)[place : place + 1]
    sizes = np.array([out], np.int64) if scale is None else None
    part = None
    if roi is not None and roi.size:
        half = roi.size // 2
        part = roi.reshape(-1)[[place, half + place]].astype(np.float32)
    node = Node(
        f"{call.node.name}/axis{axis}", "Resize", "", call.node.version, ("x", "r", "k", "n"), ("y",), wanted
    )
    line = np.eye(size + 1, size, dtype=np.float32)
    return run_node(node, [line, part, scale, sizes], call.opset)[0]


def _changed(call: Call) -> list[int]:
    """The axes along which anything changes."""
    return [a for a in _axes(call) if not np.array_equal(_matrix(call, a), np.eye(call.given(0).shape[a]))]


def _refuse(call: Call) -> str | None:
    if call.secret(1) or call.secret(2) or call.secret(3):
        return "its scales, sizes or region are secret"
    return None


def _shapes(call: Call) -> list[tuple[np.ndarray, int]]:
    """For each changed axis, its matrix and the size of the value after it."""
    shape, found = list(call.given(0).shape), []
    for axis in _changed(call):
        shape[axis] = call.outputs[0].shape[axis]
        found.append((_matrix(call, axis), int(np.prod(shape, dtype=np.int64))))
    return found


def _chooses(matrix: np.ndarray) -> bool:
    """Whether every place is one element, unchanged."""
    return bool(np.all((matrix == 0) | (matrix == 1)) and np.all(matrix.sum(axis=1) <= 1))


def _cost(call: Call) -> Cost:
    total = Cost()
    for matrix, size in _shapes(call):
        if not _chooses(matrix):
            total = total + shift_cost(size, BITS, call.ring, Replicated)
    return total


@operator("Resize", cost=_cost, refuse=_refuse, secret="first", error="one unit of 2^-18 an axis")
def resize(party: Party, call: Call, x: Replicated, *_: Value) -> Protocol[Sequence[Form]]:
    """Nearest, linear or cubic, along any axes: local sums, and a truncation for each mixed axis."""
    for axis in _changed(call):
        matrix = _matrix(call, axis)
        exact = _chooses(matrix)
        lines, fraction = x.moveaxis(axis, -1), 0 if exact else BITS
        columns = np.rint(matrix.astype(np.float64) * 2.0**fraction).T  # (in, out)
        made = lines.contiguous(-1, len(columns)).matmul(columns, fraction)
        x = made.reshape(*lines.shape[:-1], columns.shape[1]).moveaxis(-1, axis)
        if not exact:
            x = yield from truncated(party, x)
        outside = _outside(call, axis)
        if outside.any():
            x = x.plus_numbers(outside.reshape(-1, *([1] * (len(x.shape) - 1 - axis))))
    return [x]
