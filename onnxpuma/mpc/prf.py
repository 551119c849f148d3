"""Pairwise PRF streams: AES-128 in counter mode, one key for each pair of parties and session.

P_j and P_{j-1} hold component j of a replicated value, and share the key K_j [AFLNO16; PUMA]
(docs/protocols.md, "Setting"). Both draw from its stream in the same order, so a word that both derive costs
no message. Each byte of a stream is used once. Both holders contribute randomness to their key [HKDF], so no
single random generator decides it.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.arrays import empty, within
from onnxpuma.mpc.ring.keys import BLOCK_BYTES, key_stream
from onnxpuma.mpc.ring.places import Places, as_bytes, drawn
from onnxpuma.mpc.ring.words import Words, word_type

KEY_BYTES = 16
PART_BYTES = 32  # of randomness that one party contributes to a key
_AHEAD = 1 << 16  # bytes drawn at once for short draws
_SHORT = 1 << 12  # bytes of the longest of them


class Stream(Protocol):
    """A source of words that its holders derive alike."""

    def draw(self, shape: tuple[int, ...], bits: int) -> Words: ...

    def draw_all(self, places: Places) -> None: ...


def fresh_key() -> bytes:
    """A new random PRF key."""
    return secrets.token_bytes(KEY_BYTES)


def fresh_part() -> bytes:
    """One party's randomness for a key that several parties derive."""
    return secrets.token_bytes(PART_BYTES)


def derived_key(parts: Sequence[bytes], *context: bytes) -> bytes:
    """A PRF key from the parts of several parties, PART_BYTES each, in an order that they agree on [HKDF].

    It is unpredictable if one part is. context: the use of the key; a different context, in any place, yields
    an unrelated key.
    """
    info = framed(b"onnxpuma key", *context)
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(b"".join(parts))


def framed(*items: bytes) -> bytes:
    """The items as one string, each after its length: other items give another string."""
    return b"".join(len(item).to_bytes(8, "little") + item for item in items)


class AesStream:
    """Words from AES-CTR under one key, each key-stream byte used once.

    nonce: the counter of the first block, most significant byte first; its low 8 bytes count up, and do not
    run over. Short draws are cut from a piece of the stream that is computed at once; the rest of a piece
    that is too short for the next of them is passed over.
    """

    def __init__(self, key: bytes, nonce: bytes = bytes(16)) -> None:
        self._key = key
        self._index, self._block = divmod(int.from_bytes(nonce, "big"), 1 << 64)
        self._rest = memoryview(b"")  # of a block that was begun
        self._ahead = empty(0, 8)
        self._left = 0  # bytes of it that are not drawn yet, a multiple of 8

    def fill(self, out: np.ndarray) -> None:
        """Overwrite a contiguous array with the next bytes of the stream."""
        self._fill(as_bytes(out))

    def _fill(self, view: memoryview) -> None:
        if self._rest:
            begun = min(len(view), len(self._rest))
            view[:begun], self._rest = self._rest[:begun], self._rest[begun:]
            view = view[begun:]
        if view:
            self._go_on(view)

    def _go_on(self, view: memoryview) -> None:
        """Fill the view from the next block on."""
        key_stream(self._key, self._index, self._block, view)
        whole, odd = divmod(len(view), BLOCK_BYTES)
        self._block += whole
        if odd:
            last = empty(BLOCK_BYTES, 8).data
            key_stream(self._key, self._index, self._block, last)
            self._block, self._rest = self._block + 1, last[odd:]

    def draw(self, shape: tuple[int, ...], bits: int) -> Words:
        """Uniform words of Z_2^bits; the bits of the word type above `bits` are random as well.

        Both holders of the key get the same words, high bits included, so neither needs to clear them.
        """
        size = math.prod(shape) * word_type(bits).itemsize
        if size > _SHORT:
            out = empty(shape, bits)
            self.fill(out)
            return out
        offset = self._cut(size)
        return within(self._ahead, offset, shape, bits)

    def draw_all(self, places: Places) -> None:
        """Overwrite arrays with what draws of as many bytes each would yield, one after the other."""
        if places.longest <= _SHORT and 0 < places.total <= self._left:
            places.fill(self._ahead, _AHEAD - self._left)
            self._left -= places.total
            return
        for view in places.views:
            size = len(view)
            if size > _SHORT:
                self._fill(view)
            else:
                offset = self._cut(size)
                view[:] = self._ahead.data[offset : offset + size]

    def _cut(self, size: int) -> int:
        """Where in the piece that is computed ahead the bytes of a short draw begin."""
        if size > self._left or not self._left:
            self._ahead = empty(_AHEAD, 8)
            self.fill(self._ahead)
            self._left = _AHEAD
        offset = _AHEAD - self._left
        self._left -= drawn(size)
        return offset

    def packed(self, shape: tuple[int, ...], bits: int) -> Words:
        """Uniform words of Z_2^bits that lie in the stream as `ring.pack` lays them, `bits / 8` bytes a word.

        So the stream's bytes stand for words anywhere: whoever seeks in it finds a word by its number. A
        long value may be drawn in pieces, each but the last of a multiple of 8 words.
        """
        stream = empty(-(-math.prod(shape) * bits // 8), 8)
        self.fill(stream)
        return ring.unpack(stream, bits, shape)


class PartyKeys:
    """The two streams that P_i holds, of K_i and K_{i+1}."""

    def __init__(self, streams: Mapping[int, Stream], keys: Mapping[int, bytes] | None = None) -> None:
        self._streams = dict(streams)
        self._keys = dict(keys or {})

    @classmethod
    def from_keys(cls, party: int, own: bytes, following: bytes, nonce: bytes = bytes(16)) -> PartyKeys:
        """Streams of P_party from its two keys, K_party and K_{party+1}."""
        keys = {party: own, (party + 1) % 3: following}
        return cls({component: AesStream(key, nonce) for component, key in keys.items()}, keys)

    def draw(self, key: int, shape: tuple[int, ...], bits: int) -> Words:
        """The next words of K_key. Raises KeyError if this party does not hold it."""
        return self._streams[key].draw(shape, bits)

    def draw_all(self, key: int, places: Places) -> None:
        """Overwrite arrays with the next draws of K_key, a draw each."""
        self._streams[key].draw_all(places)

    def secrets(self) -> dict[int, bytes]:
        """The two keys, by component: for the audit of a canary by the model's owner, and for nobody else."""
        return dict(self._keys)

    def code(self, key: int, *context: bytes) -> bytes:
        """32 bytes that the two holders of K_key alone can compute: a commitment to it, or a key for another
        purpose. context: the use; another one yields an unrelated code."""
        return hmac.digest(self._keys[key], framed(b"onnxpuma code", *context), "sha256")


def local_keys() -> list[PartyKeys]:
    """Keys of three parties in one process, for tests and for the in-memory session."""
    keys = [fresh_key() for _ in range(3)]
    return [PartyKeys.from_keys(party, keys[party], keys[(party + 1) % 3]) for party in range(3)]
