"""Truncations of whole operands, spread over the three pivots (mpc/protocols/pivots.py), and their costs."""

from __future__ import annotations

from onnxpuma.mpc.cost import FREE, Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.pivots import over_parts, spread
from onnxpuma.mpc.protocols.truncate import resolve, resolve_cost
from onnxpuma.ops.registry import Operand


def truncated(party: Party, x: Shares, format: Format | None = None) -> Protocol[Replicated]:
    """The truncation of a product, or of a value at another scale, to a Replicated value: in this format, or
    as a real number rests in x's ring."""
    format = format or x.format.at(RESTING.fraction)
    if isinstance(x, Replicated) and x.format == format:
        return x
    return (yield from spread(party, x, lambda part, pivot: resolve(party, part, pivot, format)))


def truncated_cost(operand: Operand) -> Cost:
    if operand.form is Replicated and operand.format == operand.resting:
        return FREE
    shift, made = operand.fraction - operand.resting.fraction, operand.resting.bits
    return shift_cost(operand.size, shift, operand.format.bits, operand.form, made)


def shift_cost(size: int, shift: int, ring: int, form: type = Sum3, bits: int | None = None) -> Cost:
    """The truncation by `shift` bits of `size` elements mod 2^ring, spread over the pivots; bits: of the
    result's ring, where it differs."""
    return over_parts(size, lambda n: resolve_cost(n, shift, ring, form, bits))
