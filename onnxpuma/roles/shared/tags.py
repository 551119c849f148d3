"""A tag for each array of words, by which a reader knows that they are those that were dealt.

The owner draws one secret at each sharing. HKDF derives from it a one-time key for each array, and Poly1305
under that key is the array's tag [Poly1305]: at several gigabytes a second it costs less than reading a
disk does. Secret and tags are in the key files of the two parties that hold the words. The file of words
itself may therefore come from anywhere: without the secret nobody can change a word of it unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.poly1305 import Poly1305

SECRET_BYTES = 32
TAG_BYTES = 16
_KEY_BYTES = 32


class Tagging:
    """The tag of one array, computed as its packed bytes pass, from the first to the last."""

    def __init__(self, secret: bytes, name: str) -> None:
        derive = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"onnxpuma words " + name.encode())
        self._state = Poly1305(derive.derive(secret))

    def update(self, data: memoryview) -> None:
        """The next bytes."""
        self._state.update(data)

    def finish(self) -> bytes:
        """The tag, after the last byte."""
        return self._state.finalize()


@dataclass(frozen=True)
class Tags:
    """The tags of all arrays of one sharing, and the secret under which they were made."""

    secret: bytes = field(repr=False)
    tags: Mapping[str, bytes] = field(repr=False)  # by array, in the order of the words

    def tagging(self, name: str) -> Tagging:
        """A new computation of the tag of this array."""
        return Tagging(self.secret, name)

    @property
    def code(self) -> bytes:
        """SHA-256 over secret, names and tags. Two parties with the same code accept the same words alone, so
        they compare components without reading them."""
        total = hashlib.sha256(self.secret)
        for name, tag in self.tags.items():
            total.update(len(name.encode()).to_bytes(8, "little") + name.encode() + tag)
        return total.digest()
