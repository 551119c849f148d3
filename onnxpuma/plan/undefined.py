"""Where a softmax has no number: a row that is masked whole, by minus infinity.

A guard against it, Where(IsNaN(p), 0, p), asks for the rows. Those that a public mask leaves nothing are
zeros already, and nothing else on shares is ever no number. Where the mask is secret, so is the answer:
whether the largest score of a row is as far down as a mask puts it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto

from onnxpuma.graph.model import Node, ValueType
from onnxpuma.ops.registry import Operand, find
from onnxpuma.plan.control import Unbounded, Walker, add_constant, add_node
from onnxpuma.plan.known import Known
from onnxpuma.plan.masks import Uses, far_enough
from onnxpuma.standard.mask_values import BOTTOM, DROWNED, LOWEST_FLOAT


class Planning(Walker, Protocol):
    """The walk, which knows who makes and who reads a value."""

    producers: dict[str, Node]

    @property
    def uses(self) -> Uses: ...


def is_nan(walk: Planning, node: Node) -> None:
    """Plan an IsNaN of a secret value. Raises Unbounded where its rows cannot be told."""
    name, output = str(node.inputs[0]), str(node.outputs[0])
    shape = _shape(walk, name)
    rows = _rows(walk, node.name, name)
    if rows is None:
        kind = ValueType(np.dtype(bool), shape)
        walk.values[output] = Known(kind, np.zeros(shape, bool), constant=walk.values[name].constant)
        return
    whole = add_constant(walk, f"{node.name}/shape", np.array(shape, np.int64))
    add_node(walk, "Expand", f"{node.name}/rows", (rows, whole), (output,), {})


def guarded(producers: dict[str, Node], uses: Uses, scores: str) -> bool:
    """Whether a softmax of these scores is asked where it has no number."""
    for use in uses.get(scores, ()):
        if use is not None and use[0].op == "Softmax":
            (made,) = use[0].outputs
            if any(reader is not None and reader[0].op == "IsNaN" for reader in uses.get(str(made), ())):
                return True
    return False


def _rows(walk: Planning, place: str, name: str) -> str | None:
    """The secret booleans that say it of each row, to be broadcast; None where no row is without number."""
    node = walk.producers.get(name)
    if node is None or node.domain:
        return None
    operator = find(node)
    if node.op == "Softmax":
        return _softmax(walk, place, node)
    if node.op == "Attention":
        return _attention(walk, place, node)
    if operator is None or not operator.layout:
        return None
    inner = _rows(walk, place, str(node.inputs[0]))
    if inner is None:
        return None
    before = add_constant(walk, f"{place}/before", np.array(_shape(walk, str(node.inputs[0])), np.int64))
    add_node(walk, "Expand", f"{place}/{name}/all", (inner, before), (f"{place}/{name}/all",), {})
    rest = [n for n in node.inputs[1:] if n]
    return _made(walk, f"{place}/{name}", node.op, (f"{place}/{name}/all", *rest), **node.attributes)


def _softmax(walk: Planning, place: str, node: Node) -> str | None:
    scores = str(node.inputs[0])
    operand = walk.values[scores].operand
    if operand is None or not operand.hollow:
        return None
    axis = int(node.attribute("axis"))
    return _below(walk, place, scores, axis, _bottom(walk, scores, operand, axis))


def _attention(walk: Planning, place: str, node: Node) -> str | None:
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    operand = None if mask is None else walk.values[mask].operand
    if mask is None or operand is None or not (operand.hollow or operand.dtype.kind == "b"):
        return None
    if operand.dtype.kind == "b":
        mask = _made(walk, f"{place}/mask", "Cast", (mask,), to=int(TensorProto.FLOAT))
        least = np.array(0.5, np.float32)
    else:
        least = _bottom(walk, mask, operand, -1)
    rows = _below(walk, place, mask, -1, least)
    if len(_shape(walk, str(node.outputs[0]))) == 4:
        return rows
    shape = _shape(walk, rows)
    if len(shape) > 2 and shape[-3] != 1:
        raise Unbounded("it asks which rows a secret mask leaves nothing, and the mask differs by head")
    if len(shape) < 3:
        return rows
    axis = add_constant(walk, f"{place}/head", np.array([-3], np.int64))
    return _made(walk, f"{place}/any head", "Squeeze", (rows, axis))


def evened(walk: Planning, node: Node) -> Node:
    """A softmax or an attention that gives rows 1/n which a secret mask leaves nothing but one number.

    In single precision nothing is left of scores beside the number, so the row is even; on shares they are
    as they were. So the row becomes one of zeros, or its query does.
    """
    place = node.traits.scores if node.op in ("Softmax", "Attention") else None
    name = None if place is None or len(node.inputs) <= place else node.inputs[place]
    operand = None if name is None else walk.values[name].operand
    if name is None or operand is None or operand.dtype.kind != "f" or operand.hollow or not operand.shape:
        return node
    if not operand.drowns if place else (not operand.blurred or operand.beside is not None):
        return node
    axis = -1 if place else int(node.attribute("axis"))
    least = _bottom(walk, name, operand, axis, DROWNED)
    rows = _below(walk, f"{node.name}/even", name, axis, least)
    zero = add_constant(walk, f"{node.name}/zero", np.zeros((), np.float32))
    inputs = list(node.inputs)
    if place:
        query = str(inputs[0])
        if len(_shape(walk, query)) == 3 and len(operand.shape) > 2:
            if operand.shape[-3] != 1:
                return node
            axis_of = add_constant(walk, f"{node.name}/head", np.array([-3], np.int64))
            by_query = _made(walk, f"{node.name}/any head", "Squeeze", (rows, axis_of))
        else:
            by_query = rows
        inputs[0] = _made(walk, f"{node.name}/query", "Where", (by_query, zero, query))
    if operand.beside is None:
        inputs[place or 0] = _made(walk, f"{node.name}/evened", "Where", (rows, zero, name))
    return replace(node, inputs=tuple(inputs))


def _bottom(walk: Planning, name: str, operand: Operand, axis: int, part: float = BOTTOM) -> np.ndarray:
    """What the largest of a row that a secret mask leaves nothing lies below, beside what is public there."""
    least = -part * far_enough(walk.uses, name)
    if operand.beside is not None:
        least = least + operand.beside.max(axis=axis, keepdims=True)
    return np.asarray(np.maximum(least, LOWEST_FLOAT), np.float32)


def _below(walk: Planning, place: str, name: str, axis: int, least: np.ndarray) -> str:
    """Whether the largest along an axis, which stays, is below a number."""
    axes = add_constant(walk, f"{place}/axes", np.array([axis], np.int64))
    bound = add_constant(walk, f"{place}/least", least)
    top = _made(walk, f"{place}/top", "ReduceMax", (name, axes), keepdims=1)
    return _made(walk, f"{place}/none left", "Less", (top, bound))


def _made(walk: Planning, name: str, op: str, inputs: tuple[str, ...], **attributes: Any) -> str:
    add_node(walk, op, name, inputs, (name,), attributes)
    return name


def _shape(walk: Planning, name: str) -> tuple[int, ...]:
    return tuple(int(d) for d in walk.values[name].type.shape or ())  # type: ignore[arg-type]
