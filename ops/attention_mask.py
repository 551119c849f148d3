"""A secret mask of an attention: an addend, cut off where a softmax can no longer tell scores apart."""

from __future__ import annotations

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.ops.comparison import width
from onnxpuma.ops.registry import Call
from onnxpuma.ops.select import clipped, positive_cost
from onnxpuma.standard.mask_values import MOST_REACH

PLACE = 3
DEPTH = 1 << 14  # False subtracts this: scores are never so far apart


def mask_refusal(call: Call) -> str | None:
    """Refuse a secret mask of integers."""
    if call.secret(PLACE) and call.given(PLACE).dtype.kind not in "fb":
        return "its mask holds secret integers"
    return None


def _lowest(call: Call) -> float | None:
    """Where a secret mask of numbers is cut off; None if it is known to reach no further."""
    operand = call.given(PLACE)
    if operand.reach > MOST_REACH:
        return -MOST_REACH / 2
    # a bias computed from weights alone hides no mask
    return None if operand.reach or operand.weight else -float(DEPTH)


def mask_reach(call: Call) -> float:
    """How far apart a secret mask may put two scores."""
    if not call.secret(PLACE):
        return 0.0
    operand = call.given(PLACE)
    if operand.dtype.kind == "b":
        return float(DEPTH)
    lowest = _lowest(call)
    return operand.reach if lowest is None else -lowest


def secret_mask(party: Party, call: Call, mask: Replicated) -> Protocol[Replicated]:
    """The addend of the scores: -DEPTH where a secret boolean is false, or a secret number,
    cut off if it may reach too far. Rounds: 6 for the cut, else none."""
    if call.given(PLACE).dtype.kind == "b":
        return mask.times_integers(DEPTH << call.reals.fraction, call.reals.fraction).plus_numbers(-DEPTH)
    lowest = _lowest(call)
    return mask if lowest is None else (yield from clipped(party, mask, lowest, None, width(call)))


def secret_mask_cost(call: Call) -> Cost:
    if not call.secret(PLACE) or call.given(PLACE).dtype.kind == "b" or _lowest(call) is None:
        return Cost()
    return positive_cost(call.given(PLACE).size, width(call))
