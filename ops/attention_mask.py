"""A secret mask of an attention: additive, and nowhere so low that it leaves what Softmax can tell apart."""

from __future__ import annotations

import numpy as np

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.shares import Replicated
from onnxpuma.ops.elementwise import MASKED
from onnxpuma.ops.registry import FRACTION, Call, Operand
from onnxpuma.ops.select import clipped, positive_cost

PLACE = 3


def mask_refusal(call: Call) -> str | None:
    """Refuse a secret mask of integers."""
    if call.secret(PLACE) and call.given(PLACE).dtype.kind not in "fb":
        return "its mask holds secret integers"
    return None


def _as_it_is(mask: Operand) -> bool:
    """A bias that is made of weights is a bias: no mask is hidden in it."""
    return mask.weight


def secret_mask(party: Party, call: Call, mask: Replicated) -> Protocol[Replicated]:
    """What is added to the scores: MASKED where a secret boolean is false, or where a secret number that
    depends on the client is below it; FRACTION bits. Rounds: 6 for the latter, else none."""
    operand = call.given(PLACE)
    if operand.dtype.kind == "b":
        depth = np.uint64(int(-MASKED) << FRACTION)
        lifted = mask.times(depth, FRACTION)
        return lifted.plus(np.broadcast_to(np.uint64(0) - depth, mask.shape))
    if _as_it_is(operand):
        return mask
    return (yield from clipped(party, mask, MASKED, None))


def secret_mask_cost(call: Call) -> Cost:
    if not call.secret(PLACE):
        return Cost()
    operand = call.given(PLACE)
    return Cost() if operand.dtype.kind == "b" or _as_it_is(operand) else positive_cost(operand.size)
