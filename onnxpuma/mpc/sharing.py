"""Sharing and opening: a data owner shares a value before the three servers compute, and opens it afterwards.

x = x_0 + x_1 + x_2 mod 2^k. Components 0 and 1 are key streams, so only x_2 needs bytes. All three lie
packed: k bits a word, in a stream as in the bytes of x_2. P_i holds components i and i + 1. Opening adds up
the three components, one from each server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import KEY_BYTES, AesStream, fresh_key
from onnxpuma.mpc.protocols.linear import zero_share
from onnxpuma.mpc.ring.words import WIDEST, Words, reduced

KEYED = (0, 1)
"""The components that are key streams."""


def components_of(party: int) -> tuple[int, int]:
    """The two components that this party holds."""
    return party, (party + 1) % 3


def component_stream(key: bytes, index: int = 0) -> AesStream:
    """The stream of one key for value number `index` of those dealt under it. The streams of two values never
    overlap: the upper half of the counter is the index, the lower half starts at 0.
    """
    return AesStream(key, index.to_bytes(KEY_BYTES // 2, "big") + bytes(KEY_BYTES // 2))


def deal(words: Words, streams: Iterable[AesStream], bits: int) -> Words:
    """Turn `words` in place into their component 2: subtract the next words of the two streams.

    streams: of components 0 and 1. A long value may be dealt in blocks, one call after the other, each but
    the last of a multiple of 8 words.
    """
    return _less(words, (stream.packed(words.shape, bits) for stream in streams))


def held(
    party: int,
    keys: Mapping[int, bytes],
    rest: Callable[[], Words],
    shape: tuple[int, ...],
    bits: int,
    index: int = 0,
) -> tuple[Words, Words]:
    """The two components that `party` holds of a value of this shape, in their order.

    keys: of those that are key streams. rest: reads component 2; called if the party holds it. index: as
    `component_stream` takes it.
    """
    first, second = (
        component_stream(keys[component], index).packed(shape, bits) if component in KEYED else rest()
        for component in components_of(party)
    )
    return first, second


def share(words: Words, bits: int = WIDEST) -> tuple[Words, Words, Words]:
    """Three components of `words` mod 2^bits, of which any two are independent of the words."""
    first, second = (component_stream(fresh_key()).draw(words.shape, bits) for _ in KEYED)
    return first, second, _less(words.astype(first.dtype), (first, second))


def _less(words: Words, components: Iterable[Words]) -> Words:
    for component in components:
        words -= component
    return words


def held_by(party: int, components: Sequence[Words], format: Format) -> Replicated:
    """The part of a shared value that one party holds."""
    first, second = (components[component] for component in components_of(party))
    return Replicated(party, first, second, format)


def outgoing(party: Party, x: Replicated | Sum3, format: Format) -> Sum3:
    """This party's term of x for the client that opens it: freshly masked by a zero-share, and shifted to the
    fraction bits of `format`.

    The parties need not truncate a product first: each shifts its own term. A client that adds up all three
    learns the truncated value, with the rounding of `Sum3.lowered`, and nothing about the bits below.
    """
    term = x.as_sum()
    words = zero_share(party, (x.size,), x.bits).reshape(x.shape)
    words += term.words
    return Sum3(party.index, words, x.format).lowered(max(x.fraction - format.fraction, 0))


def opened(components: Sequence[Words], bits: int) -> Words:
    """The value that has these three components, reduced mod 2^bits."""
    with np.errstate(over="ignore"):
        return reduced(sum(components[1:], components[0]), bits)
