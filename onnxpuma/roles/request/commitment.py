"""The commitment that a client's requests carry while it uses canaries, and what opens one.

All of them look alike: 32 bytes. That of an ordinary request is random, and nobody can open it; that of a
canary is the digest of 32 random bytes, which its client shows when the answer was wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from onnxpuma.mpc.prf import framed

COMMITMENT_BYTES = 32
OPENING_BYTES = 32


def unopenable() -> bytes:
    """A commitment of an ordinary request."""
    return os.urandom(COMMITMENT_BYTES)


def fresh_opening() -> bytes:
    """What opens the commitment of one canary's request."""
    return os.urandom(OPENING_BYTES)


def commitment_of(opening: bytes) -> bytes:
    """The commitment that `opening` opens, COMMITMENT_BYTES long."""
    return hashlib.sha256(framed(b"onnxpuma canary", opening)).digest()


def is_opened(commitment: bytes, opening: bytes) -> bool:
    """Whether `opening` opens this commitment."""
    return len(opening) == OPENING_BYTES and hmac.compare_digest(commitment_of(opening), commitment)
