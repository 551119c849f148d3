"""The ranges in which operators are right, as data: what is measured of one use, and between which bounds.

A value outside gives a wrong result. What bounds do not prove to be inside is checked while a model runs on
shares (plan/bounds/checks.py, by `needs`). `validate --per-node` measures them on opened values, calibration
on plain ones, and the documentation prints them.
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
ROOM = 2.0**-10  # between a bound and the end of a range

EVERYTHING = 2.0**42  # a range from here on is that of all values, and needs no check of its own


def _unbounded(call: Call) -> float:
    return math.inf


def _anything(call: Call) -> float:
    return 0.0


def _not_said(call: Call) -> tuple[Need, ...]:
    return ()


@dataclass(frozen=True)
class Limit:
    """`what` must be at least `least` and below `below`, or the result is wrong.

    key: the name under which calibration records the quantity for the planner, "" where it makes nothing of
    it. stays(call): what the quantity cannot exceed, by the bounds of the call's operands; falls(call): what
    it cannot fall below. needs(call): what would keep it inside if all of it held of the inputs; none where
    no such check is known.
    """

    what: str
    measure: Measure = field(repr=False)
    below: float = math.inf
    least: float = 0.0
    key: str = ""
    stays: Callable[[Call], float] = field(default=_unbounded, repr=False)
    needs: Callable[[Call], Sequence[Need]] = field(default=_not_said, repr=False)
    falls: Callable[[Call], float] = field(default=_anything, repr=False)

    def proved(self, call: Call) -> bool:
        """Whether the bounds of the operands keep it inside, with room for what is rounded on the way."""
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
        """The quantity nearest to a bound or beyond it, and whether it is inside; None of nothing."""
        found = self.measure(call, inputs, outputs)
        found = found[np.isfinite(found)]
        if not found.size:
            return None
        low, high = float(found.min()), float(found.max())
        if high >= self.below or (low >= self.least and self.below < math.inf):
            return high, high < self.below
        return low, low >= self.least

    def largest(self, call: Call, inputs: Arrays, outputs: Arrays) -> float:
        """The largest quantity of this use."""
        found = self.measure(call, inputs, outputs)
        return float(np.max(found, where=np.isfinite(found), initial=0.0))


def number(bound: float) -> str:
    """A bound as it is written: powers of two that are not small as such."""
    exponent = math.log2(bound)
    if exponent == int(exponent) and abs(exponent) > 3:
        return f"2^{int(exponent)}"
    return f"{bound:g}"


def _magnitudes(values: np.ndarray | None) -> np.ndarray:
    """|x|; integers are whole words, which leaves them 18 bits more, so they count for as much less."""
    if values is None or values.dtype.kind not in "fiu":
        return np.zeros(0)
    return np.abs(values.astype(np.float64)) * (1.0 if values.dtype.kind == "f" else RESTING.unit)


def asks(kind: str, below: float, *places: int, axes: tuple[int, ...] = (-1,)) -> Needs:
    """The same need of each of these inputs."""
    found = tuple(Need(place, kind, below, axes) for place in places or (0,))
    return lambda call: found


def both(*needs: Needs) -> Needs:
    """All of these."""
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
    """What |x| of one input cannot exceed."""
    return lambda call: _seen(call, place).size


def _seen(call: Call, place: int) -> Bound:
    from onnxpuma.ops.sight import counted  # the registry, of which it speaks, is made of limits

    return counted(call.operand(place))


def _all_inputs(call: Call) -> float:
    sizes = (_seen(call, place).size for place in range(len(call.inputs)) if call.secret(place))
    return max(sizes, default=0.0)


def result_size(call: Call) -> float:
    """What |result| cannot exceed."""
    return call.outputs[0].bound.size if call.outputs else math.inf


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
    """For operators that hold for whatever the format holds."""
    return ()


def signed_input(place: int = 0) -> Measure:
    """x of one input, with its sign."""
    return lambda call, inputs, outputs: np.asarray(inputs[place], np.float64)


def _summed(call: Call, inputs: Arrays, outputs: Arrays) -> np.ndarray:
    ratio = (inputs[0].size if inputs[0] is not None else 0) // max(outputs[0].size, 1)  # type: ignore[union-attr]
    return _magnitudes(outputs[0]) * ratio


def mean_limits(call: Call) -> tuple[Limit, ...]:
    """A mean is a sum times a number with eighteen significant bits."""
    return (Limit("|sum|", _summed, 2.0**25, stays=_sum_size, needs=_small_terms),)


def _terms(call: Call) -> int:
    return call.given(0).size // max(call.outputs[0].size, 1)


def _sum_size(call: Call) -> float:
    return min(_seen(call, 0).size, result_size(call)) * _terms(call)


def _small_terms(call: Call) -> Sequence[Need]:
    return (Need(0, "element", 2.0**25 / max(_terms(call), 1)),)
