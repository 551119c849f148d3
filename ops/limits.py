"""The ranges in which operators compute correctly, as data: a quantity of one call, and its bounds.

Beyond them the result is silently wrong. If the bounds of the operands do not prove that a quantity stays
inside, it is checked while the model runs on shares (plan/bounds/checks.py, by `needs`). The command
`validate --per-node` measures the quantities on opened values, calibration on plain ones, and the
documentation prints the ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxpuma.mpc.format import RESTING
from onnxpuma.ops.bounds import Bound, Need

if TYPE_CHECKING:
    from onnxpuma.ops.registry import Call

Arrays: TypeAlias = "Sequence[np.ndarray | None]"
Measure: TypeAlias = "Callable[[Call, Arrays, Arrays], np.ndarray]"  # (call, inputs, outputs) -> quantities
Limits: TypeAlias = "Callable[[Call], tuple[Limit, ...]]"
Needs: TypeAlias = "Callable[[Call], Sequence[Need]]"
ROOM = 2.0**-10  # the margin between a bound and the end of a range

EVERYTHING = RESTING.largest / 4  # a range this large covers all values and needs no separate check


def _unbounded(call: Call) -> float:
    return math.inf


def _anything(call: Call) -> float:
    return 0.0


def _not_said(call: Call) -> tuple[Need, ...]:
    return ()


@dataclass(frozen=True)
class Limit:
    """`what` must be at least `least` and below `below`, or the result is silently wrong."""

    what: str
    measure: Measure = field(repr=False)
    below: float = math.inf
    least: float = 0.0
    # The name under which calibration records the quantity for the planner; "" if it does not.
    key: str = ""
    # The largest that the quantity can be, by the bounds of the call's operands.
    stays: Callable[[Call], float] = field(default=_unbounded, repr=False)
    # Conditions on the inputs that together keep the quantity inside; empty if no such check is known.
    needs: Callable[[Call], Sequence[Need]] = field(default=_not_said, repr=False)
    # The least that the quantity can be, by the bounds of the call's operands.
    falls: Callable[[Call], float] = field(default=_anything, repr=False)

    def proved(self, call: Call) -> bool:
        """Whether the bounds of the operands keep the quantity inside, with room for rounding."""
        stays = self.stays(call)
        return stays * (1 + ROOM) + ROOM < self.below and (not self.least or self.falls(call) >= self.least)

    @property
    def bounds(self) -> str:
        """`below 2^20`, `at least 2^-18 and below 2^15`."""
        parts = [f"at least {number(self.least)}"] if self.least > 0 else []
        parts += [f"below {number(self.below)}"] if self.below < math.inf else []
        return " and ".join(parts)

    @property
    def text(self) -> str:
        """`the norm of a row below 2^20`."""
        return f"{self.what} {self.bounds}"

    def measured(self, call: Call, inputs: Arrays, outputs: Arrays) -> tuple[float, bool] | None:
        """The quantity nearest to a bound or beyond it, and whether it is inside; None without a quantity."""
        found = self.measure(call, inputs, outputs)
        found = found[np.isfinite(found)]
        if not found.size:
            return None
        low, high = float(found.min()), float(found.max())
        if high >= self.below or (low >= self.least and self.below < math.inf):
            return high, high < self.below
        return low, low >= self.least

    def largest(self, call: Call, inputs: Arrays, outputs: Arrays) -> float:
        """The largest quantity of this call."""
        found = self.measure(call, inputs, outputs)
        return float(np.max(found, where=np.isfinite(found), initial=0.0))


def number(bound: float) -> str:
    """A bound as text: 2^20 for a large or small power of two."""
    exponent = math.log2(bound)
    if exponent == int(exponent) and abs(exponent) > 3:
        return f"2^{int(exponent)}"
    return f"{bound:g}"


def _magnitudes(values: np.ndarray | None) -> np.ndarray:
    """|x|; an integer is a whole word and has 18 bits more room, so it counts as 2^18 times smaller."""
    if values is None or values.dtype.kind not in "fiu":
        return np.zeros(0)
    return np.abs(values.astype(np.float64)) * (1.0 if values.dtype.kind == "f" else RESTING.unit)


def asks(kind: str, below: float, *places: int, axes: tuple[int, ...] = (-1,)) -> Needs:
    """The same condition on each of these inputs."""
    found = tuple(Need(place, kind, below, axes) for place in places or (0,))
    return lambda call: found


def both(*needs: Needs) -> Needs:
    """All of these conditions."""
    return lambda call: tuple(need for each in needs for need in each(call))


def asks_each(below: float) -> Needs:
    """Every element of every input below a bound."""
    return lambda call: tuple(Need(place, "element", below) for place in range(len(call.inputs)))


def of_input(place: int = 0) -> Measure:
    """|x| of one input."""
    return lambda call, inputs, outputs: _magnitudes(inputs[place] if place < len(inputs) else None)


def of_any_input() -> Measure:
    """|x| of all secret inputs."""

    def measure(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
        found = [_magnitudes(v).reshape(-1) for i, v in enumerate(inputs) if call.secret(i)]
        return np.concatenate(found) if found else np.zeros(0)

    return measure


def of_output(place: int = 0) -> Measure:
    """|y| of one output."""
    return lambda call, inputs, outputs: _magnitudes(outputs[place])


def size_of(place: int = 0) -> Callable[[Call], float]:
    """The largest |x| of one input, by its bound."""
    return lambda call: _seen(call, place).size


def _seen(call: Call, place: int) -> Bound:
    from onnxpuma.ops.sight import counted  # the registry imports this module

    return counted(call.operand(place))


def _all_inputs(call: Call) -> float:
    sizes = (_seen(call, place).size for place in range(len(call.inputs)) if call.secret(place))
    return max(sizes, default=0.0)


def result_size(call: Call) -> float:
    """The largest |result|, by its bound."""
    return call.outputs[0].bound.size


def input_below(below: float, key: str = "", place: int = 0) -> Limits:
    """|x| below a bound."""
    needs = _not_said if below >= EVERYTHING else asks("element", below, place)
    found = (Limit("|x|", of_input(place), below, key=key, stays=size_of(place), needs=needs),)
    return lambda call: found


def inputs_below(below: float) -> Limits:
    """Every input below a bound."""
    needs = _not_said if below >= EVERYTHING else asks_each(below)
    found = (Limit("each |x|", of_any_input(), below, stays=_all_inputs, needs=needs),)
    return lambda call: found


def output_below(below: float) -> Limits:
    """The result below a bound."""

    def needs(call: Call) -> Sequence[Need]:
        from onnxpuma.ops.needs import of_result  # as in `_seen`

        return of_result(call, below)

    found = (Limit("|result|", of_output(), below, stays=result_size, needs=needs),)
    return lambda call: found


def output_in_product(call: Call) -> tuple[Limit, ...]:
    """The result inside the words of a product of two real numbers."""
    return output_below(call.product.largest)(call)


def no_limit(call: Call) -> tuple[Limit, ...]:
    """For operators that compute correctly on every value of the format."""
    return ()


def signed_input(place: int = 0) -> Measure:
    """x of one input, with its sign."""
    return lambda call, inputs, outputs: np.asarray(inputs[place], np.float64)


def _summed(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    ratio = (inputs[0].size if inputs[0] is not None else 0) // max(outputs[0].size, 1)  # type: ignore[union-attr]
    return _magnitudes(outputs[0]) * ratio


def mean_limits(call: Call) -> tuple[Limit, ...]:
    """A mean is a sum times a number of eighteen significant bits, so the sum is limited."""
    return (Limit("|sum|", _summed, 2.0**25, stays=_sum_size, needs=_small_terms),)


def _terms(call: Call) -> int:
    return call.given(0).size // max(call.outputs[0].size, 1)


def _sum_size(call: Call) -> float:
    return min(_seen(call, 0).size, result_size(call)) * _terms(call)


def _small_terms(call: Call) -> Sequence[Need]:
    return (Need(0, "element", 2.0**25 / max(_terms(call), 1)),)
