"""Facts: numbers that an owner states about secret weights, so that all parties derive the same bounds.

For each array that is used: the largest magnitude and the length of the longest row. For a factor of a
product also: how much longer it can make a whole row, and each head. Every fact is rounded up to a quarter of
a power of two, or to a whole power where the array is small. Facts are public, like the plan
(docs/security.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnxpuma.ops.bounds import UNKNOWN, Bound

ArrayFacts = dict[str, int]  # quantity -> quarters of a power of two
Facts = dict[str, ArrayFacts]

STEPS = (1.0, 1.1892071150027212, 1.4142135623730954, 1.681792830507430)  # 2^(k/4), rounded up
SMALLEST = -400  # quarters; a smaller number counts as zero
KEPT_ROOM = 1 + 2.0**-8  # between the stated bound of a kept value and the bound in its check
NOTHING = {"size": SMALLEST, "row": SMALLEST}


def rounded(value: float) -> int:
    """The smallest k with value <= 2^(k/4)."""
    if not value > 0:
        return SMALLEST
    mantissa, exponent = math.frexp(value)  # value = 2 mantissa 2^(exponent - 1)
    step = next((k for k, s in enumerate(STEPS) if 2 * mantissa <= s), 4)
    return max(4 * (exponent - 1) + step, SMALLEST)


def stated(key: str, value: float, coarse: int) -> int:
    """The fact in quarters, a multiple of `coarse`: rounded up, but down for an array's least number."""
    quarters = rounded(value)
    if key == "least":
        return (quarters - 1) // coarse * coarse + 1
    return -(-quarters // coarse) * coarse


def number(quarters: int) -> float:
    """2^(quarters/4), a little above it."""
    return math.ldexp(STEPS[quarters % 4], quarters // 4)


def bound_of(facts: Mapping[str, int] | None) -> Bound:
    """The bound of an array that its facts prove."""
    if facts is None or "size" not in facts:
        return UNKNOWN
    size = number(facts["size"])
    least = number(facts["least"]) * (1 - 2.0**-20) / STEPS[1] if "least" in facts else -size
    norm, blocks, matrix = math.inf, {}, {}
    for key, quarters in facts.items():
        kind, _, count = key.rpartition(" ")
        if key == "row":
            norm = number(quarters)
        elif kind == "row" and count.isdigit():
            blocks[int(count)] = number(quarters)
        elif key not in ("size", "least"):
            matrix[key] = number(quarters)
    return Bound(least, size, norm, blocks, matrix)
