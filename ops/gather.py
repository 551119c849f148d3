"""Gather: local for public indices, a product with shared one-hot rows for ids that only the client knows.

The client deals each id as keys of distributed point functions (dpf.py), which the parties expand to shares
of one-hot rows. Their product with the table is exact: it needs no equality test and no truncation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Form, Replicated, Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import split, split_cost
from onnxpuma.mpc.protocols.dpf import BITS, ONE_HOT, SecretIds, look_up
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.truncate import lift, lift_cost
from onnxpuma.ops.beside import Beside, kept, whole
from onnxpuma.ops.layout import beyond
from onnxpuma.ops.limits import Limit, input_below
from onnxpuma.ops.registry import Call, Result, Use, as_first, operator
from onnxpuma.ops.shares import replicated


def _by_ids(call: Use) -> bool:
    index = call.operand(1)
    return index is not None and index.secret


def _result(call: Call) -> Result:
    if not _by_ids(call):
        return as_first(call)
    return Result(Replicated, call.outputs[0].resting.finer(call.given(0).finer))


def _refuse(call: Call) -> str | None:
    if not _by_ids(call):
        size = call.given(0).shape[call.axis]
        return beyond(call.public(1), size)
    if call.given(1).form is not SecretIds:
        return "its index is computed from secret values, and only ids from the client can be looked up"
    if call.axis:
        return "secret ids are looked up along the first axis only"
    if not call.secret(0):
        return "its table is public and its ids are secret: let the client look them up"
    return None


def _cost(call: Call) -> Cost:
    if not _by_ids(call):
        return Cost()

    def one(n: int) -> Cost:
        back = lift_cost(n, BITS, call.ring)
        return Cost(back.rounds, back.bits + split_cost(n, BITS).bits)

    return over_parts(call.outputs[0].size, one)


def _takes_products(call: Use, index: int) -> bool:
    return index == 0 and not _by_ids(call)


def _limits(call: Call) -> tuple[Limit, ...]:
    return input_below(ONE_HOT.at(RESTING.fraction).largest)(call) if _by_ids(call) else ()


def _beside(call: Call) -> Beside:
    table, index = call.given(0), call.public(1)
    if index is None or table.beside is None:
        return [None]
    return [kept(np.take(table.beside, index.astype(np.intp), call.axis), call.outputs[0].shape)]


@operator(
    "Gather",
    cost=_cost,
    result=_result,
    defers=_takes_products,
    refuse=_refuse,
    limits=_limits,
    integers=True,
    beside=_beside,
)
def gather(
    party: Party, call: Call, table: Shares, index: np.ndarray | SecretIds
) -> Protocol[Sequence[Form]]:
    """Rows of a secret table by public indices, or by the client's secret ids."""
    if isinstance(index, SecretIds):
        rows = replicated(whole(table, call.given(0)))
        matrix = rows if len(rows.shape) == 2 else rows.reshape(rows.shape[0], -1)

        def widened(part: Sum3, pivot: int) -> Protocol[Replicated]:
            return (yield from lift(party, split(party, part, pivot, part.format), call.ring))

        found = yield from spread(party, look_up(party, index, matrix), widened)
        return [found.reshape(call.outputs[0].shape)]
    yield from ()
    return [table.take(index.astype(np.intp), call.axis)]
