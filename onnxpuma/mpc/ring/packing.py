"""Words of so many bits each as a stream of bits, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.words import WIDEST, Words, word_type


def pack(words: Words, bits: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The low `bits` of every word as a stream of bits, ceil(n * bits / 8) bytes.

    Element i is bits [i * bits, (i + 1) * bits) of the stream, least significant first; bit j of the stream
    is bit j mod 8 of byte j div 8. Zeros fill the last byte. Where `bits` is the whole width of contiguous
    words, the result is a view of them.
    """
    if words.dtype.kind != "u" or not 1 <= bits <= 8 * words.dtype.itemsize:
        raise ProtocolError(
            f"{bits} bits of each {words.dtype}", "pack unsigned words of at least as many bits"
        )
    words = laid_out(words)
    if bits == 8 * words.dtype.itemsize:
        return np.ndarray(words.nbytes, np.uint8, words)
    kernel = native()
    if kernel is None:
        return fallback.pack(words, bits)
    out = np.empty((words.size * bits + 7) // 8, np.uint8)
    kernel.pack(words, bits, out)
    return out


def unpack(buffer: Any, bits: int, shape: tuple[int, ...]) -> Words:
    """The words of a stream that `pack` made, in the narrowest type for `bits`.

    buffer: any object with the buffer protocol, of exactly the bytes that `pack` yields for this shape. Where
    `bits` is 8, 16, 32 or 64 and the buffer is aligned, the result is a view of it, read-only if it is.
    """
    stream = np.frombuffer(buffer, np.uint8)
    if not 1 <= bits <= WIDEST or stream.size != (math.prod(shape) * bits + 7) // 8:
        raise ProtocolError(
            f"{stream.size} bytes are not {math.prod(shape)} words of {bits} bits",
            "unpack with the bits and the shape of the packed words",
        )
    kind = word_type(bits)
    if bits == 8 * kind.itemsize:
        return laid_out(np.ndarray(shape, kind, stream))
    out = np.empty(shape, kind)
    unpack_into(stream, bits, out)
    return out


def unpack_into(buffer: Any, bits: int, out: Words) -> None:
    """`unpack` to an array, which is contiguous and of the narrowest type for `bits`."""
    kernel = native()
    if kernel is None:
        out[...] = fallback.unpack(np.frombuffer(buffer, np.uint8), bits, out.shape)
    else:
        kernel.unpack(buffer, bits, out)


def laid_out(words: Words) -> Words:
    """The words as the kernel reads them: contiguous and aligned; a copy only where they are not."""
    flags = words.flags
    if flags.c_contiguous and flags.aligned:
        return words
    words = np.ascontiguousarray(words)
    return words if words.flags.aligned else words.copy()
