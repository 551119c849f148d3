"""Rows that a mask empties before a softmax: in ONNX they become NaN, or 1/n throughout if it is finite.

A guard, Where(IsNaN(p), 0, p), tests for such rows. Rows that a public mask empties are zeros already, and
nothing else on shares is ever NaN. Where the mask is secret, so is the answer, which is whether the largest
score of the row lies as far down as a mask puts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxpuma.graph.model import Node, ValueType
from onnxpuma.graph.protobuf import element_type
from onnxpuma.ops.registry import Operand, find
from onnxpuma.plan.known.readers import Readers
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.walk.masks import far_enough
from onnxpuma.plan.walk.parts import Parts, Refused, add_constant, made, part
from onnxpuma.standard.mask_values import BOTTOM, DROWNED, LOWEST_FLOAT


def is_nan(state: State, node: Node) -> Parts[None]:
    """IsNaN of a secret value: one answer for each row of its softmax; zeros if it comes from none."""
    name, output = str(node.inputs[0]), str(node.outputs[0])
    known = state.values[name]
    rows = yield from _rows(state, node.name, name)
    if rows is None:
        kind = ValueType(np.dtype(bool), known.shape)
        state.values[output] = Known(kind, np.zeros(known.shape, bool), constant=known.constant)
        return
    whole = add_constant(state, f"{node.name}/shape", np.array(known.shape, np.int64))
    yield part(state, "Expand", f"{node.name}/rows", (rows, whole), (output,), {})


def guarded(producers: Mapping[str, Node], readers: Readers, scores: str) -> bool:
    """Whether an IsNaN reads the softmax of these scores."""
    for reader in readers.get(scores, ()):
        if reader is not None and reader[0].op == "Softmax":
            (result,) = reader[0].outputs
            if any(after is not None and after[0].op == "IsNaN" for after in readers.get(str(result), ())):
                return True
    return False


def _rows(state: State, place: str, name: str) -> Parts[str | None]:
    """Secret booleans, to be broadcast, that mark the NaN rows of a value; None where no row can be NaN."""
    node = state.producers.get(name)
    if node is None or node.domain:
        return None
    if node.op == "Softmax":
        return (yield from _softmax(state, place, node))
    if node.op == "Attention":
        return (yield from _attention(state, place, node))
    operator = find(node)
    if operator is None or not operator.moves:
        return None
    moved = str(node.inputs[0])
    inner = yield from _rows(state, place, moved)
    if inner is None:
        return None
    before = add_constant(state, f"{place}/before", np.array(state.values[moved].shape, np.int64))
    whole = yield from made(state, f"{place}/{name}/all", "Expand", (inner, before))
    rest = [n for n in node.inputs[1:] if n]
    return (yield from made(state, f"{place}/{name}", node.op, (whole, *rest), **node.attributes))


def _softmax(state: State, place: str, node: Node) -> Parts[str | None]:
    scores = str(node.inputs[0])
    operand = state.values[scores].operand
    if operand is None or not operand.hollow:
        return None
    axis = int(node.attribute("axis"))
    return (yield from _below(state, place, scores, axis, _bottom(state, scores, operand, axis)))


def _attention(state: State, place: str, node: Node) -> Parts[str | None]:
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    operand = None if mask is None else state.values[mask].operand
    if mask is None or operand is None or not (operand.hollow or operand.dtype.kind == "b"):
        return None
    if operand.dtype.kind == "b":
        mask = yield from made(state, f"{place}/mask", "Cast", (mask,), to=element_type(np.dtype(np.float32)))
        least = np.array(0.5, np.float32)
    else:
        least = _bottom(state, mask, operand, -1)
    rows = yield from _below(state, place, mask, -1, least)
    if len(state.values[str(node.outputs[0])].shape) == 4:
        return rows
    shape = state.values[rows].shape
    if len(shape) > 2 and shape[-3] != 1:
        raise Refused("it asks which rows a secret mask empties, and the mask differs by head")
    if len(shape) < 3:
        return rows
    axis = add_constant(state, f"{place}/head", np.array([-3], np.int64))
    return (yield from made(state, f"{place}/any head", "Squeeze", (rows, axis)))


def evened(state: State, node: Node) -> Parts[Node]:
    """The node; a softmax or an attention with a secret finite mask gets inputs that make emptied rows even.

    In single precision scores drown beside a number so large, and the row is 1/n throughout. On shares the
    scores are still there, so the scores of such a row become zeros, or its query does.
    """
    place = node.traits.scores if node.op in ("Softmax", "Attention") else None
    name = None if place is None or len(node.inputs) <= place else node.inputs[place]
    operand = None if name is None else state.values[name].operand
    if name is None or operand is None or operand.dtype.kind != "f" or operand.hollow or not operand.shape:
        return node
    if not operand.drowns if place else (not operand.blurred or operand.beside is not None):
        return node
    axis = -1 if place else int(node.attribute("axis"))
    least = _bottom(state, name, operand, axis, DROWNED)
    rows = yield from _below(state, f"{node.name}/even", name, axis, least)
    zero = add_constant(state, f"{node.name}/zero", np.zeros((), np.float32))
    inputs = list(node.inputs)
    if place:
        query = str(inputs[0])
        by_query = rows
        if len(state.values[query].shape) == 3 and len(operand.shape) > 2:
            if operand.shape[-3] != 1:
                return node
            head = add_constant(state, f"{node.name}/head", np.array([-3], np.int64))
            by_query = yield from made(state, f"{node.name}/any head", "Squeeze", (rows, head))
        inputs[0] = yield from made(state, f"{node.name}/query", "Where", (by_query, zero, query))
    if operand.beside is None:
        inputs[place or 0] = yield from made(state, f"{node.name}/evened", "Where", (rows, zero, name))
    return replace(node, inputs=tuple(inputs))


def _bottom(state: State, name: str, operand: Operand, axis: int, share: float = BOTTOM) -> np.ndarray:
    """The bound below which the largest score of an emptied row lies, including public numbers beside it."""
    least = -share * far_enough(state.readers, name)
    if operand.beside is not None:
        least = least + operand.beside.max(axis=axis, keepdims=True)
    return np.asarray(np.maximum(least, LOWEST_FLOAT), np.float32)


def _below(state: State, place: str, name: str, axis: int, least: np.ndarray) -> Parts[str]:
    """Whether the largest along an axis, which is kept, is below a number."""
    axes = add_constant(state, f"{place}/axes", np.array([axis], np.int64))
    bound = add_constant(state, f"{place}/least", least)
    top = yield from made(state, f"{place}/top", "ReduceMax", (name, axes), keepdims=1)
    return (yield from made(state, f"{place}/none left", "Less", (top, bound)))
