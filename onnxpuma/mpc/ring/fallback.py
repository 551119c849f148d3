"""The ring kernels in plain numpy: they run where the compiled ones are missing, and tests compare the two.

Products use float64, whose 53 bits are exact: words are cut into limbs and the inner dimension into blocks,
so that no sum of products of two limbs reaches 2^53. Each function has the signature and the meaning of its
namesake in products.py, which documents and checks the arguments.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from onnxpuma.mpc.ring.words import Words, encode, reduced, word_type

_CHUNK = 1 << 15  # words whose bits are spread out at a time, a byte each; a multiple of 8


def matmul(a: Words, b: Words) -> Words:
    """a @ b mod 2^32 or 2^64 as numpy.matmul, exact; 6 float64 products (3 for 32 bits), each through BLAS.

    a, b: uint32 or uint64, (..., M, K) and (..., K, N) with broadcasting, or 1-d.
    """
    dtype = a.dtype
    limb, count = (22, 3) if dtype.itemsize == 8 else (16, 2)
    depth = 1 << (53 - 2 * limb)
    inner = a.shape[-1]
    total = np.zeros(np.matmul(a[..., :0], _inner(b, 0, 0)).shape, dtype)
    for start in range(0, inner, depth):
        left = _limbs(a[..., start : start + depth], limb, count)
        right = _limbs(_inner(b, start, start + depth), limb, count)
        for i, j in product(range(count), repeat=2):
            if (i + j) * limb < 8 * dtype.itemsize:
                part = np.matmul(left[i], right[j]).astype(np.uint64).astype(dtype)
                total = total + (part << dtype.type((i + j) * limb))
    return np.asarray(total)


def _inner(b: Words, start: int, stop: int) -> Words:
    return b[start:stop] if b.ndim == 1 else b[..., start:stop, :]


def _limbs(words: Words, limb: int, count: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    kind, mask = words.dtype.type, words.dtype.type((1 << limb) - 1)
    return [((words >> kind(i * limb)) & mask).astype(np.float64) for i in range(count)]


def pack(words: Words, bits: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The low `bits` of every word as a little-endian stream of bits."""
    flat = words.reshape(-1).astype(words.dtype.newbyteorder("<"), copy=False)
    parts = [np.empty(0, np.uint8)]
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK]
        apart = np.unpackbits(chunk.view(np.uint8), bitorder="little").reshape(chunk.size, -1)
        parts.append(np.packbits(apart[:, :bits], bitorder="little"))
    return np.concatenate(parts)


def unpack(stream: np.ndarray[Any, np.dtype[np.uint8]], bits: int, shape: tuple[int, ...]) -> Words:
    """The words of a stream that `pack` made, in the narrowest type."""
    kind = word_type(bits)
    out = np.empty(int(np.prod(shape, dtype=np.int64)), kind)
    for start in range(0, out.size, _CHUNK):
        chunk = out[start : start + _CHUNK]
        apart = np.zeros((chunk.size, 8 * kind.itemsize), np.uint8)
        piece = stream[start * bits // 8 : (start * bits + chunk.size * bits + 7) // 8]
        apart[:, :bits] = np.unpackbits(piece, count=chunk.size * bits, bitorder="little").reshape(-1, bits)
        chunk[:] = np.packbits(apart, bitorder="little").view(kind.newbyteorder("<"))
    return out.reshape(shape)


def matmul_packed(
    a: Words,
    stream: np.ndarray[Any, np.dtype[np.uint8]],
    bits: int,
    shape: tuple[int, int],
    out: Words,
    turned: bool,
) -> None:
    """out += a @ w or a @ w.T, a few rows of w at a time: as many as have about _CHUNK words."""
    rows, columns = shape
    some = -(-max(8, _CHUNK // max(1, columns)) // 8) * 8  # eight words fill whole bytes
    for start in range(0, rows, some):
        stop = min(rows, start + some)
        part = stream[start * columns * bits // 8 : (stop * columns * bits + 7) // 8]
        block = unpack(part, bits, (stop - start, columns)).astype(a.dtype)
        if turned:
            out[:, start:stop] += matmul(a, block.T)
        else:
            out += matmul(a[:, start:stop], block)


def deal_packed(
    values: np.ndarray[Any, Any], fraction: int, bits: int, first: Words, second: Words, out: Words
) -> float:
    """Overwrites `out` with the packed words of values less those of both streams; the largest magnitude."""
    largest = np.abs(values.astype(np.float64)).max(initial=0.0)
    if not np.isfinite(largest):
        return float("nan")
    words = encode(values, fraction, bits)
    for stream in (first, second):
        words -= unpack(stream, bits, words.shape)
    out[:] = pack(words, bits)
    return float(largest)


def digit(words: Words, shift: int, bits: int) -> Words:
    """(words >> shift) mod 2^bits, in the words' type."""
    kind = words.dtype.type
    return (words >> kind(shift)) & kind((1 << min(bits, 8 * words.dtype.itemsize)) - 1)


def multiple(words: Words, multiplier: int) -> Words:
    """words * multiplier, in the words' ring."""
    return words * words.dtype.type(multiplier & ((1 << 8 * words.dtype.itemsize) - 1))


def table_bits(words: Words, shift: int, digit_bits: int, lut: Words, mask: Words) -> Words:
    """lut[digit] ^ mask."""
    return lut[digit(words, shift, digit_bits)] ^ mask


def pick_bits(tables: Words, words: Words, shift: int, digit_bits: int) -> Words:
    """Bit `digit` of each table, as uint8."""
    place = digit(words, shift, digit_bits).astype(tables.dtype)
    return ((tables >> place) & tables.dtype.type(1)).astype(np.uint8)


def gather_table(lut: Words, words: Words, multiplier: int, shift: int, bits: int) -> Words:
    """lut[digit of words * multiplier]."""
    return lut[digit(multiple(words, multiplier), shift, bits)]


def axpy(acc: Words, lut: Words, words: Words, multiplier: int, shift: int, bits: int, x: Words) -> None:
    """acc += lut[digit of words * multiplier] * x."""
    acc += gather_table(lut, words, multiplier, shift, bits) * x


def turned_sums(out: Words, table: Words, place: np.ndarray, turn: np.ndarray) -> None:
    """out[place[i], (j + turn[i]) mod N] += table[i, j]."""
    columns = (np.arange(table.shape[1]) + turn[:, None]) % table.shape[1]
    np.add.at(out, (place[:, None], columns), table)


def coin_sums(out: Words, terms: Words, coins: Words, every: bool) -> None:
    """out[r, j] = the terms of row r, each 0, 1 or -1 times as coin (i, j) says."""
    kind = terms.dtype.type
    signs = np.array([1, -1] if every else [0, 0, 1, -1]).astype(terms.dtype)[coins & (1 if every else 3)]
    for row, sums in zip(terms, out, strict=True):
        sums[:] = (row[:, None] * signs).sum(axis=0, dtype=kind)


def xor_ands(out: Words, program: Words, rows: tuple[Words, ...]) -> None:
    """out[target] ^= the AND of rows, for each entry of the program."""
    every = [row for each in rows for row in each.reshape(-1, out.shape[1])]
    entries = iter(program.tolist())
    for target in entries:
        chosen = [every[next(entries)] for _ in range(next(entries))]
        out[target] ^= np.bitwise_and.reduce(chosen) if chosen else np.uint8(255)


def _raised(words: Words, bits: int, carry: int) -> Words:
    """words mod 2^carry, times 2^bits."""
    wide = word_type(bits + carry)
    return reduced(words, carry).astype(wide) << wide.type(bits)


def lift_lead(
    a: Words, r: Words, a_u: Words, m_u: Words, m_v: Words, bits: int, carry: int
) -> tuple[Words, Words, Words, Words]:
    """(A - r, a - a_u) for v, and the pivot's two components."""
    wide, narrow = word_type(bits + carry), word_type(carry)
    shifted = reduced(a + a.dtype.type(1 << (bits - 2)), bits)
    rest = shifted.astype(wide) - r
    top = (shifted >> shifted.dtype.type(bits - 1)).astype(narrow) - a_u
    first = rest + _raised(m_v, bits, carry) - wide.type(1 << (bits - 2))
    return rest, top, first, r + _raised(m_u, bits, carry)


def lift_open(b: Words, a: Words, m: Words, bits: int, carry: int) -> Words:
    """a (1 - b) + m."""
    narrow, word = word_type(carry), reduced(b, bits)
    return a * (narrow.type(1) - (word >> word.dtype.type(bits - 1)).astype(narrow)) + m


def lift_end(
    b: Words, mine: Words, theirs: Words, rest: Words, m: Words, bits: int, carry: int, u: bool
) -> tuple[Words, Words]:
    """B - 2^bits (b + opened), and rest + 2^bits m, from which v takes the offset."""
    wide, word = word_type(bits + carry), reduced(b, bits)
    top = (word >> word.dtype.type(bits - 1)).astype(wide)
    common = word.astype(wide) - (top << wide.type(bits)) - _raised(mine + theirs, bits, carry)
    own = rest + _raised(m, bits, carry)
    return common, own if u else own - wide.type(1 << (bits - 2))


def shift_mask(words: Words, shift: int, bits: int) -> Words:
    """(words >> shift) mod 2^bits in the narrowest type for `bits`."""
    return digit(words, shift, bits).astype(word_type(bits))
