"""Products of two replicated values: local, no message and no PRF word (docs/protocols.md, "Products").

z_i = x_i (y_i + y_{i+1}) + x_{i+1} y_i, or the same with x and y exchanged [AFLNO16]. The components of the
smaller operand are added; of weights the words that lie stored are multiplied (forms/weights.py). For a
matrix product this is one ring product with twice the inner dimension. The result is a Sum3 with the fraction
bits of both operands. A protocol that sends its terms masks them first.

A product that is doubled takes half of that, one ring product at each party:

    2 x y = -2 (x_0 - x_1)(y_0 - y_1) + (2 x_1 + x_2)(2 y_1 + y_2) + (x_2 + 2 x_0)(y_2 + 2 y_0)

It has one more fraction bit, and half the range. No three terms of this kind add up to x y itself: mod 2 all
four coefficients of each would be 1, and x_0 y_0 would occur twice.
"""

from __future__ import annotations

from collections.abc import Callable

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.ring.words import Words


def zero_share(party: Party, shape: tuple[int, ...], bits: int) -> Words:
    """F_i - F_{i+1} [AFLNO16]: the three parties' words add up to zero, and each is uniform to the others."""
    own = party.draw(party.index, shape, bits)
    own -= party.draw(party.index + 1, shape, bits)
    return own


def multiply(party: Party, x: Replicated, y: Replicated) -> Sum3:
    """Elementwise x * y with broadcasting."""
    if x is y:
        words = x.first * (x.first + (x.second + x.second))
    else:
        x, y = (x, y) if y.size <= x.size else (y, x)
        words = x.first * y.total
        words += x.second * y.first
    return _product(party, words, x, y)


def matmul(party: Party, x: Replicated, y: Replicated) -> Sum3:
    """x @ y as numpy.matmul. Condition: the words of the result stay below 2^(k-2) in magnitude.

    Of a streamed y each component is taken as it comes: the sum is that of x's components, which are few.
    """
    if isinstance(y, Streamed) and not isinstance(x, Streamed):
        return _product(party, y.product(x.total, x.first, party.reading), x, y)
    if isinstance(y, Weights):
        by_kept, by_blend = y.factors(x)
        return _product(party, ring.matmul_pair(by_kept, y.kept, by_blend, y.blend, bits=x.bits), x, y)
    if isinstance(x, Weights):
        by_kept, by_blend = x.factors(y)
        return _product(party, ring.matmul_pair(x.kept, by_kept, x.blend, by_blend, bits=x.bits), x, y)
    if y.size <= x.size:
        return _product(party, ring.matmul_pair(x.first, y.total, x.second, y.first, bits=x.bits), x, y)
    return _product(party, ring.matmul_pair(x.total, y.first, x.first, y.second, bits=x.bits), x, y)


def doubled_matmul(party: Party, x: Replicated, y: Replicated) -> Sum3:
    """x @ y as words of 2 x y with one more fraction bit, in half the time of `matmul`.

    Condition: the words of x @ y stay below 2^(k-3) in magnitude. Of a streamed y the blend is made as its
    components come, and x is the factor that takes the -2.
    """
    made = x.format.finer(y.fraction + 1)
    if isinstance(y, Streamed) and not isinstance(x, Streamed):
        left = x.blend
        left = -(left + left) if party.index == 0 else left
        return _product(party, y.doubled_product(left, party.reading), x, y, made)
    left, right = x.blend, y.blend
    if party.index == 0:
        smaller = left if left.size <= right.size else right
        both = -(smaller + smaller)
        left, right = (both, right) if smaller is left else (left, both)
    return _product(party, ring.matmul(left, right, bits=x.bits), x, y, made)


def sum_of_squares(party: Party, x: Replicated, axes: tuple[int, ...]) -> Sum3:
    """The sum of x^2 over axes, which stay as axes of one: a party sends one element a row."""
    words = x.first * (x.first + (x.second + x.second))
    return _product(party, words.sum(axis=axes, keepdims=True, dtype=words.dtype), x, x)


def bilinear(party: Party, x: Replicated, y: Replicated, product: Callable[[Words, Words], Words]) -> Sum3:
    """Any bilinear map of two replicated values (a convolution, an einsum)."""
    if y.size <= x.size:
        return _product(party, product(x.first, y.total) + product(x.second, y.first), x, y)
    return _product(party, product(x.total, y.first) + product(x.first, y.second), x, y)


def _product(party: Party, words: Words, x: Replicated, y: Replicated, made: Format | None = None) -> Sum3:
    if x.bits != y.bits:
        raise ProtocolError(f"a product of {x} and {y}", "bring both to one ring (modulo)")
    return Sum3(party.index, words, made or x.format.finer(y.fraction))
