"""Sharing and opening: what a data owner does with a value before and after the three servers.

x = x_0 + x_1 + x_2 mod 2^k; components 0 and 1 are PRF expansions, so only x_2 needs bytes. P_i is given
components i and i + 1. Opening adds the three components up; one comes from each server.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import AesStream, fresh_key
from onnxpuma.mpc.protocols.linear import zero_share
from onnxpuma.mpc.ring.words import Words, reduced


def share(words: Words, bits: int = 64) -> tuple[Words, Words, Words]:
    """Three components of `words` mod 2^bits, any two of them independent of it."""
    first = AesStream(fresh_key()).draw(words.shape, bits)
    second = AesStream(fresh_key()).draw(words.shape, bits)
    with np.errstate(over="ignore"):
        return first, second, words.astype(first.dtype) - first - second


def held_by(party: int, components: Sequence[Words], format: Format) -> Replicated:
    """The part of a shared value that one party is given."""
    return Replicated(party, components[party], components[(party + 1) % 3], format)


def outgoing(party: Party, x: Replicated | Sum3, fraction: int) -> Sum3:
    """This party's term of x, masked afresh by a zero-share and shifted to `fraction` fraction bits: for the
    one who may open x.

    A product needs no truncation among the parties first: each shifts its own term, and whoever adds the
    three up learns the truncated value with the rounding of `Sum3.lowered`, nothing of the bits below.
    """
    if isinstance(x, Replicated):
        x = Sum3(party.index, x.first, x.format)
    words = zero_share(party, (x.size,), x.bits).reshape(x.shape)
    words += x.words
    return Sum3(party.index, words, x.format).lowered(max(x.fraction - fraction, 0))


def opened(components: Sequence[Words], bits: int) -> Words:
    """The value whose components these are, all of them, reduced mod 2^bits."""
    with np.errstate(over="ignore"):
        return reduced(sum(components[1:], components[0]), bits)
