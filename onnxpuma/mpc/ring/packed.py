"""Products with a matrix that stays packed or that a key makes: a few of its words are there at a time."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.keys import BLOCK_BYTES, key_stream
from onnxpuma.mpc.ring.native import native, warn_once
from onnxpuma.mpc.ring.words import WIDEST, Words

_LEAST = 32  # bits of the narrowest type that products are computed in
_STRIP = 1 << 20  # bytes of a key's stream that are made at a time where the kernel does not make it


def matmul_packed(
    a: Words, packed: Any, bits: int, shape: tuple[int, int], out: Words, turned: bool = False
) -> None:
    """out += a @ w, or a @ w.T where `turned`, mod 2^bits; the bits of out above these are arbitrary.

    a: (M, K). packed: any object with the buffer protocol, at any address, of exactly the bytes that `pack`
    yields for w, which has this shape. out: (M, N); contiguous rows, as far apart as they like, receive the
    result without a copy. a and out: uint32 where `bits` is at most 32, else uint64.

    Cost: M K N multiplications. Words of 32, 40, 48 and 64 bits are unpacked in registers and multiplied
    there, which is fast for few rows. Memory: 12 bytes a word of 64 rows of a; for other widths a block of
    256 KB. Up to `threads()` threads share the columns of out.
    """
    stream = np.frombuffer(packed, np.uint8)
    check(a, bits, shape, out, turned)
    if stream.size != packed_size(bits, shape):
        raise ProtocolError(
            f"{stream.size} bytes are no matrix of {shape} words of {bits} bits",
            "give the bits and the shape of the packed words",
        )
    kernel = native()
    if kernel is None:
        warn_once()
        fallback.matmul_packed(a, stream, bits, shape, out, turned)
        return
    a, result = laid(a), receiver(a, out)
    kernel.matmul_packed(result, a, stream, bits, *shape, turned)
    if result is not out:
        out += result


def matmul_keyed(
    a: Words, key: bytes, index: int, bits: int, shape: tuple[int, int], out: Words, turned: bool = False
) -> float:
    """`matmul_packed` where the packed words of w are the stream of a key, as `key_stream` makes it for array
    number `index`. Returns the seconds that the stream took, of all threads together.

    Cost: M K N multiplications, and `bits` / 128 blocks of AES a word of w for each 64 rows of a. Memory:
    with vector AES and a width that has a kernel, a tile of at most 200 KB a thread, which is multiplied
    while it lies in the cache, and 12 bytes a word of 64 rows of a; else a megabyte, or 8 rows of w.
    """
    check(a, bits, shape, out, turned)
    kernel = native()
    if kernel is not None:
        left, result = laid(a), receiver(a, out)
        spent = kernel.matmul_keyed(result, left, key, index, bits, *shape, turned)
        if spent is not None:
            if result is not out:
                out += result
            return float(spent)
    return _by_strips(a, key, index, bits, shape, out, turned)


def _by_strips(
    a: Words, key: bytes, index: int, bits: int, shape: tuple[int, int], out: Words, turned: bool
) -> float:
    room = np.empty(0, np.uint8).data
    left = a.copy() if np.may_share_memory(a, out) else a
    seconds = 0.0
    for span, place, count in strips(bits, shape):
        block, before = divmod(place, BLOCK_BYTES)
        if len(room) < before + count:
            room = np.empty(count + BLOCK_BYTES, np.uint8).data
        stream = room[: before + count]
        began = perf_counter()
        key_stream(key, index, block, stream)
        seconds += perf_counter() - began
        some = (span.stop - span.start, shape[1])
        if turned:
            matmul_packed(left, stream[before:], bits, some, out[:, span], turned=True)
        else:
            matmul_packed(left[:, span], stream[before:], bits, some, out)
    return seconds


def strips(bits: int, shape: tuple[int, int]) -> Iterator[tuple[slice, int, int]]:
    """Rows of a matrix of packed words that take a megabyte at most, or eight rows; the byte at which their
    words begin, and how many bytes these take."""
    rows, columns = shape
    step = max(1, _STRIP // max(1, columns * bits)) * 8  # eight rows fill whole bytes
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        yield slice(start, stop), start * columns * bits // 8, packed_size(bits, (stop - start, columns))


def laid(a: Words) -> Words:
    """`a` as the kernel takes it."""
    return a if a.flags.c_contiguous and a.flags.aligned else np.ascontiguousarray(a).copy()


def receiver(a: Words, out: Words) -> Words:
    """`out` where the kernel can add to it, else zeros that are added to it later."""
    beside = out.shape[1] <= 1 or out.strides[1] == out.itemsize
    fits = beside and out.flags.aligned and not np.may_share_memory(a, out)
    return out if fits else np.zeros(out.shape, out.dtype)


def packed_size(bits: int, shape: tuple[int, int]) -> int:
    """Bytes of a matrix of packed words."""
    return (shape[0] * shape[1] * bits + 7) // 8


def check(a: Words, bits: int, shape: tuple[int, int], out: Words, turned: bool) -> None:
    """Raise ProtocolError unless these fit together, as `matmul_packed` describes them."""
    kind = np.dtype(np.uint32 if bits <= _LEAST else np.uint64)
    inner, outer = shape[::-1] if turned else shape
    if a.dtype != kind or out.dtype != kind:
        raise ProtocolError(
            f"a product of {a.dtype} with words of {bits} bits into {out.dtype}", f"give arrays of {kind}"
        )
    if a.ndim != 2 or a.shape[1] != inner or out.shape != (len(a), outer):
        matrix = f"{shape}, turned" if turned else f"{shape}"
        raise ProtocolError(f"no product of {a.shape} and {matrix}, into {out.shape}", "(M, K) @ (K, N)")
    if not 1 <= bits <= WIDEST:
        raise ProtocolError(f"words of {bits} bits", f"packed words have 1 to {WIDEST} bits")
