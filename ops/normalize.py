"""LayerNormalization and RMSNormalization: one reciprocal root a row, two products an element.

The sum of squares is a dot product, so one element a row leaves the party. x gamma is truncated while the
root is on its way; then one more product with the root (protocols.md, section 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.linear import multiply, sum_of_squares
from onnxpuma.mpc.party import Party, Protocol, parallel, thirds
from onnxpuma.mpc.reciprocal import WHOLE_RANGE, inverse_cost, rsqrt
from onnxpuma.mpc.shares import Form, Replicated, Sum3
from onnxpuma.mpc.truncate import resolve, resolve_cost
from onnxpuma.mpc.words import encode
from onnxpuma.ops.elementwise import as_words, public_scale
from onnxpuma.ops.registry import Call, Value, operator
from onnxpuma.ops.spread import joined, over_parts, sliced, truncated

ROOT_FRACTION = 30
MEAN_BITS = 18


def _axis(call: Call) -> int:
    shape = call.outputs[0].shape
    return int(call.attribute("axis", -1)) % len(shape)


def _epsilon(call: Call) -> float:
    return float(call.attribute("epsilon", 1e-5))


def _refuse(call: Call) -> str | None:
    if not call.secret(0):
        return "its input is public and its scale is secret: compute it in the clear"
    if len(call.outputs) > 1 and any(o.name for o in call.outputs[1:]):
        return "only its first output is supported, not the mean and the deviation"
    return None


def mean_factor(count: int) -> tuple[int, int]:
    """1 / count as an integer with as many fraction bits as give it MEAN_BITS significant ones."""
    fraction, integer = public_scale(np.float64(1.0 / count))
    return fraction, int(integer)


def _row_means(party: Party, sums: Replicated, count: int) -> Protocol[Replicated]:
    fraction, integer = mean_factor(count)
    if integer == 1 and fraction == 0:
        return sums
    scaled = sums.times(np.uint64(integer), fraction)
    return (yield from resolve(party, scaled, party.next_pivot()))


def roots(party: Party, squares: Sum3, count: int) -> Protocol[Replicated]:
    """sqrt(count) / sqrt(squares) of each row, (rows,), ROOT_FRACTION fraction bits."""
    gain = float(np.sqrt(count))
    if squares.size < 96:
        return (yield from rsqrt(party, squares, party.next_pivot(), ROOT_FRACTION, WHOLE_RANGE, gain))
    done = yield from parallel(
        rsqrt(party, sliced(squares, piece), pivot, ROOT_FRACTION, WHOLE_RANGE, gain)
        for pivot, piece in enumerate(thirds(squares.size))
    )
    return joined(done, squares.shape)


def roots_cost(rows: int, count: int) -> Cost:
    sizes = [rows] if rows < 96 else [s.stop - s.start for s in thirds(rows)]
    total = Cost()
    for size in sizes:
        total |= inverse_cost("rsqrt", size, WHOLE_RANGE, 36, ROOT_FRACTION, float(np.sqrt(count)))
    return total


def _normalised(
    party: Party, call: Call, x: Replicated, scale: Value, bias: Value, centred: bool
) -> Protocol[Sequence[Form]]:
    axis = _axis(call)
    axes = tuple(range(axis, len(x.shape)))
    count = int(np.prod(x.shape[axis:]))
    rows_shape = (*x.shape[:axis], *([1] * len(axes)))
    if centred:
        sums = x.map(lambda w: w.sum(axis=axes, dtype=w.dtype).reshape(-1))
        mean = yield from _row_means(party, sums, count)
        x = x - mean.map(lambda w: w.reshape(rows_shape))
    squares = sum_of_squares(party, x, axes).map(lambda w: w.reshape(-1))
    squares = squares.plus(encode(_epsilon(call) * count, squares.fraction))

    def scaled() -> Protocol[Replicated]:
        if isinstance(scale, Replicated):
            return (yield from truncated(party, multiply(party, x, scale)))
        if scale is None:
            return x
        fraction, integers = public_scale(np.asarray(scale))
        return (yield from truncated(party, x.times(as_words(integers), fraction)))

    root, product = yield from parallel([roots(party, squares, count), scaled()])
    y: Any = multiply(party, product, root.map(lambda w: w.reshape(rows_shape)))
    if isinstance(bias, Replicated):
        y = y.plus_shared(bias)
    elif bias is not None:
        y = y.plus(encode(np.asarray(bias), y.fraction))
    return [(yield from truncated(party, y))]


def _cost(call: Call) -> Cost:
    axis = _axis(call)
    x = call.inputs[0]
    assert x is not None
    count = int(np.prod(x.shape[axis:]))
    rows = x.size // max(count, 1)
    centred = call.node.op == "LayerNormalization"
    fraction, _ = mean_factor(count)
    total = resolve_cost(rows, fraction, form=Replicated) if centred else Cost()
    product = over_parts(x.size, lambda n: resolve_cost(n, 18))
    scale = call.operand(1)
    if scale is not None and not scale.secret:
        by = public_scale(scale.value)[0]  # type: ignore[arg-type]
        product = over_parts(x.size, lambda n: resolve_cost(n, by, form=Replicated)) if by else Cost()
    total = total + (roots_cost(rows, count) | product)
    return total + over_parts(x.size, lambda n: resolve_cost(n, ROOT_FRACTION))


@operator("LayerNormalization", cost=_cost, refuse=_refuse, error="1e-4")
def layer_normalization(
    party: Party, call: Call, x: Replicated, scale: Value, bias: Value = None
) -> Protocol[Sequence[Form]]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias. The norm of a centred row below 5792."""
    return (yield from _normalised(party, call, x, scale, bias, centred=True))


@operator("RMSNormalization", cost=_cost, refuse=_refuse, error="1e-4")
def rms_normalization(party: Party, call: Call, x: Replicated, scale: Value) -> Protocol[Sequence[Form]]:
    """x / sqrt(mean of squares + epsilon) * scale. The norm of a row below 5792."""
    return (yield from _normalised(party, call, x, scale, None, centred=False))
