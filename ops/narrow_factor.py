"""Products with a weight stored in few bits: how they read their other factor.

A weight mod 2^k is multiplied mod 2^k. So the other factor is read mod 2^k as well, at as few fraction bits
as leave room for the product: it is lowered locally, without a message (docs/protocols.md, "Narrow weights").
"""

from __future__ import annotations

from dataclasses import replace

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.limits import Limit, output_in_product
from onnxpuma.ops.registry import Call, Operand, Use

WIDTHS = (32, 40, 48, RESTING.bits)
"""Bits in which a weight may be stored."""

LEAST_READ = 10
"""The fewest fraction bits at which a product reads its other factor."""

READ_LARGE = 12
"""The fewest in a large model, unless its owner names a width."""

LEAST_STORED = 13
"""The fewest fraction bits of such a weight."""

CALIBRATED = "product"
"""The key under which calibration records how large a product with a weight becomes (`Limit.key`)."""

_UNLIKELY = 2.0**16  # a weight whose products may be larger by their bounds gets no narrow ring from them
_ERROR = 2.0 ** (1 - LEAST_READ)  # of an element that is read at these bits


def limits(call: Call) -> tuple[Limit, ...]:
    """The range of a product; calibration records how much of it is used where bounds say little."""
    found = output_in_product(call)
    stored = any(o.weight for o in call.secrets) and len(call.secrets) > 1
    if not stored or call.outputs[0].bound.size < _UNLIKELY:
        return found
    return tuple(replace(limit, key=CALIBRATED) for limit in found)


def is_stored_narrow(operand: Operand | None) -> bool:
    """Whether this is a factor that is stored in fewer bits than values rest in."""
    return operand is not None and operand.reads > 0 and operand.format.bits < RESTING.bits


def lowering(call: Use, place: int) -> int:
    """The fraction bits that a factor, input 0 or 1, loses before the product."""
    factor, other = call.given(place), call.given(1 - place)
    if factor.weight or not is_stored_narrow(other):
        return 0
    return max(0, factor.fraction - other.reads)


def product_format(call: Use) -> Format:
    """The format of the product of two secret inputs."""
    formats = [call.given(place).format for place in (0, 1)]
    read = [f.lowered(lowering(call, place)) for place, f in enumerate(formats)]
    more = any(call.given(place).doubled for place in (0, 1))
    return Format(min(f.bits for f in read), sum(f.fraction for f in read) + more)


def accepted(call: Call, place: int) -> Format:
    """A factor is read in the ring of the product, with the bits that it loses."""
    bits = call.outputs[0].format.bits + lowering(call, place)
    return Format(bits, call.given(place).fraction)


def read(call: Use, place: int, x: Replicated) -> Replicated:
    """A factor as the product reads it."""
    return x.lowered(lowering(call, place))


def as_read(call: Use, place: int, bound: Bound) -> Bound:
    """The bound of a factor as it is read beside a narrow weight, whose bits may leave out some of it."""
    factor, other = call.given(place), call.given(1 - place)
    if factor.weight or not other.reads:
        return bound
    return bound.around(_ERROR, factor.shape[-1] if factor.shape else 1)
