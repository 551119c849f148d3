"""Products with a matrix whose words lie packed, a small block of them unpacked at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.mpc.ring.products import matmul, unpack
from onnxpuma.mpc.ring.words import Words


def matmul_packed(
    a: Words, packed: Any, bits: int, shape: tuple[int, int], out: Words, turned: bool = False
) -> None:
    """out += a @ W, or a @ W.T where `turned`, mod 2^w; W of `shape` lies packed, `bits` bits a word (the
    order of `pack`), row by row.

    a: (M, K) contiguous rows of uint32 (bits <= 32) or uint64. out: (M, N) of that type, whose rows may have
    any stride.
    """
    words = unpack(packed, bits, shape).astype(a.dtype, copy=False)
    out += matmul(a, np.transpose(words) if turned else words)
