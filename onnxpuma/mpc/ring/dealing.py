"""A dealer's pass over reals: fixed point, less the words of two key streams, packed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.words import WIDEST

_REALS = {"float16": "u2", "bfloat16": "u2", "float32": "u4", "float64": "u8"}  # the order of DEALS in C++


def deal_packed(values: np.ndarray, fraction: int, bits: int, first: Any, second: Any, out: Any) -> float:
    """Overwrite `out` with component 2 of values: round(values * 2^fraction) - first - second mod 2^bits.

    values: float16, bfloat16, float32 or float64; other numbers are read as float64. Those between two
    integers become the nearest one, or of two such the even one, as by `words.encode`. first, second, out:
    buffers of the ceil(n * bits / 8) bytes of packed words; the first two hold key streams. A long array may
    be dealt in blocks, each but the last of a multiple of 8 values.

    Returns the largest magnitude among the values, NaN if one is not finite. Where it times 2^fraction is not
    below 2^(bits - 1), `out` means nothing. Cost: one pass, on up to `threads()` threads.
    """
    streams = [np.frombuffer(buffer, np.uint8) for buffer in (first, second, out)]
    if not 1 <= bits <= WIDEST or any(s.size != (values.size * bits + 7) // 8 for s in streams):
        raise ProtocolError(
            f"{values.size} values of {bits} bits in " + ", ".join(f"{s.size}" for s in streams) + " bytes",
            "give streams and room of as many bytes as the packed words take",
        )
    if values.dtype.name not in _REALS:
        values = values.astype(np.float64)
    values = np.ascontiguousarray(values).reshape(-1)
    kernel = native()
    if kernel is None:
        return fallback.deal_packed(values, fraction, bits, *streams)
    kind = list(_REALS).index(values.dtype.name)
    stored = values.view(_REALS[values.dtype.name])
    return float(kernel.deal(stored, kind, math.ldexp(1.0, fraction), bits, *streams))
