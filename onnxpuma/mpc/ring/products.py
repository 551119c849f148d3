"""Arithmetic on arrays of ring words: products, bit packing and the fused loops of the protocols' hot steps.

The compiled kernel (`_ring.cpp`) runs each function outside of Python's lock. `fallback` runs it where the
kernel was not built or ONNXPUMA_NO_NATIVE=1 is set, and computes the same words. Words are numpy arrays of
uint8, uint16, uint32 or uint64. Everything wraps: a product of uint64 arrays is one mod 2^64. Arguments that
do not fit together raise ProtocolError.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.native import native, warn_once
from onnxpuma.mpc.ring.noted import noted, noted_change
from onnxpuma.mpc.ring.packing import laid_out
from onnxpuma.mpc.ring.words import WIDEST, Words, word_type

Out: TypeAlias = "Words | None"  # the array that receives a result
_LARGEST = 0xFFFF_FFFF_FFFF_FFFF
_TABLE_BITS, _PICK_BITS, _GATHER_TABLE, _AXPY, _SHIFT_MASK = range(5)  # the order of Kind in _ring.cpp


@noted
def matmul(a: Words, b: Words, out: Out = None, accumulate: bool = False, bits: int = WIDEST) -> Words:
    """a @ b mod 2^w as numpy.matmul: 1-d operands, batches and their broadcasting, any strides.

    a, b: (..., M, K) and (..., K, N) of one type. `out` receives the result; `accumulate` adds it to `out`.
    `out` may share memory with an operand. bits: those of the result that count; up to 48 are faster than 64.
    Cost: M K N multiplications; a transposed operand is not copied.
    """
    return _products([(a, b)], out, accumulate, bits)


@noted
def matmul_pair(
    a1: Words, b1: Words, a2: Words, b2: Words, out: Out = None, accumulate: bool = False, bits: int = WIDEST
) -> Words:
    """a1 @ b1 + a2 @ b2 mod 2^w, without a temporary, of products of one shape; otherwise as `matmul`."""
    return _products([(a1, b1), (a2, b2)], out, accumulate, bits)


def _products(pairs: list[tuple[Words, Words]], out: Out, accumulate: bool, bits: int) -> Words:
    dtype = pairs[0][0].dtype
    operands = [x for pair in pairs for x in pair]
    if any(x.dtype != dtype for x in operands) or dtype.kind != "u":
        raise ProtocolError(
            "a product of " + ", ".join(str(x.dtype) for x in operands), "give operands of one unsigned type"
        )
    matrices = [_as_matrices(a, b) for a, b in pairs]
    fulls = {_shape_of(a, b) for a, b in matrices}
    flat = {(a.ndim == 1, b.ndim == 1) for a, b in pairs}
    if len(fulls) != 1 or len(flat) != 1:
        raise ProtocolError(
            "products of different shapes: " + " and ".join(f"{a.shape} @ {b.shape}" for a, b in pairs),
            "give two products of one shape",
        )
    full, (row, column) = fulls.pop(), flat.pop()
    shape = full[:-2] + (() if row else full[-2:-1]) + (() if column else full[-1:])
    if out is not None and (out.shape != shape or out.dtype != dtype):
        raise ProtocolError(
            f"out is {out.dtype}{out.shape}, the product {dtype}{shape}",
            "give an array of the product's shape and type",
        )
    if accumulate and out is None:
        raise ProtocolError("accumulate without out", "give the array to add to")

    straight = out is not None and _may_receive(out, operands, column)
    target = out if out is not None and straight else np.empty(shape, _computed_in(dtype))
    grown = np.expand_dims(target, -1) if column else target
    grown = np.expand_dims(grown, -2) if row else grown
    _multiply(matrices, grown, full[:-2], accumulate and straight, bits)
    if straight or out is None:
        return target.astype(dtype, copy=False)
    if accumulate:
        out += target.astype(dtype, copy=False)
    else:
        out[...] = target
    return out


def _shape_of(a: Words, b: Words) -> tuple[int, ...]:
    if a.ndim == b.ndim == 2:
        return a.shape[0], b.shape[1]
    return (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])


def _computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint32) if dtype.itemsize < 4 else dtype


def _as_matrices(a: Words, b: Words) -> tuple[Words, Words]:
    fit = a.ndim > 0 and b.ndim > 0
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    try:
        fit = fit and left.shape[-1] == right.shape[-2]
        if left.ndim > 2 or right.ndim > 2:
            np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        fit = False
    if not fit:
        raise ProtocolError(f"no product of shapes {a.shape} and {b.shape}", "(..., M, K) @ (..., K, N)")
    return _ready(left), _ready(right)


def _ready(words: Words) -> Words:
    words = words.astype(_computed_in(words.dtype), copy=False)
    return words if words.flags.aligned else words.copy()


def _may_receive(out: Words, operands: list[Words], column: bool) -> bool:
    return (
        out.dtype.itemsize >= 4
        and out.flags.aligned
        and (column or out.shape[-1] == 1 or out.strides[-1] == out.itemsize)
        and not any(np.may_share_memory(out, x) for x in operands)
    )


def _multiply(
    matrices: list[tuple[Words, Words]], out: Words, batch: tuple[int, ...], accumulate: bool, bits: int
) -> None:
    kernel = native()
    if kernel is None:
        warn_once()
        for i, (a, b) in enumerate(matrices):
            part = fallback.matmul(a, b)
            np.copyto(out, out + part if accumulate or i else part)
        return
    if batch and out.flags.c_contiguous and all(max(b.shape[:-2], default=1) == 1 for _, b in matrices):
        # where one matrix stands to the right of a batch, the batch is one tall matrix
        tall = [np.broadcast_to(a, (*batch, *a.shape[-2:])).reshape(-1, a.shape[-1]) for a, _ in matrices]
        matrices = [(a, b.reshape(b.shape[-2:])) for a, (_, b) in zip(tall, matrices, strict=True)]
        out, batch = out.reshape(-1, out.shape[-1]), ()
    operands = [x for pair in matrices for x in pair]
    if batch:
        operands = [np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in operands]
    kernel.matmul(out, accumulate, bits, *operands)


@noted
def table_bits(words: Words, shift: int, digit_bits: int, lut: Words, mask: Words) -> Words:
    """lut[(word >> shift) mod 2^digit_bits] ^ mask, elementwise.

    lut: 2^digit_bits entries. mask: in the words' shape. lut, mask and the result are of one type.
    """
    _check_lut(words, shift, digit_bits, lut)
    _check_beside(words, mask, lut.dtype)
    if native() is None:
        return fallback.table_bits(words, shift, digit_bits, lut, mask)
    return _loop(_TABLE_BITS, np.empty(words.shape, lut.dtype), words, lut, mask, 1, shift, digit_bits)


@noted
def pick_bits(tables: Words, words: Words, shift: int, digit_bits: int) -> Words:
    """Bit (word >> shift) mod 2^digit_bits of each table, elementwise, as uint8 (0 or 1).

    tables: in the words' shape, of a type of at least 2^digit_bits bits.
    """
    _check_digit(words, shift, digit_bits)
    _check_beside(words, tables, tables.dtype)
    if 1 << digit_bits > 8 * tables.dtype.itemsize:
        raise ProtocolError(f"bit 2^{digit_bits} - 1 of {tables.dtype}", "choose a smaller digit")
    if native() is None:
        return fallback.pick_bits(tables, words, shift, digit_bits)
    return _loop(_PICK_BITS, np.empty(words.shape, np.uint8), words, tables, None, 1, shift, digit_bits)


@noted
def turned_sums(table: Words, place: np.ndarray, turn: np.ndarray, count: int) -> Words:
    """(count, N): column j of row i of a table (n, N) goes to column j + turn[i] mod N of row place[i]."""
    out, where = np.zeros((count, table.shape[1]), table.dtype), np.asarray([place, turn], np.int64)
    if len(place) != len(table) or (where < 0).any() or (where >= [[count], [table.shape[1]]]).any():
        raise ProtocolError(f"rows of {table.shape} at {len(place)} places", "give each a place and a turn")
    kernel = native()
    (fallback if kernel is None else kernel).turned_sums(out, laid_out(table), *where)
    return out


@noted
def gather_table(lut: Words, words: Words, multiplier: int, shift: int, bits: int) -> Words:
    """lut[(word * multiplier >> shift) mod 2^bits], elementwise; the product wraps in the words' type."""
    _check_lut(words, shift, bits, lut)
    if native() is None:
        return fallback.gather_table(lut, words, multiplier, shift, bits)
    return _loop(_GATHER_TABLE, np.empty(words.shape, lut.dtype), words, lut, None, multiplier, shift, bits)


@noted_change
def axpy(acc: Words, lut: Words, words: Words, multiplier: int, shift: int, bits: int, x: Words) -> None:
    """acc += lut[(word * multiplier >> shift) mod 2^bits] * x in place, elementwise; see `gather_table`.

    acc, x: in the words' shape, of lut's type.
    """
    _check_lut(words, shift, bits, lut)
    _check_beside(words, x, lut.dtype)
    _check_beside(words, acc, lut.dtype)
    if native() is None or not (acc.flags.c_contiguous and acc.flags.aligned):
        fallback.axpy(acc, lut, words, multiplier, shift, bits, x)
    else:
        _loop(_AXPY, acc, words, lut, x, multiplier, shift, bits)


@noted
def shift_mask(words: Words, shift: int, bits: int) -> Words:
    """(word >> shift) mod 2^bits, elementwise, in the narrowest type for `bits`."""
    _check_digit(words, shift, bits)
    if native() is None:
        return fallback.shift_mask(words, shift, bits)
    return _loop(_SHIFT_MASK, np.empty(words.shape, word_type(bits)), words, None, None, 1, shift, bits)


def _loop(
    kind: int,
    out: Words,
    words: Words,
    table: Words | None,
    other: Words | None,
    multiplier: int,
    shift: int,
    bits: int,
) -> Words:
    table = None if table is None else laid_out(table)
    other = None if other is None else laid_out(other)
    native().loop(kind, out, laid_out(words), table, other, multiplier & _LARGEST, shift, bits)
    return out


def _check_digit(words: Words, shift: int, bits: int) -> None:
    if words.dtype.kind != "u" or not 0 <= shift < 8 * words.dtype.itemsize or not 1 <= bits <= WIDEST:
        raise ProtocolError(f"bits {shift} to {shift + bits} of {words.dtype}", "stay inside unsigned words")


def _check_lut(words: Words, shift: int, bits: int, lut: Words) -> None:
    _check_digit(words, shift, bits)
    if lut.dtype.kind != "u" or lut.shape != (1 << bits,):
        raise ProtocolError(
            f"a table {lut.dtype}{lut.shape} for {bits} bits", "give a table of 2^bits unsigned entries"
        )


def _check_beside(words: Words, other: Words, dtype: np.dtype[Any]) -> None:
    if other.shape != words.shape or other.dtype != dtype or dtype.kind != "u":
        raise ProtocolError(
            f"{other.dtype}{other.shape} beside words of shape {words.shape}: {dtype} is expected",
            "give arrays of one shape and of the table's type",
        )


@noted
def einsum(equation: str, *words: Words) -> Words:
    """numpy.einsum of words."""
    return np.asarray(np.einsum(equation, *words, optimize=True))
