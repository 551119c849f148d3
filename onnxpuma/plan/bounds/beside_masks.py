"""How large scores may be beside a secret mask: a larger one could not be told from a masked place."""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.ops.bounds import Need
from onnxpuma.ops.reach import reach_of
from onnxpuma.ops.registry import Call, Operator
from onnxpuma.ops.scores import SPREAD
from onnxpuma.ops.softmax import farthest_apart
from onnxpuma.standard.mask_values import MASK, MOST_REACH

_JOINS = ("Where", "Concat")  # besides sums


def beside_masks(call: Call, operator: Operator) -> Sequence[Need]:
    """The needs of a call that joins scores and a secret mask: every score is small beside the mask."""
    joins = call.node.traits.sums or call.node.op in _JOINS
    if not joins or call.outputs[0].enough != MASK:
        return ()
    reach = reach_of(call, operator)
    if not reach.down and not reach.up:
        return ()
    below = scores_beside(reach.down, reach.up)
    places = [p for p, o in enumerate(call.inputs) if o is not None and o.secret and not o.reach]
    return [Need(place, "element", below) for place in places]


def scores_beside(down: float, up: float) -> float:
    """The distance from zero that scores stay below beside a secret mask of this reach, so that one reading
    covers both."""
    down, up = min(down, MOST_REACH), min(up, MOST_REACH)
    apart = farthest_apart(SPREAD + down + up) - down - up
    return min(apart / 2, MOST_REACH / 2)
