"""The ranges in which operators are right, as data: what is measured of one use, and between which bounds.

A value outside gives a wrong result. What bounds do not prove to be inside is checked while a model runs on
shares (plan/checks.py, by `needs`). `validate --per-node` measures them on opened values, calibration on plain
ones, and the documentation prints them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnxpuma.ops.bounds import Need

if TYPE_CHECKING:
    from onnxpuma.ops.registry import Call

Arrays: TypeAlias = "Sequence[np.ndarray | None]"
Measure: TypeAlias = "Callable[[Call, Arrays, Arrays], np.ndarray]"  # (call, inputs, outputs) -> quantities
Limits: TypeAlias = "Callable[[Call], tuple[Limit, ...]]"
Needs: TypeAlias = "Callable[[Call], Sequence[Need]]"


def _unbounded(call: Call) -> float:
    return math.inf


def _not_said(call: Call) -> tuple[Need, ...]:
    return ()


@dataclass(frozen=True)
class Limit:
    """`what` must be at least `least` and below `below`, or the result is wrong.

    key: the name under which calibration records the quantity for the planner, "" where it makes nothing of
    it. stays(call): what the quantity cannot exceed, by the bounds of the call's operands. needs(call): what
    would keep it inside if it held of the inputs, each for itself enough to be checked; none where no such
    check is known.
    """

    what: str
    measure: Measure = field(repr=False)
    below: float = math.inf
    least: float = 0.0
    key: str = ""
    stays: Callable[[Call], float] = field(default=_unbounded, repr=False)
    needs: Callable[[Call], Sequence[Need]] = field(default=_not_said, repr=False)

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
    return np.abs(values.astype(np.float64)) * (1.0 if values.dtype.kind == "f" else 2.0**-18)


def asks(kind: str, below: float, *places: int, axes: tuple[int, ...] = (-1,)) -> Needs:
    """The same need of each of these inputs."""
    found = tuple(Need(place, kind, below, axes) for place in places or (0,))
    return lambda call: found


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


def input_below(below: float, key: str = "", place: int = 0) -> Limits:
    """|x| below a bound."""
    found = (Limit("|x|", of_input(place), below, key=key, needs=asks("element", below, place)),)
    return lambda call: found


def inputs_below(below: float) -> Limits:
    """Every input below a bound."""
    found = (Limit("each |x|", of_any_input(), below, needs=asks_each(below)),)
    return lambda call: found


def output_below(below: float) -> Limits:
    """The result below a bound."""
    found = (Limit("|result|", of_output(), below),)
    return lambda call: found


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
    return (Limit("|sum|", _summed, 2.0**25),)
