"""A tape finds the words that numpy finds, at every level of the kernel, and refuses what it cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from inspect import unwrap
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc import ring
from onnxpuma.mpc.ring.again import again
from onnxpuma.mpc.ring.arrays import contiguous, flat
from onnxpuma.mpc.ring.native import native, native_level, native_levels, set_native_level
from onnxpuma.mpc.ring.tape import operations_of, packed, taped

pytestmark = pytest.mark.skipif(native() is None, reason="a tape is played by the kernel")
RANDOM = np.random.default_rng(5)
BINARY = [
    np.add,
    np.subtract,
    np.multiply,
    np.bitwise_and,
    np.bitwise_or,
    np.bitwise_xor,
    np.left_shift,
    np.right_shift,
    np.less,
    np.equal,
    np.not_equal,
]
KINDS = ["u1", "u2", "u4", "u8", "i8"]


@pytest.fixture(params=[level for level in native_levels() if level != "numpy"])
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native_level()
    set_native_level(request.param)
    yield request.param
    set_native_level(before)


def words(kind: str, *shape: int) -> np.ndarray:
    """Random words, the extreme ones among them."""
    found = RANDOM.integers(0, 1 << 63, shape, np.uint64) * np.uint64(2) + RANDOM.integers(
        0, 2, shape, np.uint64
    )
    found = found.astype(kind)
    extreme = np.array([0, 1, np.iinfo(kind).max, np.iinfo(kind).min], kind)
    found.reshape(-1)[: len(extreme)] = extreme[: found.size]
    return found


def played(function: Callable[..., Any], *arguments: Any) -> None:
    """One call, made by a tape."""
    calls = taped([(function, arguments)])
    kernel = native()
    assert [call[0] for call in calls] == [kernel.play]
    for play, given in calls:
        play(*given)


def compared(function: np.ufunc, *given: Any) -> None:
    expected = function(*given)
    into = np.empty_like(expected, order="C")
    played(function, *given, into)
    np.testing.assert_array_equal(into, expected)
    assert into.dtype == expected.dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.__name__)
def test_two_arrays(level: str, function: np.ufunc, kind: str) -> None:
    a, b = words(kind, 3, 37), words(kind, 3, 37)
    if function in (np.left_shift, np.right_shift):
        bits = 8 * np.dtype(kind).itemsize
        b = (np.arange(3 * 37) % (bits + 3)).reshape(3, 37).astype(kind)
    with np.errstate(over="ignore"):
        compared(function, a, b)
        compared(function, a, b[:1])  # one row for all
        compared(function, a[:, :1], b)
        compared(function, a[:, ::3], b[:, ::3])
        compared(function, a.T, b.T)
        compared(function, a, b.dtype.type(5))
        compared(function, b.dtype.type(1), b)
        compared(function, a[:, 0], b[:, 1])
        compared(function, a[:0], b[:0])
        if kind != "i8":
            compared(function, a, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [np.negative, np.invert], ids=lambda f: f.__name__)
def test_one_array(level: str, function: np.ufunc, kind: str) -> None:
    a = words(kind, 5, 4, 3)
    for each in (a, a[::2, :, ::-1], a.swapaxes(0, 2)):
        compared(function, each)


def test_signed_words_shift_by_whole_words_and_by_negative_numbers(level: str) -> None:
    compared(np.right_shift, words("i8", 6), np.array([0, 1, 63, 64, 200, 3]))


def test_truth_values_count_as_words(level: str) -> None:
    a, less = words("u8", 40), words("u8", 40) < words("u8", 40)
    compared(np.add, a, less)
    compared(np.subtract, a, less)
    compared(np.bitwise_and, less, ~less)
    compared(np.bitwise_xor, less, less[::-1])


def test_results_overwrite_what_was_read(level: str) -> None:
    a, b = words("u8", 4, 9), words("u8", 4, 9)
    expected = a + b - b[:1]
    calls = taped([(np.add, (a, b, a)), (np.subtract, (a, b[:1], a))])
    assert len(calls) == 1  # of both
    calls[0][0](*calls[0][1])
    np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("kind", [*KINDS, "?"])
def test_copies_cut_words_or_fill_them_up(level: str, kind: str, to: str) -> None:
    a = words("u8", 3, 11) > 7 if kind == "?" else words(kind, 3, 11)
    into, expected = np.zeros((3, 11), to), a.astype(to)
    played(np.copyto, into, a, "unsafe")
    np.testing.assert_array_equal(into, expected)
    played(np.copyto, into.T, a.T, "unsafe")
    np.testing.assert_array_equal(into, expected)


def test_functions_that_move_words(level: str) -> None:
    a, b = words("u4", 3, 4), words("u4", 2, 4)
    into = np.empty((5, 4), np.uint32)
    played(np.concatenate, (a, b), 0, into)
    np.testing.assert_array_equal(into, np.concatenate([a, b]))
    turned = np.empty((4, 5), np.uint32)
    played(np.concatenate, (a.T, b.T), -1, turned)
    np.testing.assert_array_equal(turned, into.T)
    for function, given in [
        (np.stack, ([a, a + 1],)),
        (np.stack, ([a, a + 1], 1)),
        (partial(np.stack, axis=-1), ([a, a + 1],)),
        (np.repeat, (a, 3, 1)),
        (partial(np.ndarray.repeat, axis=0), (a, 2)),
        (np.ndarray.repeat, (a[0], 4)),
        (unwrap(contiguous), (a[:, ::2],)),
        (unwrap(flat), (a.T,)),
        (np.ndarray.reshape, (a.T, (2, 6))),
    ]:
        expected = function(*given)
        found = np.empty_like(expected, order="C")
        played(again, [found], function, *given)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [1, 7, 8, 13, 31, 32, 46, 63, 64])
def test_words_are_packed_as_for_a_message(level: str, bits: int) -> None:
    a = words(ring.unpack(bytes(bits), bits, (8,)).dtype.str, 5, 9)
    expected = ring.pack(a, bits)
    into = np.zeros(len(expected) + 3, np.uint8)
    played(packed, into[1:-2], a, bits)
    np.testing.assert_array_equal(into, [0, *expected, 0, 0])


def test_calls_that_a_tape_cannot_make_keep_their_place() -> None:
    a, seen = words("u8", 8), []
    calls = [
        (np.add, (a, a, a)),
        (seen.append, (a,)),
        (np.floor_divide, (a, a, a)),
        (np.subtract, (a, a, a)),
    ]
    made = taped(calls)
    assert made[1:3] == calls[1:3]
    assert len(made) == 4


@pytest.mark.parametrize(
    "call",
    [
        (np.add, lambda a: (a[:-1], a[1:], a[1:])),  # it would read what it has overwritten
        (np.add, lambda a: (a[1:], a[1:], a[:-1])),
        (np.copyto, lambda a: (a, a[::-1])),
        (np.add, lambda a: (a.view(np.float64), 1.0, np.empty(8))),
        (np.add, lambda a: (a.astype("i4"), np.int32(1), np.empty(8, "i4"))),  # no words
        (np.copyto, lambda a: (a, np.zeros(8))),
        (np.copyto, lambda a: (a, a.astype("i2"))),
        (np.repeat, lambda a: (a, 2, 0)),
        (again, lambda a: ([np.empty(36, "u8")], np.repeat, a, np.arange(1, 9), 0)),
        (again, lambda a: ([a[:2], a[2:]], np.split, a, [2])),
    ],
)
def test_what_a_tape_leaves_to_numpy(call: Any) -> None:
    function, arguments = call
    assert operations_of(function, arguments(words("u8", 8))) is None


@pytest.mark.parametrize(
    "operation",
    [
        (0, np.zeros(3, "u8"), np.zeros(4, "u8"), np.zeros(3, "u8")),
        (0, np.zeros(3, "u8"), np.zeros((1, 3), "u8"), np.zeros(3, "u8")),
        (0, np.zeros(3, "u4"), np.zeros(3, "u8"), np.zeros(3, "u8")),
        (0, np.zeros(3, "u8"), np.zeros(3, "u8"), np.zeros(3, "u4")),
        (9, np.zeros(3, "u8"), np.zeros(3, "u8"), np.zeros(3, "u8")),
        (16, np.zeros(3, "u8"), np.zeros(3, "u8"), np.zeros(3, "u8")),
        (0, np.zeros((1,) * 9, "u8"), np.zeros((1,) * 9, "u8"), np.zeros((1,) * 9, "u8")),
        (15, np.zeros(3, "c16"), np.zeros(3, "c16"), None),
        (-1, np.zeros(3, "u1"), np.zeros(3, "u8"), 13),
        (-1, np.zeros(3, "u1"), np.zeros(3, "u1"), 9),
    ],
)
def test_the_kernel_refuses_arrays_that_do_not_fit(operation: Any) -> None:
    with pytest.raises(ValueError, match="fit"):
        native().tape([operation])


def test_the_kernel_refuses_to_overwrite_what_is_read_only() -> None:
    into = np.zeros(3, "u8")
    into.flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only|not writable|writeable"):
        native().tape([(0, into, into, into)])
    assert operations_of(np.add, (into, into, into)) is None
