"""Sharing and opening: what a data owner does with a value before and after the three servers.

x = x_0 + x_1 + x_2 mod 2^k; components 0 and 1 are PRF expansions, so only x_2 needs bytes. P_i is given
components i and i + 1. Opening adds the three components up; one comes from each server.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxpuma.mpc.prf import AesStream, fresh_key
from onnxpuma.mpc.shares import Replicated
from onnxpuma.mpc.words import Words, reduced


def share(words: Words, bits: int = 64) -> tuple[Words, Words, Words]:
    """Three components of `words` mod 2^bits, any two of them independent of it."""
    first = AesStream(fresh_key()).draw(words.shape, bits)
    second = AesStream(fresh_key()).draw(words.shape, bits)
    return first, second, words.astype(first.dtype) - first - second


def held_by(party: int, components: Sequence[Words], bits: int, fraction: int) -> Replicated:
    """The part of a shared value that one party is given."""
    return Replicated(party, components[party], components[(party + 1) % 3], bits, fraction)


def opened(components: Sequence[Words], bits: int) -> Words:
    """The value whose three components these are, reduced mod 2^bits."""
    return reduced(components[0] + components[1] + components[2], bits)
