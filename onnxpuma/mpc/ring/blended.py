"""Products with the blend of two components that stay packed or that keys make.

A few words of both are there at a time: they become their blend, which is multiplied once. What a blend is
for: mpc/protocols/linear.py.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring.keys import BLOCK_BYTES, key_stream
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.packed import check, laid, matmul_packed, packed_size, receiver, strips
from onnxpuma.mpc.ring.packing import pack, unpack
from onnxpuma.mpc.ring.words import Words


class Stream(NamedTuple):
    """Packed words that are the stream of a key for array number `number`, from byte `start` of it on."""

    key: bytes
    number: int
    start: int


Component: TypeAlias = "Stream | Any"  # or an object with the buffer protocol, as `matmul_packed` takes it


def matmul_blended(
    a: Words,
    first: Component,
    second: Component,
    minus: bool,
    bits: int,
    shape: tuple[int, int],
    out: Words,
    turned: bool = False,
) -> float:
    """out += a @ w, or a @ w.T where `turned`, mod 2^bits, of w = first - second where `minus`, else
    2 first + second; the bits of out above these are arbitrary. Returns the seconds that streams of keys
    took, of all threads together.

    a, shape and out are those of `matmul_packed`. Cost: M K N multiplications, and for each 64 rows of a the
    streams and a few instructions a word of w. Memory: as `matmul_keyed`.
    """
    check(a, bits, shape, out, turned)
    size = packed_size(bits, shape)
    for one in (first, second):
        if not isinstance(one, Stream) and memoryview(one).nbytes != size:
            raise ProtocolError(
                f"{memoryview(one).nbytes} bytes are no matrix of {shape} words of {bits} bits",
                "give the bits and the shape of the packed words",
            )
    kernel = native()
    if kernel is not None:
        left, result = laid(a), receiver(a, out)
        parts = [(None, *one) if isinstance(one, Stream) else (one, None, 0, 0) for one in (first, second)]
        spent = kernel.matmul_blended(result, left, minus, bits, *shape, turned, *parts)
        if spent is not None:
            if result is not out:
                out += result
            return float(spent)
    left = a.copy() if np.may_share_memory(a, out) else a
    seconds = 0.0
    for span, place, count in strips(bits, shape):
        some = (span.stop - span.start, shape[1])
        words = []
        for one in (first, second):
            began = perf_counter()
            packed = _between(one, place, count)
            seconds += perf_counter() - began if isinstance(one, Stream) else 0.0
            words.append(unpack(packed, bits, some))
        x, y = words
        made = pack(x - y if minus else x + x + y, bits)
        if turned:
            matmul_packed(left, made, bits, some, out[:, span], turned=True)
        else:
            matmul_packed(left[:, span], made, bits, some, out)
    return seconds


def _between(one: Component, place: int, count: int) -> memoryview:
    """`count` bytes of a component from byte `place` on."""
    if not isinstance(one, Stream):
        return memoryview(one).cast("B")[place : place + count]
    block, before = divmod(one.start + place, BLOCK_BYTES)
    room = np.empty(before + count, np.uint8).data
    key_stream(one.key, one.number, block, room)
    return room[before:]
