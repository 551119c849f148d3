"""Square roots over the whole range of the format, of zero, and of sums of squares that outgrow one word."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import sum_of_squares
from onnxpuma.mpc.protocols.reciprocal import WHOLE_RANGE, digits_of
from onnxpuma.mpc.protocols.square_root import (
    square_root,
    square_root_cost,
    wide_square_root,
    wide_square_root_cost,
)
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.wide_root import Readings
from onnxpuma.mpc.ring.words import from_integers
from onnxpuma.mpc.simulate import Run, shared_reals, shared_words, simulate

RNG = np.random.default_rng(4)
WIDTH = 64


def roots(
    units: np.ndarray,
    source: int,
    fraction: int,
    digits: tuple[int, int] = WHOLE_RANGE,
    way: Way = Way.MASKED,
) -> Run:
    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from square_root(party, x, 1, RESTING.at(fraction), digits, way))

    run = simulate(program, shared_words(from_integers(units, 64), 64, source))
    assert run.cost == square_root_cost(len(units), source, RESTING.at(fraction), digits, Replicated, way)
    return run


@pytest.mark.parametrize(
    ("source", "way"), [*((s, Way.MASKED) for s in (0, 18, 36)), (18, Way.KEYED), (18, Way.NARROW)]
)
def test_every_magnitude(source: int, way: Way) -> None:
    powers = [p for i in range(60) for p in (2**i - 1, 2**i, 2**i + 1)]
    units = np.concatenate([powers, np.floor(2.0 ** RNG.uniform(0, 60, 500))]).astype(np.int64)
    for fraction in (18, 26):
        exact = np.sqrt(units * 2.0**-source)
        error = np.abs(roots(units, source, fraction, way=way).value() - exact)
        near_zero = (units == 0) * 2.0 ** (-18 - source / 2)
        assert (error <= 2.0**-18 * exact + 2.0 ** (1 - fraction) + near_zero).all()


def test_a_known_range_is_enough() -> None:
    x = np.exp(RNG.uniform(np.log(0.13), np.log(900), 500))
    units = np.rint(x * 2**18).astype(np.int64)
    error = np.abs(roots(units, 18, 24, digits_of(0.125, 1024, RESTING)).value() - np.sqrt(units * 2.0**-18))
    assert error.max() <= 2.0**-16


def test_an_odd_scale_is_refused() -> None:
    with pytest.raises(ProtocolError, match="even scale"):
        roots(np.array([5]), 17, 18)


def lengths(x: np.ndarray, shift: int, low: int = 1) -> Run:
    def squares(party: Party, value: Replicated) -> Sum3:
        return sum_of_squares(party, value, (1,)).map(lambda w: w.reshape(-1))

    def program(party: Party, value: Replicated) -> Protocol[Replicated]:
        fine, coarse = squares(party, value), squares(party, value.lowered(shift))
        return (yield from wide_square_root(party, fine, coarse, 0, RESTING, low))

    return simulate(program, shared_reals(x))


@pytest.mark.parametrize("shift", [4, 10, 14, 18])
def test_lengths_of_every_magnitude(shift: int) -> None:
    """Also around the point where the reading changes: lengths of 4096 to 5793."""
    top = 13 + shift / 2
    norms = np.concatenate([2.0 ** RNG.uniform(-12, top, 600), RNG.uniform(4000, 5900, 300), [4096.0, 0.0]])
    x = RNG.normal(size=(len(norms), WIDTH))
    x = np.rint(x * (norms / np.linalg.norm(x, axis=1))[:, None] * 2**18) / 2**18
    exact = np.linalg.norm(x, axis=1)
    coarse = 2.0 ** (shift - 18) * 8 * (norms >= 4090)
    assert (np.abs(lengths(x, shift).value() - exact) <= exact * 2.0**-18 + coarse + 2.0**-16).all()


def test_declared_is_counted() -> None:
    for rows in (1, 130):
        run = lengths(np.full((rows, WIDTH), 3.0), 14, 3)
        assert run.cost == wide_square_root_cost(rows, Readings(36, Format(50, 8)), RESTING, 3)
