"""The stream of a key is AES-128-CTR, whatever makes it and wherever it begins."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring import set_threads, threads

SIZES = [0, 1, 15, 16, 17, 191, 192, 193, 383, 5000, (1 << 18) + 5, (1 << 20) + 7]


def library(key: bytes, index: int, block: int, size: int) -> bytes:
    counter = (index << 64 | block).to_bytes(16, "big")
    return Cipher(AES(key), CTR(counter)).encryptor().update(bytes(size))


def stream(key: bytes, index: int, block: int, size: int) -> bytes:
    """Also sees that nothing beside the room is touched."""
    room = bytearray(b"\xa5" * (size + 64))
    ring.key_stream(key, index, block, memoryview(room)[32 : 32 + size])
    assert room[:32] == room[32 + size :] == b"\xa5" * 32
    return bytes(room[32 : 32 + size])


def test_the_vectors_of_the_standard(level: str) -> None:
    """NIST SP 800-38A, F.5.1: the key stream of its first two blocks; the counter carries."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    found = stream(key, 0xF0F1F2F3F4F5F6F7, 0xF8F9FAFBFCFDFEFF, 32)
    assert found.hex() == "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae"


@pytest.mark.parametrize("block", [0, 1, 250, 2**16 - 3, 2**32 - 2, 2**56 - 5, 2**63])
@pytest.mark.parametrize("index", [0, 7, 2**40 + 3, 2**64 - 1])
def test_any_part_of_any_array(level: str, index: int, block: int) -> None:
    key = np.random.default_rng(index % 1000 + block % 1000).bytes(16)
    for size in SIZES:
        assert stream(key, index, block, size) == library(key, index, block, size), size


def test_threads_share_a_long_stream(level: str) -> None:
    before = threads()
    set_threads(3)
    try:
        assert stream(bytes(range(16)), 5, 9, 3_000_001) == library(bytes(range(16)), 5, 9, 3_000_001)
    finally:
        set_threads(before)
