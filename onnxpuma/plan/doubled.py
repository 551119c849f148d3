"""Products with a weight that leave room for one more bit are computed doubled: one ring product, not two.

The product then has one more fraction bit (mpc/protocols/linear.py). All that reads it untruncated must still
be proved to be in range. Where the ring of a narrow weight is too small for that, the other factor may be
read at one fraction bit less; otherwise the product stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from onnxpuma.mpc.forms import Sum3
from onnxpuma.ops.narrow_factor import READ_LARGE
from onnxpuma.ops.registry import Operand, altered
from onnxpuma.plan.bounds.limits import limits_of
from onnxpuma.plan.budget import LOOK
from onnxpuma.plan.known.decisions import Changed, Decisions, Steps
from onnxpuma.plan.known.state import State
from onnxpuma.plan.narrow_weights import untruncated
from onnxpuma.plan.plan import Step
from onnxpuma.plan.refits import noted, refitted, with_values
from onnxpuma.plan.weights.factors import PRODUCTS

LEAST = (
    14  # fraction bits at which the other factor is read, where it gives one up; READ_LARGE in a large model
)


def with_doubled(state: State, decisions: Decisions | None = None) -> None:
    """Let the planned steps compute products with weights doubled where all bounds allow it.

    decisions: those of the last plan of this graph, selection and network, and then of this one.
    """
    decisions = decisions or Decisions()
    readers = decisions.begin(state.steps)
    least = READ_LARGE if state.blueprint.is_large else LEAST
    for number, step in enumerate(state.steps):
        if number % LOOK == 0:
            state.budget.check_time()
        if step.operator.name in PRODUCTS and not step.constant and _weight_of(step) is not None:
            doubles = partial(_doubled, readers, number, least)
            for n, new in (decisions.changed_alike("doubles", number, state.steps, doubles) or {}).items():
                state.steps[n] = new


def _weight_of(step: Step) -> int | None:
    """The place of the weight among two secret factors; None unless exactly one of them is a weight."""
    factors = [step.call.given(place) for place in (0, 1)]
    if not all(factor.secret for factor in factors) or factors[0].weight == factors[1].weight:
        return None
    return 0 if factors[0].weight else 1


def _doubled(readers: Mapping[str, Sequence[int]], number: int, least: int, steps: Steps) -> Changed | None:
    """What changes with this product doubled; None where it cannot be."""
    step = steps[number]
    place = _weight_of(step)
    assert place is not None
    weight = step.call.given(place)
    for reads in (weight.reads, weight.reads - 1):
        if reads < weight.reads and reads < least:
            continue
        new = noted(step, ("doubled", reads), partial(_with_weight, step, place, reads))
        if new.call.outputs[0].form is Sum3 and _proved(new):
            changed = untruncated(steps, readers, number, new)
            if changed is not None:
                return changed
    return None


def _with_weight(step: Step, place: int, reads: int) -> Step:
    """The product with its weight, at `place`, doubled and read so."""
    inputs: list[Operand | None] = list(step.call.inputs)
    inputs[place] = altered(step.call.given(place), doubled=True, reads=reads)
    return refitted(with_values(step, inputs, step.call.outputs), {})


def _proved(step: Step) -> bool:
    return all(limit.proved(step.call) for limit in limits_of(step))
