"""Products with a matrix that stays packed: only a few of its words are unpacked at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.native import native, warn_once
from onnxpuma.mpc.ring.words import WIDEST, Words

_LEAST = 32  # bits of the narrowest type that products are computed in


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
    kind = np.dtype(np.uint32 if bits <= _LEAST else np.uint64)
    stream = np.frombuffer(packed, np.uint8)
    _check(a, stream, bits, shape, out, turned, kind)
    kernel = native()
    if kernel is None:
        warn_once()
        fallback.matmul_packed(a, stream, bits, shape, out, turned)
        return
    a = a if a.flags.c_contiguous and a.flags.aligned else np.ascontiguousarray(a).copy()
    beside = out.shape[1] <= 1 or out.strides[1] == out.itemsize
    if beside and out.flags.aligned and not np.may_share_memory(a, out):
        kernel.matmul_packed(out, a, stream, bits, *shape, turned)
    else:
        result = np.zeros(out.shape, kind)
        kernel.matmul_packed(result, a, stream, bits, *shape, turned)
        out += result


def _check(
    a: Words, stream: Words, bits: int, shape: tuple[int, int], out: Words, turned: bool, kind: np.dtype[Any]
) -> None:
    inner, outer = shape[::-1] if turned else shape
    if a.dtype != kind or out.dtype != kind:
        raise ProtocolError(
            f"a product of {a.dtype} with words of {bits} bits into {out.dtype}", f"give arrays of {kind}"
        )
    if a.ndim != 2 or a.shape[1] != inner or out.shape != (len(a), outer):
        matrix = f"{shape}, turned" if turned else f"{shape}"
        raise ProtocolError(f"no product of {a.shape} and {matrix}, into {out.shape}", "(M, K) @ (K, N)")
    if not 1 <= bits <= WIDEST or stream.size != (inner * outer * bits + 7) // 8:
        raise ProtocolError(
            f"{stream.size} bytes are no matrix of {shape} words of {bits} bits",
            "give the bits and the shape of the packed words",
        )
