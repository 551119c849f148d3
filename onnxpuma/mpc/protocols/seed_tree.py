"""Trees of seeds: two holders expand them to equal seeds off one path, and to unrelated ones on it [BGI16].

A seed has 128 bits, in two halves; two of its bits are given up for the control bits of a level. The PRG is
AES-128 with a fixed key in Matyas-Meyer-Oseas form, as usual for this construction: AES(s) xor s.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from onnxpuma.mpc.ring.arrays import constants, contiguous, empty
from onnxpuma.mpc.ring.words import Words, word, word_type

HALF = 64  # bits of half a seed, which is a block of AES
SEED = constants([0xFFFFFFFFFFFFFFFC, 0xFFFFFFFFFFFFFFFF], HALF)  # two bits of a seed carry corrections
ONE = word(1, HALF)
Prg: TypeAlias = "Cipher[ECB]"
# Public constants: any different AES keys do.
_KEYS = [bytes([tag]) * 16 for tag in range(1, 6)]
LEFT, RIGHT, LEAF, NUMBER, FACTOR = (Cipher(AES(key), ECB()) for key in _KEYS)
PATH_KEYS = b"".join((*_KEYS[:2], *_KEYS[3:]))  # of LEFT, RIGHT, NUMBER and FACTOR
ROW_KEYS = b"".join(_KEYS[:3])  # of LEFT, RIGHT and LEAF


def expanded(prg: Prg, seeds: Words) -> Words:
    """A block for each of (..., 2) halves of seeds."""
    seeds = contiguous(seeds)
    out = empty(seeds.size + 2, HALF)
    plain, expanding = (memoryview(cast(Any, words.reshape(-1).view(word_type(8)))) for words in (seeds, out))
    prg.encryptor().update_into(plain, expanding)
    blocks = out[: seeds.size].reshape(seeds.shape)
    blocks ^= seeds
    return blocks


def child(prg: Prg, seeds: Words) -> tuple[Words, Words]:
    """(seed, control bit); the seed loses that bit."""
    found = expanded(prg, seeds)
    bit = found[..., 0] & ONE
    found[..., 0] ^= bit
    return found, bit


def descend(seeds: Words, bits: Words, right: Words) -> tuple[Words, Words, Words]:
    """A dealer's step down the path: (correction, seeds, control bits).

    seeds: both holders', (2, n, 2); bits: their control bits, (2, n), of which one of each two is set; right:
    whether the path turns right, (n,). The correction, (n, 2), is the same for both holders; its lowest two
    bits correct control bits.
    """
    on_right = right.astype(bool)
    left, left_bit = child(LEFT, seeds)
    other, right_bit = child(RIGHT, seeds)
    # both holders must get equal children off the path, and different ones on it
    lost = np.where(on_right[:, None], left, other)
    left_fix = left_bit[0] ^ left_bit[1] ^ right ^ ONE
    right_fix = right_bit[0] ^ right_bit[1] ^ right
    correction = (lost[0] ^ lost[1]) & SEED
    correction[:, 0] |= left_fix | (right_fix << ONE)
    grown = np.where(on_right[:, None], other, left) ^ (correction & -bits[..., None])
    fix = np.where(on_right, right_fix, left_fix) & bits
    return correction, grown & SEED, np.where(on_right, right_bit, left_bit) ^ fix


def corrected(prg: Prg, seeds: Words, bits: Words, correction: Words) -> tuple[Words, Words]:
    """A holder's step to the child of (..., 2) seeds on the side of `prg`: (seeds, control bits)."""
    grown, bit = child(prg, seeds)
    fix = (correction[..., 0] >> word(int(prg is RIGHT), HALF)) & bits & ONE
    return (grown ^ (correction & -bits[..., None])) & SEED, bit ^ fix
