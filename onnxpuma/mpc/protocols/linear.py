"""Products of two replicated values: local, no message and no PRF word (docs/protocols.md, "Products").

z_i = x_i (y_i + y_{i+1}) + x_{i+1} y_i, or the same with x and y exchanged [AFLNO16]. The components of
weights lie added (forms/weights.py); otherwise those of the smaller operand are added. For a matrix product
this is one ring product with twice the inner dimension. The result is a Sum3 with the fraction bits of both
operands. A protocol that sends its terms masks them first.
"""

from __future__ import annotations

from collections.abc import Callable

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
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
        x, y = (x, y) if _adds_second(x, y) else (y, x)
        words = x.first * y.total
        words += x.second * y.first
    return _product(party, words, x, y)


def matmul(party: Party, x: Replicated, y: Replicated) -> Sum3:
    """x @ y as numpy.matmul. Condition: the words of the result stay below 2^(k-2) in magnitude.

    Of a streamed y each component is taken as it comes: the sum is that of x's components, which are few.
    """
    if isinstance(y, Streamed) and not isinstance(x, Streamed):
        return _product(party, y.product(x.total, x.first, party.reading), x, y)
    if _adds_second(x, y):
        return _product(party, ring.matmul_pair(x.first, y.total, x.second, y.first), x, y)
    return _product(party, ring.matmul_pair(x.total, y.first, x.first, y.second), x, y)


def sum_of_squares(party: Party, x: Replicated, axes: tuple[int, ...]) -> Sum3:
    """The sum of x^2 over axes, which stay as axes of one: a party sends one element a row."""
    words = x.first * (x.first + (x.second + x.second))
    return _product(party, words.sum(axis=axes, keepdims=True, dtype=words.dtype), x, x)


def bilinear(party: Party, x: Replicated, y: Replicated, product: Callable[[Words, Words], Words]) -> Sum3:
    """Any bilinear map of two replicated values (a convolution, an einsum)."""
    if _adds_second(x, y):
        return _product(party, product(x.first, y.total) + product(x.second, y.first), x, y)
    return _product(party, product(x.total, y.first) + product(x.first, y.second), x, y)


def _adds_second(x: Replicated, y: Replicated) -> bool:
    """Whether y's components are to be added, instead of x's."""
    return isinstance(y, Weights) or (y.size <= x.size and not isinstance(x, Weights))


def _product(party: Party, words: Words, x: Replicated, y: Replicated) -> Sum3:
    if x.bits != y.bits:
        raise ProtocolError(f"a product of {x} and {y}", "bring both to one ring (modulo)")
    return Sum3(party.index, words, x.format.finer(y.fraction))
