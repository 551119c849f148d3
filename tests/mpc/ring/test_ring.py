"""Ring products: every kernel level gives the same words as plain arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.errors import ConfigError, ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.ring import fallback
from onnxpuma.mpc.ring.words import Words, reduced

MATRICES = [(np.uint32, 32), (np.uint64, 64)]
SHAPES = [
    (1, 1, 1), (1, 9, 300), (2, 17, 33), (3, 200, 65), (5, 7, 4), (8, 64, 16), (7, 31, 130), (9, 13, 1),
    (40, 70, 3), (13, 500, 17), (64, 64, 64), (67, 211, 129), (200, 193, 40), (131, 1100, 65), (49, 30, 31),
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0),
]  # fmt: skip
Draw = Callable[..., Words]


def test_the_oracle_is_exact(drawn: Draw) -> None:
    for dtype, bits in MATRICES:
        for inner in (1, 5, 600):
            full = np.full((2, inner), (1 << bits) - 1, dtype)
            a = np.concatenate([full, drawn((3, inner), dtype)])
            b = np.concatenate([full, drawn((4, inner), dtype, 1)]).T
            exact = a.astype(object) @ b.astype(object) % (1 << bits)
            assert (fallback.matmul(a, b).astype(object) == exact).all()


@pytest.mark.parametrize(("dtype", "bits"), MATRICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore:the compiled kernel")
def test_matmul(drawn: Draw, level: str, dtype: type, bits: int, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b = drawn((m, k), dtype), drawn((k, n), dtype, 1)
    expected = fallback.matmul(a, b)
    assert expected.shape == (m, n)
    result = ring.matmul(a, b)
    assert result.dtype == dtype
    assert np.array_equal(result, expected)
    # Operands and results that are not contiguous.
    apart = np.zeros((m, 2 * k), dtype)
    apart[:, ::2] = a
    for left in (a, np.asfortranarray(a), apart[:, ::2], a[::-1][::-1].T.copy().T):
        for right in (b, np.asfortranarray(b), b[:, ::-1].copy()[:, ::-1]):
            assert np.array_equal(ring.matmul(left, right), expected)
    out = drawn((m, n), dtype, 2)
    total = out + expected
    assert ring.matmul(a, b, out=out, accumulate=True) is out
    assert np.array_equal(out, total)
    wide = drawn((m, n + 5), dtype, 3)
    kept = wide[:, n:].copy()
    ring.matmul(a, b, out=wide[:, :n])
    assert np.array_equal(wide[:, :n], expected)
    assert np.array_equal(wide[:, n:], kept)
    turned = drawn((n, m), dtype, 4).T
    total = turned + expected
    ring.matmul(a, b, out=turned, accumulate=True)
    assert np.array_equal(turned, total)


@pytest.mark.parametrize(("dtype", "bits"), MATRICES)
@pytest.mark.filterwarnings("ignore:the compiled kernel")
def test_the_largest_words_wrap_and_nothing_else(level: str, dtype: type, bits: int) -> None:
    """Kernels that split words into bytes add up in 32 bits; they split the depth too, before those wrap."""
    depth = 20_000
    a, b = (np.full(shape, (1 << bits) - 1, dtype) for shape in ((33, depth), (depth, 34)))
    assert (ring.matmul(a, b) == depth).all()  # (-1)(-1) depth times


@pytest.mark.parametrize(("dtype", "bits"), MATRICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore:the compiled kernel")
def test_matmul_pair(drawn: Draw, level: str, dtype: type, bits: int, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a1, b1 = drawn((m, k), dtype), drawn((k, n), dtype, 1)
    a2, b2 = drawn((m, 9), dtype, 2), drawn((9, n), dtype, 3)
    expected = fallback.matmul(a1, b1) + fallback.matmul(a2, b2)
    assert np.array_equal(ring.matmul_pair(a1, b1, a2, b2), expected)
    assert np.array_equal(ring.matmul_pair(a2, b2, a1, b1), expected)
    out = drawn((m, n), dtype, 4)
    total = out + expected
    ring.matmul_pair(a1, b1, a2, b2, out=out, accumulate=True)
    assert np.array_equal(out, total)


@pytest.mark.parametrize("bits", [33, 40, 48])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore:the compiled kernel")
def test_products_of_which_fewer_bits_count(
    drawn: Draw, level: str, bits: int, shape: tuple[int, int, int]
) -> None:
    m, k, n = shape
    a, b, c = drawn((m, k)), drawn((n, k), seed=1).T, drawn((m, n), seed=2)
    a[:1, :1], b[:1, :1] = 2**bits - 1, 2**64 - 1
    expected = fallback.matmul(a, b)
    assert np.array_equal(reduced(ring.matmul(a, b, bits=bits), bits), reduced(expected, bits))
    straight, out = np.ascontiguousarray(b), c.copy()
    ring.matmul_pair(a, b, a, straight, out=out, accumulate=True, bits=bits)
    assert np.array_equal(reduced(out, bits), reduced(c + expected + expected, bits))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((5,), (5,)),
        ((5,), (5, 3)),
        ((4, 5), (5,)),
        ((2, 4, 5), (5,)),
        ((5,), (2, 5, 3)),
        ((2, 3, 4, 5), (5, 6)),
        ((2, 3, 4, 5), (2, 3, 5, 6)),
        ((2, 1, 4, 5), (3, 5, 6)),
        ((4, 5), (2, 3, 5, 6)),
        ((1, 1, 20, 5), (1, 1, 5, 6)),
        ((2, 3, 20, 5), (1, 1, 5, 70)),
        ((3, 1, 4, 5), (3, 0, 5, 6)),
        ((0,), (0,)),
        ((0, 4, 5), (5, 6)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.filterwarnings("ignore:the compiled kernel")
def test_matmul_has_the_shapes_of_numpy(
    drawn: Draw, level: str, dtype: type, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    a, b = drawn(left, dtype), drawn(right, dtype, 1)
    expected = np.asarray(np.matmul(a, b))
    result = ring.matmul(a, b)
    assert result.shape == expected.shape
    assert result.dtype == dtype
    assert np.array_equal(result, expected)
    out = drawn(expected.shape, dtype, 2)
    total = np.asarray(out + expected + expected)
    ring.matmul_pair(a, b, a, b, out=out, accumulate=True)
    assert np.array_equal(out, total)


@pytest.mark.filterwarnings("ignore:the compiled kernel")
def test_attention_products(drawn: Draw, level: str) -> None:
    q, k = drawn((2, 3, 20, 8)), drawn((2, 3, 30, 8), seed=1)
    assert np.array_equal(ring.matmul(q, k.swapaxes(-1, -2)), np.matmul(q, k.swapaxes(-1, -2)))
    merged = drawn((2, 20, 3, 8)).swapaxes(1, 2)
    assert np.array_equal(ring.matmul(merged, k.swapaxes(-1, -2)), np.matmul(merged, k.swapaxes(-1, -2)))
    one = k[..., :1, :]
    assert np.array_equal(ring.matmul(one, q.swapaxes(-1, -2)), np.matmul(one, q.swapaxes(-1, -2)))


@pytest.mark.filterwarnings("ignore:the compiled kernel")
def test_matmul_into_an_operand_and_from_unaligned_words(drawn: Draw, level: str) -> None:
    a, b = drawn((30, 30)), drawn((30, 30), seed=1)
    expected = fallback.matmul(a, b)
    shifted = np.empty(8 * 900 + 3, np.uint8)[3:].view(np.uint64).reshape(30, 30)
    shifted[...] = a
    assert np.array_equal(ring.matmul(shifted, b), expected)
    assert np.array_equal(ring.matmul(a, b, out=a), expected)
    assert np.array_equal(a, expected)


def test_threads_change_nothing(drawn: Draw) -> None:
    before = ring.threads()
    try:
        for shape in ((300, 200, 100), (100, 200, 300)):
            a, b = drawn(shape[:2]), drawn(shape[1:], seed=1)
            many, pair = drawn((7, 60, 90)), drawn((7, 90, 60), seed=1)
            ring.set_threads(1)
            one = ring.matmul(a, b), ring.matmul(many, pair)
            ring.set_threads(3)
            assert ring.threads() == 3
            assert np.array_equal(ring.matmul(a, b), one[0])
            assert np.array_equal(ring.matmul(many, pair), one[1])
        with pytest.raises(ConfigError):
            ring.set_threads(0)
    finally:
        ring.set_threads(before)


@pytest.mark.parametrize(
    "call",
    [
        lambda a: ring.matmul(a, a[:3]),
        lambda a: ring.matmul(a[0, 0], a),
        lambda a: ring.matmul(a, a.astype(np.uint32)),
        lambda a: ring.matmul(a.astype(np.int64), a.astype(np.int64)),
        lambda a: ring.matmul(np.stack([a, a]), np.stack([a, a, a])),
        lambda a: ring.matmul(a, a, accumulate=True),
        lambda a: ring.matmul(a, a, out=np.empty((4, 5), np.uint64)),
        lambda a: ring.matmul(a, a, out=np.empty((4, 4), np.uint32)),
        lambda a: ring.matmul_pair(a, a, a[:2], a),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(drawn: Draw, level: str, call: object) -> None:
    with pytest.raises(ProtocolError):
        call(drawn((4, 4)))  # type: ignore[operator]


def test_unknown_level() -> None:
    with pytest.raises(ConfigError):
        ring.set_native_level("abacus")


PROGRAM = """
import warnings
import numpy as np
from onnxpuma.mpc import ring
a = np.arange(1 << 12, dtype=np.uint64).reshape(64, 64) * np.uint64(0x9E3779B97F4A7C15)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    same = (ring.matmul(a, a) == np.matmul(a, a)).all() and (ring.matmul(a, a) == np.matmul(a, a)).all()
    same &= (ring.unpack(ring.pack(a, 46), 46, (64, 64)) == a % (1 << 46)).all()
print(ring.native_level(), ring.threads(), same, sum(w.category is RuntimeWarning for w in caught))
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_the_environment_forces_numpy_and_numpy_warns_once() -> None:
    assert run(ONNXPUMA_NO_NATIVE="1", ONNXPUMA_THREADS="2").stdout.split() == ["numpy", "2", "True", "1"]


def test_threads_from_the_environment() -> None:
    expected = [ring.native_levels()[0], "5", "True", str(int(ring.native_levels() == ["numpy"]))]
    assert run(ONNXPUMA_THREADS="5").stdout.split() == expected
    assert "ConfigError" in run(ONNXPUMA_THREADS="many").stderr
