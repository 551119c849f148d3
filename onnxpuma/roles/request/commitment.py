"""The commitment that a client's requests carry while it uses canaries, and what opens one.

All of them look alike: 32 bytes. That of an ordinary request is random, and nobody can open it; that of a
canary is the digest of 32 random bytes, which its client shows when the answer was wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from onnxpuma.errors import InputError
from onnxpuma.mpc.prf import framed
from onnxpuma.plan.blueprint import Blueprint

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


def check_auditable(blueprint: Blueprint) -> None:
    """InputError for a model whose sessions no audit can look into."""
    if blueprint.noised is not None:
        raise InputError(
            "the model's owner adds noise to answers, so no answer is known before",
            "use no canaries with this model",
        )
    if not blueprint.owner_key:
        raise InputError(
            "the model names no owner's key to which servers could seal what they hand over",
            "its owner makes one with `onnxpuma keygen --owner` and shares the model with --owner",
        )
