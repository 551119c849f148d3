"""Attention written out becomes Attention: softmax(scale q k^T + mask) v, whatever the exporter.

The scale may be applied to q, to k, to the scores, or to several of them; the mask may be added, selected
with Where, or both; k may be transposed directly to (batch, heads, size, keys), by way of three axes, or not
at all. A mask may contain learned values (the distances of T5). Where it is minus infinity for all keys of a
row, the standard's Attention gives a row of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.marks import is_marked
from onnxpuma.graph.round_numbers import is_root_of
from onnxpuma.graph.rules.rule import Rule, constant, no, yes
from onnxpuma.graph.rules.shape import sliced_entries
from onnxpuma.graph.values import (
    attribute,
    is_constant,
    keeps_shape,
    number,
    rank,
    scalar,
    small_array,
    static_dim,
    used_once,
)
from onnxpuma.standard.mask_values import LOWEST_FLOAT, MASKED

# A mask comes from positions and padding. One of these operators among its sources means that it is computed
# from activations.
_ON_ACTIVATIONS = (
    "MatMul",
    "Gemm",
    "Conv",
    "Softmax",
    "LayerNormalization",
    "RMSNormalization",
    "Attention",
    "Gelu",
)


class NotAttentionError(Exception):
    """The reason why a softmax is not the middle of an attention."""


@dataclass
class Parts:
    """The parts found around a softmax."""

    scale: float = 1.0
    weights: list[ir.Value] = field(default_factory=list)  # factors that are weights, apart from the scale
    q: Any = None  # the two factors of the scores
    kt: Any = None
    masks: list[tuple[str, ir.Value, ir.Value | None]] = field(default_factory=list)  # in the order found

    def scale_by(self, factor: ir.Value) -> bool:
        """Absorb a constant factor; False if it is none."""
        by = number(factor)
        if by is None:
            return False
        if is_marked(factor):
            self.weights.append(factor)
        else:
            self.scale *= by
        return True


def _producer(value: ir.Value) -> tuple[str, list[ir.Value]]:
    node = value.producer()
    if node is None or node.domain:
        return "", []
    return node.op_type, [v for v in node.inputs if v is not None]


def _leads_to_scores(value: ir.Value) -> bool:
    """True when `value` is a product of two activations, apart from scales and masks on the way."""
    for _ in range(16):
        op, inputs = _producer(value)
        if op == "MatMul":
            return not is_constant(inputs[0]) and not is_constant(inputs[1])
        if op == "Where":
            value = next((v for v in inputs[1:] if not is_constant(v)), value)
        elif op in ("Add", "Mul", "Sub"):
            found = [v for v in inputs if not is_constant(v) and v is not value]
            return any(_leads_to_scores(v) for v in found)
        else:
            return False
    return False


def _from_activations(mask: ir.Value) -> bool:
    seen: set[ir.Value] = set()
    todo = [mask]
    while todo:
        op, inputs = _producer(todo.pop())
        if op in _ON_ACTIVATIONS:
            return True
        # Shape reads only the size of its input.
        new = [v for v in inputs if v not in seen] if op != "Shape" else []
        seen.update(new)
        todo += new
    return False


def _read_scores(value: ir.Value, parts: Parts) -> None:
    """Walk from the softmax to the product of q and k, collecting masks, then scales."""
    while True:
        op, inputs = _producer(value)
        if not used_once(value):
            raise NotAttentionError("other nodes read the scores too")
        if op in ("Add", "Where") and (parts.scale != 1.0 or parts.weights):
            raise NotAttentionError("the mask is scaled together with the scores")
        if op == "MatMul":
            parts.q, parts.kt = inputs
            return
        if op == "Add":
            scores = [v for v in inputs if _leads_to_scores(v)]
            if len(scores) != 1 or inputs[0] is inputs[1]:
                raise NotAttentionError("it is not clear which term is the scores")
            value, mask = scores[0], inputs[1] if scores[0] is inputs[0] else inputs[0]
            parts.masks.append(("add", mask, None))
        elif op == "Where":
            kept = [k for k in (1, 2) if _leads_to_scores(inputs[k])]
            filler = inputs[3 - kept[0]] if len(kept) == 1 else None
            number = scalar(filler)
            if filler is None or number is None or number > MASKED:
                raise NotAttentionError("a Where on the scores does not insert a large negative number")
            parts.masks.append(("keep" if kept[0] == 1 else "drop", inputs[0], filler))
            value = inputs[kept[0]]
        elif op == "Mul" and parts.scale_by(inputs[1]):
            value = inputs[0]
        else:
            raise NotAttentionError(f"the scores come from {op or 'outside'}, not from a product of q and k")


def _unscaled(value: ir.Value, parts: Parts) -> ir.Value:
    """The tensor before constant factors, which are absorbed into the scale."""
    op, inputs = _producer(value)
    while op == "Mul" and parts.scale_by(inputs[1]):
        value = inputs[0]
        op, inputs = _producer(value)
    return value


def _dims(value: ir.Value, k: ir.Value) -> list[int | str | None]:
    """The entries of a shape vector: numbers, "dim i" for dimension i of k, None for anything else."""
    values = small_array(value)
    if values is not None:
        return [int(v) for v in values.reshape(-1)]
    op, inputs = _producer(value)
    if op == "Concat":
        return [d for v in inputs for d in _dims(v, k)]
    count = rank(k)
    if op == "Slice" and count is not None:
        shape_op, shape_inputs = _producer(inputs[0])
        if (
            shape_op == "Shape"
            and shape_inputs[0] is k
            and sliced_entries(inputs[0], inputs[1], inputs[2], value)
        ):
            first, last = scalar(inputs[1]), scalar(inputs[2])
            return [f"dim {i}" for i in range(count)[int(first or 0) : int(last or 0)]]
    return [None]


def _by_way_of_three_axes(kt: ir.Value) -> ir.Value | None:
    """k, where kt = Reshape(Transpose(Reshape(k, (-1, keys, size)), (0, 2, 1)), (batch, heads, size,
    keys))."""
    op, outer = _producer(kt)
    if op != "Reshape" or rank(kt) != 4:
        return None
    middle_op, middle = _producer(outer[0])
    if middle_op != "Transpose" or attribute(outer[0], "perm") not in ([0, 2, 1], (0, 2, 1)):
        return None
    inner_op, inner = _producer(middle[0])
    if inner_op != "Reshape" or rank(inner[0]) != 4:
        return None
    k = inner[0]

    def same(found: list[int | str | None], axes: list[int]) -> bool:
        known = [static_dim(k, a) for a in axes]
        pairs = zip(found, axes, known, strict=False)
        return len(found) == len(axes) and all(
            f is not None and (f == f"dim {a}" or (s is not None and f == s)) for f, a, s in pairs
        )

    first, rest = _dims(inner[1], k)[:1], _dims(inner[1], k)[1:]
    return k if first == [-1] and same(rest, [2, 3]) and same(_dims(outer[1], k), [0, 1, 3, 2]) else None


def _untransposed(op: Any, kt: ir.Value) -> ir.Value:
    """k with axes (..., keys, size) from kt with axes (..., size, keys)."""
    by_way = _by_way_of_three_axes(kt)
    if by_way is not None:
        return by_way
    axes = list(range(rank(kt) or 0))
    axes[-1], axes[-2] = axes[-2], axes[-1]
    producer, inputs = _producer(kt)
    perm = attribute(kt, "perm") if producer == "Transpose" else None
    if perm is not None:
        axes = [perm[a] for a in axes]
        return inputs[0] if axes == sorted(axes) else op.Transpose(inputs[0], perm=axes)
    return op.Transpose(kt, perm=axes)


def _one_mask(op: Any, parts: Parts) -> ir.Value | None:
    """All masks as one tensor to add. Where a Where replaces scores, the mask adds the lowest float instead,
    beside which the scores do not count, or minus infinity."""
    mask: ir.Value | None = None
    for kind, value, filler in reversed(parts.masks):
        if kind == "add":
            mask = value if mask is None else op.Add(mask, value)
        else:
            other = mask if mask is not None else constant(op, np.zeros(()), like=filler)
            lowest = -np.inf if scalar(filler) == -np.inf else LOWEST_FLOAT
            filler = constant(op, np.full((), lowest), like=filler)
            mask = op.Where(value, *((other, filler) if kind == "keep" else (filler, other)))
    return mask


class WrittenOut(Rule):
    """MatMul(Softmax(scale MatMul(q, kt) + mask), v) -> Attention(q, k, v, mask)"""

    title = "Attention"

    def pattern(self, op: Any, scores: Any, v: Any) -> Any:
        return op.MatMul(op.Softmax(scores, _outputs=["weights"]), v, _outputs=["y"])

    def check(
        self, context: Any, scores: ir.Value, v: ir.Value, weights: ir.Value, y: ir.Value, **_: Any
    ) -> Any:
        try:
            self.parts = self._parts(scores, v, weights)
        except NotAttentionError as reason:
            self.missed[str(weights.producer().name)] = str(reason)
            return no(str(reason))
        return yes()

    def _parts(self, scores: ir.Value, v: ir.Value, weights: ir.Value) -> Parts:
        parts = Parts()
        axes = rank(weights)
        if axes not in (3, 4) or rank(v) != axes:
            raise NotAttentionError("the tensors do not have three or four axes")
        if attribute(weights, "axis") not in (-1, axes - 1):
            raise NotAttentionError("the softmax is not over the last axis")
        if not used_once(weights):
            raise NotAttentionError("other nodes read the attention weights too")
        _read_scores(scores, parts)
        parts.q = _unscaled(parts.q, parts)
        parts.kt = _unscaled(parts.kt, parts)
        for factor in list(parts.weights):
            by = number(factor) or 0.0
            if is_root_of(by, static_dim(parts.q, -1)):
                parts.weights.remove(factor)
                parts.scale *= by
            elif not keeps_shape(parts.q, factor):
                raise NotAttentionError("a factor of the scores has more axes than the scores")
        if rank(parts.q) != axes or rank(parts.kt) != axes:
            raise NotAttentionError("q, k and v do not have the same number of axes")
        for axis in range(axes - 2):
            found = {static_dim(t, axis) for t in (parts.q, parts.kt, v)}
            if len(found) > 1 and (1 in found or len(found - {None}) > 1):
                raise NotAttentionError("q, k and v differ in batch or heads")
        for _, mask, _ in parts.masks:
            if rank(mask) not in range(2, axes + 1):
                raise NotAttentionError("the number of axes of the mask is not known, or does not fit")
            if static_dim(mask, -1) == 1 and static_dim(parts.kt, -1) != 1:
                raise NotAttentionError("the mask does not distinguish keys")
            if _from_activations(mask):
                raise NotAttentionError("the term added to the scores is computed from activations")
        return parts

    def rewrite(self, op: Any, v: ir.Value, **_: Any) -> Any:
        parts = self.parts
        q, k, mask = parts.q, _untransposed(op, parts.kt), _one_mask(op, parts)
        for factor in parts.weights:
            q = op.Mul(q, factor)
        if rank(parts.q) == 4:
            inputs = [q, k, v] if mask is None else [q, k, v, mask]
            return op.Attention(*inputs, scale=parts.scale)
        one = constant(op, np.array([1], np.int64))  # three axes: one head each
        inputs = [op.Unsqueeze(t, one) for t in (q, k, v)]
        if mask is not None:
            wide = max(rank(m) or 0 for _, m, _ in parts.masks)
            inputs.append(op.Unsqueeze(mask, one) if wide == 3 else mask)
        return op.Squeeze(op.Attention(*inputs, scale=parts.scale), one)


RULES = (WrittenOut,)
