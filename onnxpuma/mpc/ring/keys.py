"""The stream of a key, AES-128 in counter mode, made by the kernel where the processor has vector AES."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from onnxpuma.mpc.ring.native import native

BLOCK_BYTES = 16  # of AES
_PIECE = 1 << 18  # bytes that the library makes at a time: the zeros that it encrypts stay in the cache
_ZEROS = memoryview(bytes(_PIECE))


def key_stream(key: bytes, index: int, block: int, out: memoryview) -> None:
    """Overwrite `out` with the stream of a key of 16 bytes, from block number `block` of array number `index`
    on: the counter is index 2^64 + block, most significant byte first.

    Cost: a block of AES for 16 bytes; benchmarks/stream.py measures it. Where the kernel makes it, Python's
    lock is free meanwhile.
    """
    kernel = native()
    if kernel is not None and kernel.key_stream(key, index, block, out):
        return
    counter = (index << 64 | block).to_bytes(BLOCK_BYTES, "big")
    stream = Cipher(AES(key), CTR(counter)).encryptor()
    for place in range(0, len(out), _PIECE):
        piece = out[place : place + _PIECE]
        stream.update_into(_ZEROS[: len(piece)], piece)
