"""Models whose values rest in fewer bits than a word: the formats that a blueprint may declare.

A narrower ring makes shares, exchanges and lifts shorter, and leaves less room above a product. Operators
that need more refuse a narrow value by name when a request is planned (`Operator.narrow`).
"""

from __future__ import annotations

from onnxpuma.errors import ConfigError
from onnxpuma.mpc.format import RESTING, Format

LEAST_BITS = 40  # a product of two values keeps two bits above the point, besides sign and room for the lift


def is_narrow(resting: Format) -> bool:
    return resting.bits < RESTING.bits


def fits(resting: Format) -> bool:
    """Whether values may rest in this format: tables and error bounds are made for its fraction bits."""
    return resting.fraction == RESTING.fraction and LEAST_BITS <= resting.bits <= RESTING.bits


def check_resting(resting: Format) -> None:
    """ConfigError unless values may rest in this format."""
    if not fits(resting):
        raise ConfigError(
            f"values cannot rest in {resting.bits} bits, {resting.fraction} of them below the point",
            f"choose {LEAST_BITS} to {RESTING.bits} bits, {RESTING.fraction} of them below the point",
        )
