"""Reciprocal roots of sums of squares that outgrow one word: two readings, and the choice between them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.linear import sum_of_squares
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.wide_root import Readings, wide_rsqrt, wide_rsqrt_cost
from onnxpuma.mpc.simulate import Run, shared_reals, simulate

RNG = np.random.default_rng(3)
WIDTH = 64


def rows_of(norms: np.ndarray) -> np.ndarray:
    x = RNG.normal(size=(len(norms), WIDTH))
    return np.rint(x * (norms / np.linalg.norm(x, axis=1))[:, None] * 2**18) / 2**18


def roots(x: np.ndarray, shift: int = 14, low: int = 1, gain: float = 8.0, way: Way = Way.MASKED) -> Run:
    def squares(party: Party, value: Replicated) -> Sum3:
        return sum_of_squares(party, value, (1,)).map(lambda w: w.reshape(-1))

    def program(party: Party, value: Replicated) -> Protocol[Replicated]:
        fine, coarse = squares(party, value), squares(party, value.lowered(shift))
        return (yield from wide_rsqrt(party, fine, coarse, 0, RESTING.at(30), low, gain, way))

    return simulate(program, shared_reals(x))


@pytest.mark.parametrize(
    ("shift", "way"), [*((s, Way.MASKED) for s in (4, 10, 14, 18)), (14, Way.KEYED), (14, Way.NARROW)]
)
def test_norms_of_every_magnitude(shift: int, way: Way) -> None:
    """Also around the point where the reading changes: norms of 4096 to 5793."""
    top = 13 + shift / 2
    norms = np.concatenate([2.0 ** RNG.uniform(-4, top, 600), RNG.uniform(4000, 5900, 300), [4096.0]])
    x = rows_of(norms)
    exact = 8 / np.linalg.norm(x, axis=1)
    error = np.abs(roots(x, shift, way=way).value() - exact)
    coarse = 2.0 ** (shift - 18) / np.maximum(norms, 4096) * 8 * (norms >= 4090)
    assert (error <= exact * (2.0**-20 + coarse) + 2.0**-28).all()


@pytest.mark.parametrize("way", list(Way))
def test_declared_is_counted(way: Way) -> None:
    for rows in (1, 5, 130):
        run = roots(rows_of(np.full(rows, 100.0)), 14, 5, 27.7, way)
        assert run.cost == wide_rsqrt_cost(rows, Readings(36, Format(50, 8)), RESTING.at(30), 5, 27.7, way)


def test_readings_too_close_to_each_other_are_refused() -> None:
    with pytest.raises(ProtocolError, match="well below"):
        roots(rows_of(np.ones(2)), 3)
