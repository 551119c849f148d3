"""The scale of fixed point: rewriting rules, the planner and kernels rely on the same digits."""

from __future__ import annotations

from typing import Final

FRACTION: Final = 18  # bits below the point of a real number between two steps [PUMA 5]
UNIT: Final = 2.0**-FRACTION  # one in the last place

# A weight of small numbers keeps further bits below the point (plan/weights/scaling.py).
LEAST_SPARE: Final = 6  # of the first finer scale; larger numbers have digits enough
MOST_SPARE: Final = 22  # of the finest; 6 bits remain above the point of its products

LOSS: Final = 64  # a number that rounding changes by more than one part in this many has lost its digits
SEEN_ROOT: Final = 2.0**-30  # the root of a smaller number is eight units at most
FIVE_BITS: Final = 2.0**-13  # a number of at least this has five bits; no divisor is smaller
