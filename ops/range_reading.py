"""How a range is checked on shares: which quantities of a value are compared, at which precision, with what.

Not one of ONNX's operators: the planner puts them beside the steps whose operands it cannot bound
(plan/bounds/checks.py). Three ways, by what is known of a value and in which form it is:

- squares: the sum of squares of each row, where rows are known not to be so long that it wraps;
- samples: sums of random parts of many elements, in whatever form and however large they are. With a wide
  margin they find what is so far out that squares would wrap, and the two go together;
- elements: each by itself, for few, and where only one side counts.
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

BLOCK = 128  # elements whose squares are added up where each by itself is asked for
NEAR, FAR = 256, 8192  # elements of which samples are taken: as precise as can be, and to find what is far
FEW = 512  # elements that are compared one by one
WIDE = 2.0**13  # from here on values are so far within a range that a long block is
MARGIN = 6.0  # deviations of a sum of random parts that are not exceeded
OFFSET = 16.0  # times as long as what is left of it may a row be before its mean is taken off
ROUNDING = 1.5  # units by which a lowered element is off, at most; a sum of three terms by twice as much
SHARE = 4.0  # rounding takes this part of a range at most


@dataclass(frozen=True)
class Reading:
    """One quantity of a value, and from where on it is out of range.

    method: "squares", "deviations", "samples", "near" (samples as precise as can be), "apart" (those of rows
    without their means), "elements", or "quotients" by another value.
    axes: of a row, from the end, () for all elements in their order; block: the elements of a row, which is
    cut where axes have more. around: less the mean over this axis, as many times larger as it is long. shift:
    fraction bits given up. below: in units of the quantity; side: on which it is beyond that (mpc).
    rows: whose samples are taken together.
    """

    method: str
    axes: tuple[int, ...]
    block: int
    shift: int
    below: int
    side: str
    around: int | None = None

    rows: int = 1
    # Bits of the value's ring.
    ring: int = RESTING.bits

    def count(self, operand: Operand) -> int:
        """Quantities of this operand."""
        return -(-operand.size // (self.block * self.rows)) * self.samples

    @property
    def samples(self) -> int:
        """Of each block, or of several rows together."""
        return {"samples": SAMPLES, "near": SAMPLES, "apart": 2 * SAMPLES}.get(self.method, 1)

    @property
    def bits(self) -> int:
        return self.ring - self.shift

    def reach(self, operand: Operand) -> float:
        """What is beyond it, of samples or elements, as a number."""
        return (self.below + 3) * 2.0 ** (self.shift - operand.fraction)


def row_length(operand: Operand, need: Need) -> int:
    """Elements of a row."""
    rank = len(operand.shape)
    return need.count or math.prod(operand.shape[axis] for axis in need.axes if -axis <= rank)


def readings(operand: Operand, need: Need) -> tuple[Reading, ...]:
    """What tells that `need` does not hold of an operand; () where nothing can.

    A value within the need is never beyond a reading by more than rounding and, of samples, chance: what
    they take in is a quarter of the range, of a block together.
    """
    ring = operand.format.bits
    return tuple(replace(reading, ring=ring) for reading in _readings(operand, need))


def _readings(operand: Operand, need: Need) -> tuple[Reading, ...]:
    if not operand.size or (operand.reach and need.kind == "spread"):  # scores are read as far as masks reach
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
    """Rows less their mean over another axis of n elements, n times as long: less than 2n times the length of
    a row. Samples that are to find what wraps are of the value itself."""
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
    """deviation: the length of rows without their means; spread: how far apart two elements of a row are."""
    spread = need.kind == "spread"
    if length == 1:
        return ()
    found = _rows(operand, need.axes, length, need.below / (math.sqrt(2.0) if spread else 1.0), length)
    if found:
        return found
    below = need.below if spread else need.below / math.sqrt(length)
    most = operand.format.largest / 16 / length  # n times an element, less a sum of as many, does not wrap
    first = () if operand.bound.size < 2 * most else _samples(operand, most)
    rows = max(1, 2 * NEAR // length)
    return first + tuple(
        replace(r, axes=need.axes, block=length, rows=rows)
        for r in _sums("apart", operand, below * length, length)
    )


def _near(operand: Operand, below: float) -> tuple[Reading, ...]:
    """No element is as large as `below`."""
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
    """Squares of rows, of which gain is what makes a deviation of them."""
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
    # what is longer than fits is found by samples, which are to let pass a block full of rows in range
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
    """What is known of the length of a row."""
    row = operand.shape[-1] if operand.shape else 1
    known = operand.bound.length(length) if axes == (-1,) or (not axes and row % length == 0) else math.inf
    return min(known, operand.bound.size * math.sqrt(length))


def _samples(operand: Operand, half: float) -> tuple[Reading, ...]:
    """No element is twice as large as `half`."""
    return _sums("samples", operand, half, FAR)


def _sums(method: str, operand: Operand, below: float, block: int) -> tuple[Reading, ...]:
    """Sums of random parts that are below a bound."""
    shift = max(0, math.floor(operand.fraction + math.log2(below)) - 6)
    least = math.floor(below * 2.0 ** (operand.fraction - shift)) - 3
    if least < 1 or shift > operand.format.bits - 8 or least >= 1 << (operand.format.bits - 2 - shift):
        return ()
    return (Reading(method, (), min(block, operand.size), shift, least, OUTSIDE),)


def _elements(operand: Operand, need: Need) -> tuple[Reading, ...]:
    """Each by itself; on one side where the need is of that kind."""
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
    """The quantity of plain values that is furthest from what the need asks, None if it holds."""
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
