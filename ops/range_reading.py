"""How a range is checked on shares: the quantities of a value, their precision and their bounds.

The planner adds a check for every operand that it cannot bound (plan/bounds/checks.py). There are three ways:

- squares: the sum of squares of each row, if rows are known to be too short for it to wrap;
- samples: sums of random parts of many elements, of any form and size. With a wide margin they find rows so
  long that squares would wrap, so the two are used together;
- elements: each by itself, if there are few elements or only one side counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.protocols.range_check import ABOVE, INSIDE, OPPOSITE, OUTSIDE, SAMPLES, UNDER
from onnxpuma.ops.bounds import Bound, Need
from onnxpuma.ops.registry import Operand

BLOCK = 128  # elements in a sum of squares, which bounds each of them
NEAR, FAR = 256, 8192  # elements in a sample: a precise one, and one that finds elements far out
FEW = 512  # up to this many elements are compared one by one
WIDE = 2.0**13  # a range of at least this also contains long blocks of values
MARGIN = 6.0  # a sum of random parts stays within this many deviations
OFFSET = 16.0  # a row may be this many times as long as the row less its mean
ROUNDING = 1.5  # units of error of a lowered element; of a sum of three terms, twice as many
SHARE = 4.0  # rounding uses up at most one part in this many of a range


@dataclass(frozen=True)
class Reading:
    """One quantity of a value, and where it is out of range."""

    # "squares", "deviations", "samples", "near" (precise samples), "apart" (samples of rows less their mean),
    # "elements", or "quotients" by another value.
    method: str
    # The axes of a row, counted from the end; () for all elements in their order.
    axes: tuple[int, ...]
    # The elements of a row; longer axes are cut.
    block: int
    # Fraction bits that are dropped.
    shift: int
    # The bound, in units of the quantity.
    below: int
    # Which side of the bound is out of range (mpc/protocols/range_check.py).
    side: str
    # Rows are taken less their mean over this axis, times the length of the axis.
    around: int | None = None
    # The rows whose samples are taken together.
    rows: int = 1
    # Bits of the value's ring.
    ring: int = RESTING.bits

    def count(self, operand: Operand) -> int:
        """Quantities of this operand."""
        return -(-operand.size // (self.block * self.rows)) * self.samples

    @property
    def samples(self) -> int:
        """The quantities of each block, or of several rows together."""
        return {"samples": SAMPLES, "near": SAMPLES, "apart": 2 * SAMPLES}.get(self.method, 1)

    @property
    def bits(self) -> int:
        return self.ring - self.shift

    def reach(self, operand: Operand) -> float:
        """The size from which samples or elements are out of range, as a number."""
        return (self.below + 3) * 2.0 ** (self.shift - operand.fraction)


def row_length(operand: Operand, need: Need) -> int:
    """Elements of a row."""
    rank = len(operand.shape)
    return need.count or math.prod(operand.shape[axis] for axis in need.axes if -axis <= rank)


def readings(operand: Operand, need: Need) -> tuple[Reading, ...]:
    """The quantities that show whether an operand violates `need`; () if none can.

    A value within the need exceeds a reading by rounding or, in samples, by chance only: a block within a
    quarter of the range passes.
    """
    ring = operand.format.bits
    return tuple(replace(reading, ring=ring) for reading in _readings(operand, need))


def _readings(operand: Operand, need: Need) -> tuple[Reading, ...]:
    if not operand.size or (operand.reach and need.kind == "spread"):  # scores are read as far as masks
        return ()
    if need.kind == "quotient":
        return (Reading("quotients", (), 1, 12, int(need.below), OPPOSITE),)
    if need.kind in ("below", "positive", "nonzero") or (
        need.kind == "element" and (operand.size <= FEW or operand.reach)
    ):
        return _elements(operand, need)
    if need.kind == "element":
        block = min(BLOCK, max(8, operand.size // 1024))
        return _rows(operand, (), block, need.below) or _near(operand, need.below)
    length = row_length(operand, need)
    if need.around is not None:
        return _around(operand, need, length)
    if need.kind == "row":
        found = _rows(operand, need.axes, length, need.below)
        return found or _near(operand, need.below / math.sqrt(length))
    return _apart(operand, need, length)


def _around(operand: Operand, need: Need, length: int) -> tuple[Reading, ...]:
    """The readings of rows less their mean over another axis of n elements, times n.

    These are shorter than 2n times a row. The samples that detect a wrap are taken of the value itself.
    """
    assert need.around is not None
    count = operand.shape[need.around]
    bound, more = operand.bound, 2.0 * count
    lengths = {size: more * length for size, length in bound.blocks.items()}
    wide = replace(operand, bound=Bound(-more * bound.size, more * bound.size, more * bound.norm, lengths))
    found: list[Reading] = []
    for reading in _rows(wide, need.axes, length, need.below * count, margin=2 * OFFSET * MARGIN):
        if reading.side == OUTSIDE:
            found += _samples(operand, reading.reach(operand) / more)
        else:
            found.append(replace(reading, around=need.around))
    return tuple(found)


def _apart(operand: Operand, need: Need, length: int) -> tuple[Reading, ...]:
    """The readings of the length of rows less their means, or of the distance of two elements of a row."""
    spread = need.kind == "spread"
    if length == 1:
        return ()
    found = _rows(operand, need.axes, length, need.below / (math.sqrt(2.0) if spread else 1.0), length)
    if found:
        return found
    below = need.below if spread else need.below / math.sqrt(length)
    most = operand.format.largest / 16 / length  # n elements less their sum do not wrap
    first = () if operand.bound.size < 2 * most else _samples(operand, most)
    rows = max(1, 2 * NEAR // length)
    return first + tuple(
        replace(r, axes=need.axes, block=length, rows=rows)
        for r in _sums("apart", operand, below * length, length)
    )


def _near(operand: Operand, below: float) -> tuple[Reading, ...]:
    """The readings that no element is as large as `below`."""
    most = operand.format.largest / 4
    first = () if operand.bound.size < 2 * most else _samples(operand, most)
    return first + _sums("near", operand, below, FAR if below >= WIDE else NEAR)


def _rows(
    operand: Operand,
    axes: tuple[int, ...],
    length: int,
    below: float,
    gain: float = 1.0,
    margin: float = MARGIN,
) -> tuple[Reading, ...]:
    """The readings of squares of rows. gain: the factor of a row less its mean, else 1."""
    if operand.form is not Replicated:
        return ()
    (ring, fraction), root = operand.format, math.sqrt(length)
    coarsest = min(ring - 16, math.floor(fraction + math.log2(below / (SHARE * ROUNDING * root))))
    if coarsest < 0:
        return ()
    log_gain = math.log2(gain) + 2 * fraction - (ring - 2)
    known = max(_longest(operand, axes, length), below)
    finest = ring if known == math.inf else max(0, math.ceil(2 * math.log2(known * 1.01) + log_gain))
    if finest <= coarsest:
        return (_squares(operand, axes, length, below, gain, finest),)
    # samples find rows too long to fit; they must pass a block full of rows in range
    wanted = margin * below * math.sqrt(max(1.0, FAR / length))
    shift = max(0, min(coarsest, math.ceil(2 * math.log2(2 * root * wanted * 1.01) + log_gain)))
    half = 2.0 ** ((shift - log_gain) / 2) / (1.01 * 2 * root)
    far = _samples(operand, half) if half >= below / MARGIN else ()
    return (*far, _squares(operand, axes, length, below, gain, shift)) if far else ()


def _squares(
    operand: Operand, axes: tuple[int, ...], length: int, below: float, gain: float, shift: int
) -> Reading:
    unit = 2.0 ** (operand.fraction - shift)
    least = math.floor(gain * (below * unit - ROUNDING * math.sqrt(length)) ** 2)
    return Reading("squares" if gain == 1.0 else "deviations", axes, length, shift, least, ABOVE)


def _longest(operand: Operand, axes: tuple[int, ...], length: int) -> float:
    """The known bound of the length of a row."""
    row = operand.shape[-1] if operand.shape else 1
    known = operand.bound.length(length) if axes == (-1,) or (not axes and row % length == 0) else math.inf
    return min(known, operand.bound.size * math.sqrt(length))


def _samples(operand: Operand, half: float) -> tuple[Reading, ...]:
    """The readings that no element is twice as large as `half`."""
    return _sums("samples", operand, half, FAR)


def _sums(method: str, operand: Operand, below: float, block: int) -> tuple[Reading, ...]:
    """The readings that sums of random parts are below a bound."""
    shift = max(0, math.floor(operand.fraction + math.log2(below)) - 6)
    least = math.floor(below * 2.0 ** (operand.fraction - shift)) - 3
    if least < 1 or shift > operand.format.bits - 8 or least >= 1 << (operand.format.bits - 2 - shift):
        return ()
    return (Reading(method, (), min(block, operand.size), shift, least, OUTSIDE),)


def _elements(operand: Operand, need: Need) -> tuple[Reading, ...]:
    """The readings of each element by itself, on one side or both."""
    least_of = need.kind in ("positive", "nonzero")
    if need.below < 0:
        fine = operand.fraction + math.log2(-need.below)
        shift = max(0, math.floor(fine) - 14)
        return (Reading("elements", (), 1, shift, -math.floor(2.0 ** (fine - shift)) - 3, UNDER),)
    fine = operand.fraction + math.log2(need.below)
    shift = 0 if least_of else max(0, math.floor(fine) - 14)
    least = math.ceil(2.0**fine) if least_of else math.floor(2.0 ** (fine - shift)) - 3
    if least < 1 or shift > operand.format.bits - 8:
        return ()
    return (Reading("elements", (), 1, shift, least, _SIDES[need.kind]),)


_SIDES = {"element": OUTSIDE, "below": ABOVE, "positive": UNDER, "nonzero": INSIDE}


def beyond_need(values: np.ndarray, need: Need) -> float | None:
    """The quantity of plain values that violates the need most; None if the need holds."""
    x = values.astype(np.float64)
    if need.kind in ("positive", "nonzero"):
        least = float((x if need.kind == "positive" else np.abs(x)).min(initial=np.inf))
        if need.below < 0:
            return None if least >= need.below else least
        return (
            None if np.rint(least / RESTING.unit) >= max(1.0, np.rint(need.below / RESTING.unit)) else least
        )
    if need.kind == "below":
        found = float(x.max(initial=-np.inf))
    elif need.kind == "element":
        found = float(np.abs(x).max(initial=0.0))
    else:
        axes = tuple(axis for axis in need.axes if -axis <= x.ndim)
        if need.around is not None:
            x = x - x.mean(axis=need.around, keepdims=True)
        if need.count:
            x = x.reshape(*x.shape[:-1], -1, need.count)
        if need.kind == "spread":
            rows = x.max(axis=axes, initial=-np.inf) - x.min(axis=axes, initial=np.inf)
        else:
            less = x - x.mean(axis=axes, keepdims=True) if need.kind == "deviation" and x.size else x
            rows = np.sqrt(np.square(less).sum(axis=axes))
        found = float(np.max(rows, initial=0.0))
    return None if found < need.below else found
