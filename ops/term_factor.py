"""A product of two secret values of which one is an activation left as terms (plan/terms.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Form, Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.pivots import over_parts, spread_all
from onnxpuma.mpc.protocols.smooth import LEAST
from onnxpuma.mpc.protocols.term_product import product_of_terms, product_of_terms_cost
from onnxpuma.ops.limits import ROOM
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.ops.rows import exponent

READ = 15  # fraction bits at which the other factor is read, as many as an activation has


def place_of_terms(call: Call) -> int | None:
    """Which factor of a product is left as terms; None if neither is."""
    if not (call.secret(0) and call.secret(1)):
        return None
    return next((place for place in (0, 1) if call.given(place).form is Sum3), None)


def formats_of_other(call: Call) -> list[Format]:
    """The formats in which the other factor has just the bits of the product.

    The first is the least ring for its proved bound, from which the product is widened; in the second the
    product keeps all bits of the result.
    """
    _, y = _factors(call)
    return [Format(bits, _read(y).fraction) for bits in _rings(call)]


def has_room(call: Call) -> bool:
    """Whether the other factor has the bits of the product."""
    return bool(_ways(call))


def term_product_cost(call: Call) -> Cost:
    """The cost of `term_product`."""
    ways = _ways(call)
    return ways[call.network.fastest(ways)]


def term_product(party: Party, call: Call, *values: Form) -> Protocol[Replicated]:
    """x * y, in the format in which the product rests. Error: a unit of 2^-15 of y, times x, in addition."""
    x, y = _factors(call)
    bits, made = call.network.fastest(_ways(call)), call.outputs[0].resting
    place = place_of_terms(call)
    assert place is not None
    least = math.floor(LEAST * (1 << x.fraction))

    def each(parts: Sequence[Form], pivot: int) -> Protocol[list[Replicated]]:
        terms, other = parts
        assert isinstance(terms, Sum3)
        assert isinstance(other, Replicated)
        return [(yield from product_of_terms(party, terms, other, pivot, bits, made, least))]

    terms, other = values[place], values[1 - place]
    assert isinstance(other, Replicated)
    lowered = other.lowered(y.fraction - _read(y).fraction)
    (found,) = yield from spread_all(party, [terms, lowered], each)
    return found


def _factors(call: Call) -> tuple[Operand, Operand]:
    """The one that is left as terms, and the other."""
    place = place_of_terms(call)
    assert place is not None
    return call.given(place), call.given(1 - place)


def _read(y: Operand) -> Format:
    return y.format.lowered(max(y.fraction - READ, 0))


def _rings(call: Call) -> list[int]:
    """The rings in which the product may be multiplied.

    None without a bound of it, or where lowering y takes more than the room that all bounds have.
    """
    x, y = _factors(call)
    made, read = call.outputs[0], _read(y)
    fraction = x.fraction + read.fraction
    shift = fraction - made.resting.fraction
    lost = x.bound.size * 2.0 ** (1 - read.fraction) if read.fraction < y.fraction else 0.0
    if shift < 0 or not lost < ROOM / 4 * (1 + made.bound.size) < math.inf:
        return []
    least = max(fraction + 2 + exponent(made.bound.size * (1 + ROOM) + ROOM), x.format.bits + 1)
    rings = dict.fromkeys((least, max(least, made.resting.bits + shift)))
    return [bits for bits in rings if bits <= RESTING.bits]


def _ways(call: Call) -> dict[int, Cost]:
    """What the product costs in each ring of which the other factor has all bits."""
    x, y = _factors(call)
    read, made = _read(y), call.outputs[0]

    def cost(bits: int) -> Cost:
        return over_parts(
            made.size, lambda n: product_of_terms_cost(n, x.format, read.fraction, bits, made.resting)
        )

    return {bits: cost(bits) for bits in _rings(call) if bits <= read.bits}
