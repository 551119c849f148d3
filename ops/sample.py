"""Sample: a draw from the softmax of each row, a secret integer, of which no party knows anything.

Not an ONNX operator: graph/next_token.py puts it behind the logits of a model that generates. The noise that
decides is drawn on shares (mpc/protocols/gumbel.py), so a draw costs what ArgMax costs. What steers it is one
setting for all rows or, where several requests run together, one for each (plan/together/rows.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.graph.sampling import DOMAIN, SAMPLE
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3, joined
from onnxpuma.mpc.party import Party, Protocol, parallel
from onnxpuma.mpc.protocols.argmax import argmax
from onnxpuma.mpc.protocols.convert import replicate_sum, settle
from onnxpuma.mpc.protocols.gumbel import MOST_SCALE, gumbel
from onnxpuma.ops.limits import Arrays, Limit, asks
from onnxpuma.ops.registry import Call, Result, Use, operator
from onnxpuma.ops.running import contenders, running
from onnxpuma.ops.sample_filters import filtered
from onnxpuma.ops.sample_order import Ordered, drawn
from onnxpuma.ops.sample_reading import FARTHEST, Part, beside_of, cost, holds, parts, settings, slack, way
from onnxpuma.ops.sight import words

LEAST_TEMPERATURE = float(np.float32(0.01))  # as a request has it


def _fits(call: Use) -> bool:
    return all(holds(call, part.how) for part in parts(call))


def _defers(call: Use, index: int) -> bool:
    return index == 0 and not call.given(0).reach and call.public(1) is not None and _fits(call)


def _refuse(call: Call) -> str | None:
    x = call.given(0)
    if not x.size:
        return "it draws from nothing"
    if x.reach:
        return "a secret mask may put scores far out"
    if call.public(1) is None:
        return "its parameters are secret"
    for one in settings(call):
        good = not one.temperature or LEAST_TEMPERATURE <= one.temperature <= MOST_SCALE
        if not good or one.top_k < 0 or not one.top_p > 0 or not 0 <= one.min_p <= 1:
            return "its parameters are beyond their ranges"
    if not _fits(call):
        return f"words of {x.format.bits} bits do not hold its scores at this temperature"
    for part in parts(call):
        beside = beside_of(call, part.rows)
        if beside is not None:
            kept = running(beside, slack(call, part.how.steering)).kept
            if not kept.any(axis=-1).all():
                return "no score is left"
    return None


def _measured(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    x = np.asarray(inputs[0], np.float64)
    return np.ptp(x, axis=-1) if x.size else np.zeros(0)


def _limits(call: Call) -> tuple[Limit, ...]:
    def stays(call: Call) -> float:
        x = words(call.given(0))
        return x.high - x.low

    return (
        Limit(
            "the difference of two of a row",
            _measured,
            FARTHEST,
            stays=stays,
            needs=asks("spread", FARTHEST),
        ),
    )


@operator(
    SAMPLE,
    domain=DOMAIN,
    cost=cost,
    result=lambda call: Result(Replicated, call.at(0)),
    defers=_defers,
    refuse=_refuse,
    limits=_limits,
    beside=lambda call: [None],
    secret="first",
    narrow=True,
)
def sample(party: Party, call: Call, x: Shares, parameters: np.ndarray) -> Protocol[Sequence[Form]]:
    """The index drawn from each row (..., n): (...,)."""
    rows, shape, split = x.contiguous(-1, x.shape[-1]), call.outputs[0].shape, parts(call)
    if split[0].rows is None:
        return [(yield from _part(party, call, rows, split[0])).reshape(shape)]
    taken = [np.array(part.rows) for part in split]
    each = [_part(party, call, rows[index], part) for index, part in zip(taken, split, strict=True)]
    found = joined((yield from parallel(each)))
    return [found[np.argsort(np.concatenate(taken))].reshape(shape)]


def _part(party: Party, call: Call, x: Shares, part: Part) -> Protocol[Replicated]:
    """The index drawn from each of these rows (rows, n): (rows,)."""
    how, beside = part.how, beside_of(call, part.rows)
    narrow = x.lowered(x.fraction - how.fraction).modulo(how.read.bits)
    if isinstance(narrow, Sum3):
        narrow = yield from settle(party, replicate_sum(party, narrow))
    steering, far = how.steering, slack(call, how.steering)
    found = None if beside is None else running(beside, far)
    out = None if found is None else ~found.kept
    if isinstance(how, Ordered):
        rows = narrow if found is None else narrow.plus_numbers(found.relative)
        return (yield from drawn(party, rows, out, how, call.network))
    if steering.any:
        rows = narrow.times_integers(how.multipliers, how.factor)
        rows = rows.lowered(how.shift).modulo(how.bits)
        rows = rows if found is None else rows.plus_numbers(found.relative / steering.temperatures)
        rows = yield from filtered(party, rows, out, steering, call.network)
        if out is not None:
            rows = contenders(rows, np.where(out, -np.inf, 0.0), 1.0)
    else:
        rows = narrow
        if steering.highest:
            rows = rows + gumbel(party, rows.shape, steering.temperatures, rows.format)
        rows = contenders(rows, beside, far)
    return (yield from argmax(party, rows, way(call, part.count, rows.bits)))
