"""Powers of e, exp near the top of a range and of any number, and the logarithm, against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Split, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.mpc.protocols.exp_softmax import (
    FRACTION,
    NARROW,
    WIDE,
    Window,
    exp_window,
    exp_window_cost,
    exp_window_long,
    exp_window_long_cost,
)
from onnxpuma.mpc.protocols.exponential import HIGHEST, LOWEST, exponential, exponential_cost
from onnxpuma.mpc.protocols.inside import digits_of, inside, inside_cost
from onnxpuma.mpc.protocols.logarithm import logarithm
from onnxpuma.mpc.protocols.powers import power
from onnxpuma.mpc.ring.words import from_integers
from onnxpuma.mpc.simulate import shared_reals, shared_words, simulate

RNG = np.random.default_rng(10)
POINT = 15


def bits_of(window: Window, digits: int) -> int:
    return POINT + window.unit + digits


def lowest(window: Window, digits: int) -> int:
    """The least argument that the digits tell apart, in units of its last place."""
    return -((1 << digits) - 2) * window.top << POINT


def powers(words: np.ndarray, window: Window, digits: int, pivot: int = 0) -> np.ndarray:
    bits = bits_of(window, digits)
    shares = shared_words(from_integers(words, bits), bits, POINT)
    run = simulate(lambda party, x: exp_window(party, see(party, x, pivot), window), shares)
    assert run.cost == exp_window_cost(len(words), digits, window)
    return run.value()


def check(words: np.ndarray, got: np.ndarray, window: Window, error: float) -> None:
    x = words * 2.0**-POINT
    wrong = np.abs(got - np.exp(x - window.top))
    assert wrong[x >= window.top - window.reach].max(initial=0.0) < error
    assert not got[x < -window.reach].any()
    between = (x >= -window.reach) & (x < window.top - window.reach)
    assert ((wrong < error) | (got == 0))[between].all()


@pytest.mark.parametrize("window", [NARROW, WIDE])
@pytest.mark.parametrize("digits", [3, 4, 6, 7, 10, 15])
def test_the_window_and_what_is_far_below_it(window: Window, digits: int) -> None:
    top, reach, least = window.top << POINT, window.reach << POINT, lowest(window, digits)
    edges = np.array([top - 1, top - 2, top // 2, 0, -1, top - reach, top - reach - 1, -reach, -reach - 1])
    words = np.concatenate(
        [
            np.repeat(edges, 200),
            np.repeat([least, least + 1, least + top], 200),
            RNG.integers(top - reach, top, 10_000),
            RNG.integers(least, top, 10_000),
        ]
    )
    words = words[words >= least]
    got = powers(words, window, digits, digits % 3)
    check(words, got, window, 2.0**-18)
    near = (words > top - reach) & (words < top)
    assert abs((got - np.exp(words * 2.0**-POINT - window.top))[near].mean()) < 2.0**-20


@pytest.mark.parametrize(
    ("window", "numerator", "bits"), [(NARROW, 22, 64), (WIDE, 26, 46), (NARROW, 22, 30)]
)
def test_powers_in_a_ring_that_needs_no_lift(window: Window, numerator: int, bits: int) -> None:
    """As in the narrow ring, and right in a ring as wide as what the shift leaves."""
    digits, shift = 6, FRACTION - numerator
    edges = np.array([(window.top << POINT) - 1, 0, -1, lowest(window, digits)])
    words = np.concatenate([edges, RNG.integers(-window.reach << POINT, window.top << POINT, 5000)])
    read = bits_of(window, digits)

    def program(party: Party, x: Any) -> Protocol[Any]:
        y = yield from exp_window_long(party, see(party, x, 1), window, bits + shift)
        return y.lowered(shift, Format(bits, numerator))

    run = simulate(program, shared_words(from_integers(words, read), read, POINT))
    got = run.value()
    assert np.abs(got).max() <= 1
    check(words, np.where(np.abs(got) <= 2.0**-numerator, 0, got), window, 2.0**-18 + 2.0**-numerator)
    assert run.cost == exp_window_long_cost(len(words), digits, window, bits + shift)


def test_the_fine_window_keeps_the_digits_of_small_powers() -> None:
    """For a row whose largest power is e^-6: as exact as if it were one."""
    words = RNG.integers(-10 << POINT, 2 << POINT, 20_000)
    wrong = np.abs(powers(words, WIDE, 4) - np.exp(words * 2.0**-POINT - WIDE.top))
    assert wrong.max() < 2.0**-18 * np.exp(-3.0)


def test_the_window_for_every_share_of_a_few_values() -> None:
    window, digits = NARROW, 3
    bits = bits_of(window, digits)
    for value in (0, 1, (16 << POINT) - 1, 5 << POINT, -(48 << POINT)):
        edges = [d + (n << (POINT + 4)) for n in range(8) for d in (-1, 0, 1)]
        b = np.concatenate([edges, RNG.integers(0, 1 << bits, 5000)])

        def program(party: Party, value: int = value, b: np.ndarray = b) -> Protocol[Any]:
            words = from_integers(value - b if party.role(1) == PIVOT else b, bits)
            return (yield from exp_window(party, Split(party.role(1), 1, words, Format(bits, POINT))))

        check(np.full(len(b), value), simulate(program).value(), window, 2.0**-18)


@pytest.mark.parametrize("cases", [2, 4])
@pytest.mark.parametrize("digits", [3, 5, 6, 7, 8, 10, 13, 17])
def test_inside_is_exact(digits: int, cases: int) -> None:
    bits, shift = digits + 2, 2
    reads = digits_of(digits, cases)
    assert sum(reads) == digits
    assert 1 << reads[0] >= cases
    a = np.concatenate([np.repeat(np.arange(1 << min(digits, 6)), 6), RNG.integers(0, 1 << digits, 4000)])
    near = RNG.integers(-cases - 1, 2, len(a)) - a
    b = np.where(RNG.random(len(a)) < 0.7, near, RNG.integers(0, 1 << digits, len(a))) % (1 << digits)
    low = RNG.integers(0, 4, (2, len(a)))

    def program(party: Party) -> Protocol[Any]:
        words = from_integers((a << 2) + low[0] if party.role(2) == PIVOT else (b << 2) + low[1], bits)
        return (yield from inside(party, Split(party.role(2), 2, words, Format(bits, 0)), shift, cases))

    run = simulate(program)
    want = (-(a + b)) % (1 << digits) < cases
    assert want.any()
    assert not want.all()
    assert np.array_equal(run.words(), want)
    assert run.cost == inside_cost(len(a), digits, cases)


@pytest.mark.parametrize(
    ("bits", "point", "start", "fraction"),
    [(19, 15, 0, 18), (19, 15, -16, 42), (18, 15, -8, 35), (20, 18, -4, 24), (12, 9, -8, 30), (3, 1, 0, 8)],
)
def test_powers_are_exact(bits: int, point: int, start: int, fraction: int) -> None:
    words = np.arange(0, 1 << bits, max(1, (1 << bits) // 4001), dtype=np.uint64)
    got = power(words, bits, point, start, fraction).astype(np.float64) * 2.0**-fraction
    exact = np.exp(words * 2.0**-point + start)
    assert (np.abs(got - exact) <= exact * 2.0**-20 + 2.0**-fraction / 2).all()


def test_powers_of_too_many_bits_are_refused() -> None:
    with pytest.raises(ProtocolError, match="fraction bits"):
        power(np.zeros(1, np.uint64), 19, 15, 0, 40)


@pytest.mark.parametrize("pivot", [0, 1, 2])
def test_the_wide_exponential(pivot: int) -> None:
    """The relative error is below 2e-5, plus two units, over the whole range and beyond it."""
    x = np.concatenate(
        [
            [LOWEST, HIGHEST, 0.0, 2.0**-18, -(2.0**-18)],
            np.arange(LOWEST, HIGHEST),
            np.arange(LOWEST + 1, HIGHEST) - 2.0**-18,
            RNG.uniform(LOWEST, HIGHEST, 20_000),
            *(s * (2.0**i + RNG.uniform(-1, 1, 10)) for i in (5, 6, 10, 20, 30, 42) for s in (1, -1)),
        ]
    )
    x = np.rint(x * 2**18) / 2**18
    run = simulate(lambda party, w: exponential(party, w, pivot), shared_reals(x))
    want = np.exp(np.clip(x, LOWEST, np.floor(HIGHEST * 2**18) / 2**18))
    error = np.abs(run.value() - want)
    assert (error - 2.0**-17 <= 2e-5 * want).all()
    assert (error / want)[want > 1].mean() < 2.0**-18
    assert run.cost == exponential_cost(len(x))


def test_runs_with_the_same_keys_are_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pivot deals comes from integers too."""
    x = RNG.uniform(-9, 9, 50)
    words = from_integers(np.rint(x * 2**POINT).astype(np.int64), bits_of(NARROW, 4))

    def both(party: Party, window: Any, whole: Any) -> Protocol[Any]:
        first = yield from exp_window(party, see(party, window, 0))
        second = yield from exponential(party, whole, 1)
        return [first.words, second.first]

    shares = shared_words(words, bits_of(NARROW, 4), POINT), shared_reals(x)
    keys = [
        [PartyKeys.from_keys(i, bytes([i] * 16), bytes([(i + 1) % 3] * 16)) for i in range(3)] for _ in "ab"
    ]
    before = simulate(both, *shares, keys=keys[0]).results
    for name in ("exp", "log", "rint"):
        original = getattr(np, name)
        monkeypatch.setattr(np, name, lambda v, f=original: f(v) * (1 + 1e-9))
    after = simulate(both, *shares, keys=keys[1]).results
    for one, other in zip(before, after, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("top", "bits"), [(0.0, 64), (7.5, 40), (13.0, 30), (25.0, 28)])
def test_the_wide_exponential_of_what_is_known_to_be_small(top: float, bits: int) -> None:
    lowest = 64 - 2.0 ** (bits - 19)
    x = np.concatenate([RNG.uniform(max(lowest, -(2.0**40)), top, 300), RNG.uniform(-21, top, 3000), [top]])
    x = np.floor(x * 2**18) / 2**18
    run = simulate(lambda party, w: exponential(party, w, 1, top, bits), shared_reals(x))
    assert (np.abs(run.value() - np.exp(x)) - 2.0**-17 <= 2e-5 * np.exp(x)).all()
    assert run.cost == exponential_cost(len(x), top, bits)


@pytest.mark.parametrize("fraction", [18, 12, 20])
def test_the_logarithm(fraction: int) -> None:
    """Every magnitude of the format, from one unit up; as exact as its argument."""
    units = np.concatenate([np.arange(1, 40), 2.0 ** np.arange(0, 58), np.exp(RNG.uniform(0, 40, 3000))])
    x = np.maximum(1, np.rint(units)) * 2.0**-fraction
    run = simulate(lambda party, w: logarithm(party, w, 1), shared_reals(x, fraction))
    error = np.abs(run.value() - np.log(x))
    assert error[x * 2.0**fraction >= 2**20].max() < 2.0**-19
    assert error.max() < 2.0**-16


def test_the_logarithm_is_unbiased() -> None:
    x = np.exp(RNG.uniform(0, 10, 2000))
    x = np.rint(x * 2**18) / 2**18
    error = simulate(lambda party, w: logarithm(party, w, 0), shared_reals(x)).value() - np.log(x)
    assert abs(error.mean()) < 6 * error.std() / len(error) ** 0.5 + 2.0**-23
