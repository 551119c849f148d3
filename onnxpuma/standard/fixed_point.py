"""The scale of fixed point: rewriting rules, the planner and kernels count on the same digits."""

from __future__ import annotations

from typing import Final

FRACTION: Final = 18  # bits below the point of a real number between two steps [PUMA 5]
UNIT: Final = 2.0**-FRACTION  # one in the last place

# A weight of small numbers keeps further bits below the point (plan/weights/scaling.py).
LEAST_SPARE: Final = 6  # of the first finer scale; larger numbers have digits enough
MOST_SPARE: Final = 22  # of the finest: its product with a value leaves 6 bits of 64 above it

LOSS: Final = 64  # a number that rounding changes by more than one part in this many has lost its digits
UNSEEN_ROOT: Final = (UNIT / 2) ** 2  # the root of a smaller number is below half a unit
LEAST_DIVISOR: Final = 2.0**-13  # a divisor nearer to zero has fewer than five bits, and so has the quotient
