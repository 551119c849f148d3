"""Reciprocals and reciprocal roots over the whole range of the format."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import RESTING, WHOLE
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.convert import split
from onnxpuma.mpc.protocols.linear import sum_of_squares
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.reciprocal import (
    WHOLE_RANGE,
    digits_of,
    inverse_cost,
    reciprocal,
    reciprocal_at_twins,
    reciprocal_at_twins_cost,
    rsqrt,
)
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.ring.words import from_integers
from onnxpuma.mpc.simulate import shared_reals, shared_words, simulate

RNG = np.random.default_rng(14)


def of_units(low: int, high: int, count: int) -> np.ndarray:
    """Log-uniform integers in [2^low, 2^high), and one unit on either side of each power of two."""
    powers = [p for i in range(low, high) for p in (2**i - 1, 2**i, 2**i + 1) if 2**low <= p < 2**high]
    return np.concatenate([powers, np.floor(2.0 ** RNG.uniform(low, high, count))]).astype(np.int64)


def inverse(function: Any, units: np.ndarray, source: int, fraction: int, **settings: Any) -> np.ndarray:
    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from function(party, x, 1, RESTING.at(fraction), **settings))

    run = simulate(program, shared_words(from_integers(units, 64), 64, source))
    assert (run.results[0].bits, run.results[0].fraction) == (64, fraction)
    return np.asarray(run.value())


@pytest.mark.parametrize("source", [0, 18, 36])
def test_reciprocals_of_every_magnitude(source: int) -> None:
    """From one unit to 2^32 units: the relative error is below 2^-18, plus two units of the result."""
    units = of_units(0, 32, 1500)
    for fraction in (18, 24):
        exact = 2.0**source / units
        fits = exact < 2.0 ** (61 - fraction)
        error = np.abs(inverse(reciprocal, units, source, fraction) - exact)
        assert (error - 2.0 ** (1 - fraction) <= 2.0**-18 * exact)[fits].all()


@pytest.mark.parametrize("source", [0, 18, 36])
def test_reciprocal_roots_of_every_magnitude(source: int) -> None:
    """From one unit to 2^60 units."""
    units = of_units(0, 60, 1500)
    for fraction in (18, 28):
        exact = 2.0 ** (source / 2) / np.sqrt(units)
        error = np.abs(inverse(rsqrt, units, source, fraction) - exact)
        assert (error - 2.0 ** (1 - fraction) <= 2.0**-19 * exact).all()


@pytest.mark.parametrize(("function", "power"), [(reciprocal, -1.0), (rsqrt, -0.5)])
@pytest.mark.parametrize("gain", [0.001, 0.5, 1.0, 1.1, 28.0, 768.0])
def test_a_gain(function: Any, power: float, gain: float) -> None:
    x = RNG.uniform(0.5, 900, 400)
    units = np.rint(x * 2**18).astype(np.int64)
    exact = gain * (units * 2.0**-18) ** power
    digits = digits_of(0.5, 900, RESTING)
    error = np.abs(inverse(function, units, 18, 24, gain=gain, digits=digits) - exact)
    assert (error - 2.0**-23 <= 2.0**-18 * exact).all()


@pytest.mark.parametrize(("low", "high"), [(0.13, 128.0), (1.0, 2.0), (2.0**-18, 1.0), (1.0, 4.0**13)])
def test_a_known_range_is_enough(low: float, high: float) -> None:
    x = np.concatenate([[low, np.nextafter(high, 0)], np.exp(RNG.uniform(np.log(low), np.log(high), 1500))])
    units = np.maximum(np.floor(x * 2**18), np.ceil(low * 2**18)).astype(np.int64)
    exact = 2.0**18 / units
    found = inverse(reciprocal, units, 18, 24, digits=digits_of(low, high, RESTING))
    assert (np.abs(found - exact) - 2.0**-23 <= 2.0**-18 * exact).all()


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("function", [reciprocal, rsqrt])
@pytest.mark.parametrize(("digits", "fraction"), [((1, 16), 24), ((9, 12), 18), ((3, 14), 30)])
def test_all_ways_lead_to_it(function: Any, way: Way, digits: tuple[int, int], fraction: int) -> None:
    units = of_units(2 * digits[0] - 2, 2 * digits[1], 200)
    power = -1.0 if function is reciprocal else -0.5
    exact = 3.0 * (units * 2.0**-18) ** power
    fits = exact < 2.0 ** (61 - fraction)
    found = inverse(function, units, 18, fraction, digits=digits, gain=3.0, way=way)
    assert (np.abs(found - exact) - 2.0 ** (1 - fraction) <= 2.0**-18 * exact)[fits].all()


def test_digit_ranges() -> None:
    assert digits_of(1.0, 4.0, WHOLE) == (1, 2)
    assert digits_of(1.0, 2.0, WHOLE) == (1, 2)
    assert digits_of(4.0, 16.0, WHOLE) == (2, 3)
    assert digits_of(0.25, 16.0, RESTING) == (9, 11)
    assert digits_of(2.0**-18, 2.0**42, RESTING) == (1, 30)
    assert digits_of(2.0**-30, 2.0**60, RESTING) == (1, 30)


def test_both_are_unbiased() -> None:
    units = np.floor(2.0 ** RNG.uniform(18, 26, 3000)).astype(np.int64)
    for function, power in ((reciprocal, -1.0), (rsqrt, -0.5)):
        exact = (units * 2.0**-18) ** power
        relative = inverse(function, units, 18, 30) / exact - 1
        assert abs(relative.mean()) < 6 * relative.std() / len(units) ** 0.5 + 2.0**-23


def test_the_root_of_a_sum_of_squares() -> None:
    """As a normalisation layer uses it: the product is not truncated first."""

    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (
            yield from rsqrt(party, sum_of_squares(party, x, (1,)), 0, RESTING.at(24), WHOLE_RANGE, 64**0.5)
        )

    x = RNG.normal(0, 1, (300, 64)) * np.exp(RNG.uniform(-5, 5, (300, 1)))
    x = np.rint(x * 2**18) / 2**18
    exact = 1 / np.sqrt((x * x).mean(axis=1, keepdims=True))
    assert np.abs(simulate(program, shared_reals(x)).value() / exact - 1).max() < 2.0**-16


def test_conditions() -> None:
    units = np.array([1 << 20])
    for settings in ({"gain": 0.0}, {"digits": (0, 3)}, {"digits": (3, 3)}, {"digits": (1, 32)}):
        with pytest.raises(ProtocolError):
            inverse(reciprocal, units, 18, 18, **settings)
    with pytest.raises(ProtocolError, match="even scale"):
        inverse(rsqrt, units, 17, 18)


@pytest.mark.parametrize("way", [Way.KEYED, Way.MASKED])
@pytest.mark.parametrize("wider", [1, 24])
def test_reciprocals_at_the_twins(way: Way, wider: int) -> None:
    """As exact as those that become Replicated, right in all bits of the larger ring, and a round sooner."""
    units = of_units(18, 30, 200)
    digits = digits_of(2.0**-4, 2.0**8, RESTING.at(22))
    made = RESTING.at(24)
    held: list[LongPair] = []

    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        seen = split(party, x, 1, x.format)
        held.append((yield from reciprocal_at_twins(party, seen, made, digits, way, wider)))
        return x

    run = simulate(program, shared_words(from_integers(units, 64), 64, 22))
    cost = reciprocal_at_twins_cost(len(units), digits, 22, made, way, wider)
    assert run.cost == cost
    assert (
        cost.rounds
        == inverse_cost("reciprocal", len(units), digits, 22, made, form=Replicated, way=way).rounds - 1
    )
    first, second = (pair.words for pair in held if pair.words is not None)
    whole = first + second
    bits, exact = 64 + wider, 2.0**46 / units
    for low, high, want in zip(whole.low, whole.high, exact, strict=True):
        value = (int(low) + (int(high) << 64)) % (1 << bits)
        assert abs(value - want) <= 2 + 2.0**-18 * want
