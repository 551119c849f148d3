"""Local steps of protocols: the kernel computes the words that plain numpy does, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from onnxpuma.mpc import ring
from onnxpuma.mpc.forms import Replicated, see
from onnxpuma.mpc.party import Party, Protocol, U, V
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.mpc.protocols import carry, circle, fourier
from onnxpuma.mpc.protocols.compare import signs
from onnxpuma.mpc.protocols.truncate import lift
from onnxpuma.mpc.ring import steps
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.words import Words, from_integers, resized, word_type
from onnxpuma.mpc.simulate import Run, shared_words, simulate

pytestmark = [
    pytest.mark.skipif(native() is None, reason="no kernel is built, so there is nothing to compare"),
    pytest.mark.filterwarnings("ignore:the compiled kernel"),
]
Draw = Callable[..., Words]
KEYS = [bytes([number] * 16) for number in range(3)]


@contextmanager
def numpy_alone() -> Iterator[None]:
    before = ring.native_level()
    ring.set_native_level("numpy")
    try:
        yield
    finally:
        ring.set_native_level(before)


def words_of(drawn: Draw, count: int, bits: int, seed: int = 0) -> Words:
    """Words whose bits above `bits` are random too; the first are the ends of the ring."""
    words = drawn(count, word_type(bits), seed)
    ends = [0, 1, (1 << bits) - 1, (1 << bits - 1) - 1, 1 << bits - 1]
    words[: len(ends)] = np.array(ends, words.dtype)[:count]
    return words


@pytest.mark.parametrize("size", [0, 1, 7, 512, 1300])
def test_xors_of_ands(drawn: Draw, size: int) -> None:
    rows = [drawn((5, size), np.uint8), drawn(size, np.uint8, 1), drawn((2, 2 * size), np.uint8, 2)[:, ::2]]
    program = steps.program([[0, 0], [1, 1, 5], [2, 3, 0, 6, 7], [0, 2, 5, 4], [2, 1, 7]])
    start = drawn((3, size), np.uint8, 3)
    found, right = start.copy(), start.copy()
    steps.xor_ands(found, program, rows)
    with numpy_alone():
        steps.xor_ands(right, program, rows)
    apart = start.copy(order="F")
    steps.xor_ands(apart, program, rows)
    assert np.array_equal(found, right)
    assert np.array_equal(found, apart)
    every = np.concatenate([np.atleast_2d(each) for each in rows])
    assert np.array_equal(found[1], start[1] ^ every[5])
    assert np.array_equal(found[0], ~start[0] ^ (every[5] & every[4]))
    assert np.array_equal(found[2], start[2] ^ (every[0] & every[6] & every[7]) ^ every[7])


def test_a_program_that_leaves_its_rows_is_refused(drawn: Draw) -> None:
    for entries in ([0, 1, 2], [3, 1, 0], [0, 2, 0], [1 << 31, 1, 0], [0, 1, 1 << 31], [0]):
        with pytest.raises(ValueError, match="do not fit"):
            steps.xor_ands(drawn((3, 8), np.uint8), steps.program([entries]), [drawn((2, 8), np.uint8)])


@pytest.mark.parametrize(
    "widths", [(1,), (5, 4), (3, 3, 2, 2), (9,), (5, 5, 5, 5, 5, 5, 5, 5), (7, 8, 8, 8, 8, 8, 8, 8)]
)
def test_carries_of_groups(drawn: Draw, widths: tuple[int, ...]) -> None:
    bits = sum(widths) + 1
    for count in (1, 8, 63, 200):
        a, b = words_of(drawn, count, bits), words_of(drawn, count, bits, 1)
        masks = drawn((carry.products_of(widths), -(-count // 8)), np.uint8, 2)
        alike = carry._alike(widths, True)
        dealt = steps.group_products(a, bytes(widths), masks)
        assert dealt is not None
        assert np.array_equal(dealt, carry._dealt(carry._bits(a, bits), alike) ^ masks)
        for role, shares in ((U, masks), (V, dealt)):
            for threshold in (0, 3, -1, (1 << bits - 1) - 1):
                found = steps.group_answers(b, threshold, bytes(widths), shares, role == U)
                less = b - from_integers(threshold, bits)
                assert found is not None
                assert np.array_equal(found, carry._answers(carry._bits(less, bits), shares, alike, role))


def test_the_kernel_leaves_a_wide_group_to_numpy(drawn: Draw) -> None:
    masks = drawn((carry.products_of((11,)), 1), np.uint8)
    assert steps.group_products(drawn(5, np.uint16), bytes([11]), masks) is None
    assert steps.group_answers(drawn(5, np.uint16), 0, bytes([11]), masks, True) is None


@pytest.mark.parametrize(
    ("name", "fraction", "bits", "count"),
    [
        ("silu", 13, 40, 70),
        ("gelu", 13, 30, 1300),
        ("tanh", 15, 30, 512),
        ("gelu", 14, 64, 3),
        ("gelu", 13, 24, 0),
    ],
)
def test_series(level: str, drawn: Draw, name: str, fraction: int, bits: int, count: int) -> None:
    """Tables of 16 and 32 bits, sums of 32 and 64, blocks that are whole and begun."""
    if level == "numpy":
        return
    series, gain = fourier.all_series()[name], 1.5
    k, dealt = series.angle_bits, fourier.dealt_fractions(series, fraction, gain)
    widths = [bits - (max(dealt) - own) for own in dealt]
    words = words_of(drawn, count, k)
    found = fourier._points(series, words, k, dealt, widths)
    with numpy_alone():
        right = fourier._points(series, words, k, dealt, widths)
    for place, (one, other) in enumerate(zip(found, right, strict=True)):
        assert np.array_equal(resized(one, widths[place // 2]), resized(other, widths[place // 2]))
    halves = [
        drawn(count, word_type(width), seed) for seed, width in enumerate(w for w in widths for _ in "cs")
    ]
    total = drawn(count, word_type(bits), 99)
    plain = total.copy()
    harmonics = fourier._harmonics(series, gain, fraction)
    assert steps.series_sum(total, words, k, circle.turns(k, fraction), harmonics, fourier.EXTRA, halves)
    tables = fourier._twin_tables(series, gain, k, fraction, bits)
    for place, (m, pair) in enumerate(zip(series.multiples, tables, strict=True)):
        for side, table in enumerate(pair):
            ring.axpy(plain, table, words, m, 0, k, resized(halves[2 * place + side], bits))
    assert np.array_equal(total, plain)


def test_every_angle_of_a_cut_table_is_rounded_as_a_whole_one() -> None:
    cut, bits = circle.cut_turns(12), 12
    for own in (1, 2, 13, 28, circle.CUT - 1):
        less = circle.CUT - own
        found = (cut.astype(np.int64) + (1 << less - 1)) >> less
        assert np.array_equal(found, np.stack(circle.whole(bits, own), axis=1))


def test_the_kernel_leaves_large_coefficients_and_fine_tables_to_numpy(drawn: Draw) -> None:
    words, halves, total = (
        drawn(9, np.uint16),
        [drawn(9, np.uint32, seed) for seed in (1, 2)],
        np.zeros(9, np.uint32),
    )
    less = np.array([1])
    for table, c in ((circle.turns(10, 13), 1 << 31), (circle.turns(10, 40), 1)):
        harmonics = np.array([[1, c, 0, 0]])
        assert not steps.series_sum(total, words, 10, table, harmonics, 28, halves)
        assert not total.any()
    assert steps.series_points(words, 10, circle.turns(10, 40), np.array([1]), less, 32) is None
    assert steps.series_points(words, 10, circle.cut_turns(10), np.array([1]), less - 1, 32) is None


@pytest.mark.parametrize(
    ("bits", "carry_bits", "count"),
    [
        *((bits, carry_bits, 40) for bits in (2, 7, 8, 16, 31, 46) for carry_bits in (1, 8, 18)),
        (30, 18, 1300),
    ],
)
def test_lifts(level: str, drawn: Draw, bits: int, carry_bits: int, count: int) -> None:
    wide = bits + carry_bits
    a, b = words_of(drawn, count, bits), words_of(drawn, count, bits, 1)
    r, rest = words_of(drawn, count, wide, 2), words_of(drawn, count, wide, 3)
    m, mine, theirs, a_u = (words_of(drawn, count, carry_bits, seed) for seed in (4, 5, 6, 7))
    found = [
        *steps.lift_lead(a, r, a_u, m, mine, bits, carry_bits),
        steps.lift_open(b[::-1], mine, m, bits, carry_bits),
        *steps.lift_end(b, mine, theirs, rest, m, bits, carry_bits, True),
        *steps.lift_end(b, mine, theirs, rest, m, bits, carry_bits, False),
    ]
    with numpy_alone():
        right = [
            *steps.lift_lead(a, r, a_u, m, mine, bits, carry_bits),
            steps.lift_open(b[::-1], mine, m, bits, carry_bits),
            *steps.lift_end(b, mine, theirs, rest, m, bits, carry_bits, True),
            *steps.lift_end(b, mine, theirs, rest, m, bits, carry_bits, False),
        ]
    for one, other in zip(found, right, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_threads_change_nothing(drawn: Draw) -> None:
    """Series and lifts that several threads share, of a length that no piece divides."""
    count, before = 40_001, ring.threads()
    words, halves = drawn(count, np.uint32), [drawn(count, np.uint32, seed) for seed in range(10)]
    harmonics = fourier._harmonics(fourier.all_series()["gelu"], 1.0, 13)
    less = np.full(5, circle.CUT - 13)

    def results() -> list[Words]:
        total = np.zeros(count, np.uint32)
        assert steps.series_sum(total, words, 17, circle.turns(17, 13), harmonics, fourier.EXTRA, halves)
        points = steps.series_points(words, 17, circle.cut_turns(17), harmonics[:, 0].copy(), less, 20)
        assert points is not None
        return [total, points, *steps.lift_end(words, *halves[:4], 20, 12, True)]

    alone = results()
    try:
        ring.set_threads(3)
        assert all(np.array_equal(one, other) for one, other in zip(alone, results(), strict=True))
    finally:
        ring.set_threads(before)


@pytest.mark.parametrize("pivot", range(3))
def test_the_same_keys_yield_the_same_words(pivot: int) -> None:
    """Whole protocols, with the kernel and without it: each party's words, whatever lies above their bits."""
    rng = np.random.default_rng(pivot)
    held = shared_words(rng.integers(0, 1 << 44, 50, np.uint64), 46)

    def lifted(party: Party, x: Replicated) -> Protocol[list[Words]]:
        found = yield from lift(party, see(party, x, pivot), 64)
        return [found.first, found.second]

    def compared(party: Party, x: Replicated) -> Protocol[list[Words]]:
        found = yield from signs(party, see(party, x, pivot), (0, 5, -7), deep=True)
        return [bit.plane for bit in found]

    def summed(party: Party, x: Replicated) -> Protocol[list[Words]]:
        seen = see(party, x, pivot).modulo(17)
        series = fourier.all_series()["silu"]
        return [(yield from fourier.evaluate_series(party, series, seen, 15, 40)).words]

    def run(program: Callable[..., Protocol[list[Words]]]) -> Run:
        keys = [PartyKeys.from_keys(i, KEYS[i], KEYS[(i + 1) % 3]) for i in range(3)]
        return simulate(program, held, keys=keys)

    for program in (lifted, compared, summed):
        found = run(program)
        with numpy_alone():
            right = run(program)
        assert found.sent == right.sent
        for one, other in zip(found.results, right.results, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(one, other, strict=True)), program.__name__
