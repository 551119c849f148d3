"""Products of two replicated values: local, masked by a zero-share (protocols.md, section 8).

z_i = x_i (y_i + y_{i+1}) + x_{i+1} y_i + F_i - F_{i+1}. For a matrix product that is one ring product with
twice the inner dimension. The result is a Sum3 with both operands' fraction bits; no message is sent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxpuma.mpc import ring
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.shares import Replicated, Sum3
from onnxpuma.mpc.words import Words


def zero_share(party: Party, shape: tuple[int, ...], bits: int) -> Words:
    """F_i - F_{i+1}: the three parties' words sum to zero, any one of them is uniform to the other two."""
    own = party.draw(party.index, shape, bits)
    own -= party.draw(party.index + 1, shape, bits)
    return own


def multiply(party: Party, x: Replicated, y: Replicated) -> Sum3:
    """Elementwise x * y with broadcasting, no message."""
    if x is y:
        words = x.first * (x.first + (x.second + x.second))
    else:
        words = x.first * y.total
        words += x.second * y.first
    words += zero_share(party, words.shape, x.bits)
    return Sum3(party.index, words, x.bits, x.fraction + y.fraction)


def matmul(party: Party, x: Replicated, y: Replicated) -> Sum3:
    """x @ y as numpy.matmul, no message. |result| < 2^(k-2) in fixed point is the caller's condition."""
    words = ring.matmul_pair(x.first, y.total, x.second, y.first)
    words += zero_share(party, words.shape, x.bits)
    return Sum3(party.index, words, x.bits, x.fraction + y.fraction)


def sum_of_squares(party: Party, x: Replicated, axes: tuple[int, ...]) -> Sum3:
    """The sum of x^2 over axes, kept as ones: one element a row leaves the party."""
    words = x.first * (x.first + (x.second + x.second))
    words = words.sum(axis=axes, keepdims=True, dtype=words.dtype)
    words += zero_share(party, words.shape, x.bits)
    return Sum3(party.index, words, x.bits, 2 * x.fraction)


def bilinear(party: Party, x: Replicated, y: Replicated, product: Callable[[Words, Words], Words]) -> Sum3:
    """Any bilinear map of two replicated values (a convolution, an einsum), no message."""
    words = product(x.first, y.total) + product(x.second, y.first)
    words = np.ascontiguousarray(words)
    words += zero_share(party, words.shape, x.bits)
    return Sum3(party.index, words, x.bits, x.fraction + y.fraction)
