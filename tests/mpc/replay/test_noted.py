"""Arrays that note what is done to them: nobody reads their words, and what was done is done again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.arrays import as_plane, contiguous, filled, flat, looked_up, stacked, unpacked, zeros
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.noted import Noted, Notes
from onnxpuma.mpc.ring.steps import (
    group_answers,
    group_products,
    lift_end,
    lift_lead,
    lift_open,
    program,
    xor_ands,
)

RANDOM = np.random.default_rng(1)
TABLE = np.arange(16, dtype=np.uint32)


def words(*shape: int, bits: int = 64) -> np.ndarray:
    return RANDOM.integers(0, 1 << 63, shape, np.uint64).astype(f"u{bits // 8}")


def _in_place(a: Any, b: Any) -> Any:
    total = zeros(a.shape, 64, a)
    total += a
    total[2:] -= b[2:]
    np.add.at(total, np.array([1, 1]), b[:2])
    return total


def _axpy(a: Any, b: Any) -> Any:
    total = filled(a.shape, 7, 64, a)
    ring.axpy(total, TABLE.astype(np.uint64), a, 1, 60, 4, b)
    return total


def _circuit(a: Any, b: Any) -> Any:
    rows = stacked([as_plane(a & np.uint64(1)), as_plane(b & np.uint64(1))])
    found = zeros((1, 1), 8, rows)
    xor_ands(found, program([[0, 2, 0, 1], [0, 1, 0]]), [rows])
    return found


def _long(a: Any, b: Any) -> Any:
    product = Long.of_words(a) * Long.of_words(b) - Long.of_words(b)
    return [product.low, product.high, product.lowered(100, 70, up=True)]


def _turned(a: Any, b: Any) -> Any:
    return ring.turned_sums(a.reshape(2, 4), np.array([1, 1]), np.array([0, 3]), 2)


FUNCTIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: np.uint64(3) * a - (b >> np.uint64(7)),
    lambda a, b: (a < b).astype(np.uint8),
    lambda a, b: a.reshape(2, 4).transpose()[1:].sum(axis=0),
    lambda a, b: a[3] * b,
    lambda a, b: a[np.array([5, 0, 0])],
    lambda a, b: np.concatenate([a, b[:3]]),
    lambda a, b: np.stack([a, b], axis=1),
    lambda a, b: np.where(np.arange(8) < 3, a, b),
    lambda a, b: np.broadcast_to(a, (3, 8)) + b,
    lambda a, b: np.add.reduceat(a, [0, 3]),
    lambda a, b: np.bitwise_xor.reduce(a),
    lambda a, b: np.moveaxis(a.reshape(2, 2, 2), 0, 2).copy(),
    lambda a, b: flat(a.reshape(2, 4).T) - contiguous(b[::-1]),
    lambda a, b: looked_up(TABLE, a & np.uint64(15)),
    lambda a, b: unpacked(as_plane(a.astype(np.uint8) & 1), 8),
    lambda a, b: ring.matmul(a.reshape(2, 4), b.reshape(4, 2)),
    lambda a, b: ring.einsum("i,j->ij", a, b),
    lambda a, b: ring.table_bits(a, 3, 4, TABLE, b.astype(np.uint32)),
    lambda a, b: ring.pick_bits(b.astype(np.uint16), a, 3, 4),
    lambda a, b: ring.gather_table(TABLE, a, 5, 3, 4),
    lambda a, b: list(lift_lead(a, b, a, b, a, 50, 14)),
    lambda a, b: lift_open(a, b, a, 50, 14),
    lambda a, b: list(lift_end(a, b, a, b, a, 50, 14, True)),
    lambda a, b: group_products(a, bytes([3, 2]), words(11, 1, bits=8) * np.uint8(0)),
    lambda a, b: group_answers(a, 5, bytes([3, 2]), b.view(np.uint8)[:11].reshape(11, 1), True),
    _in_place,
    _axpy,
    _circuit,
    _long,
    _turned,
]


def _arrays(result: Any) -> list[np.ndarray]:
    every = result if isinstance(result, list) else [result]
    return [x.words.copy() if isinstance(x, Noted) else np.asarray(x) for x in every]


@pytest.mark.parametrize("brought", [False, True])
@pytest.mark.parametrize("number", range(len(FUNCTIONS)))
def test_what_was_noted_does_the_same_to_other_words(number: int, brought: bool) -> None:
    function, notes = FUNCTIONS[number], Notes(1 << 20)
    a, b = words(8), words(8)
    first = notes.brought(a) if brought else notes.kept(a)
    result = function(first, notes.kept(b))
    calls = notes.cut()
    for _ in range(3):
        new_a, new_b = words(8), words(8)
        if brought:
            notes.own[0] = new_a
        else:
            a[:] = new_a
        b[:] = new_b
        for call, arguments in calls:
            call(*arguments)
        again = [
            notes.own[x.place] if isinstance(x, Noted) and x.place is not None else x for x in _listed(result)
        ]
        for mine, plain in zip(_arrays(list(again)), _arrays(function(new_a, new_b)), strict=True):
            np.testing.assert_array_equal(mine, plain)


def _listed(result: Any) -> list[Any]:
    return result if isinstance(result, list) else [result]


READINGS: list[Callable[[Any], Any]] = [
    bool,
    int,
    float,
    bytes,
    memoryview,
    np.asarray,
    np.array,
    np.ascontiguousarray,
    np.frombuffer,
    lambda a: a.item(),
    lambda a: a.tolist(),
    lambda a: a.tobytes(),
    lambda a: a.data,
    lambda a: TABLE[a],
    lambda a: list(range(10))[a[0]],
    lambda a: 1 if a[0] > 3 else 0,
    lambda a: [x for x in a if x > 3],
    lambda a: np.copyto(np.zeros(8, np.uint64), a),
    lambda a: np.add(a, a, out=np.zeros(8, np.uint64)),
    lambda a: ring.pack(a, 64),
]


@pytest.mark.parametrize("number", range(len(READINGS)))
def test_nobody_reads_a_word(number: int) -> None:
    with pytest.raises((TypeError, AttributeError)):
        READINGS[number](Notes(1 << 20).kept(words(8)))


def test_words_never_reach_a_plain_array() -> None:
    a, plain = Notes(1 << 20).kept(words(8)), np.zeros(8, np.uint64)
    with pytest.raises(TypeError):
        plain[...] = a  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        plain += a
    with pytest.raises(TypeError):
        xor_ands(np.zeros((1, 1), np.uint8), program([[0, 1, 0]]), [as_plane(a & np.uint64(1))[None]])
    assert not plain.any()


def test_a_rehearsal_takes_no_more_memory_than_it_may() -> None:
    a = Notes(1000).kept(words(8))
    with pytest.raises(MemoryError, match="more than 1000 bytes"):
        np.concatenate([a] * 20)
