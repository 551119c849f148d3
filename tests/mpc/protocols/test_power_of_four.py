"""Values of any size scaled to a window: the bits that tell how large they are, and the powers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.forms import Replicated, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.long_words import LongPair
from onnxpuma.mpc.protocols.power_of_four import Scaled, to_window, to_windows, window_cost
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds, pivots_bits, twins_counts
from onnxpuma.mpc.ring.words import from_integers, reduced, signed
from onnxpuma.mpc.simulate import Run, shared_words, simulate

RNG = np.random.default_rng(15)


def of_units(low: int, high: int, count: int) -> np.ndarray:
    """Log-uniform integers in [2^low, 2^high), and one unit on either side of each power of two."""
    powers = [p for i in range(low, high) for p in (2**i - 1, 2**i, 2**i + 1) if 2**low <= p < 2**high]
    return np.concatenate([powers, np.floor(2.0 ** RNG.uniform(low, high, count))]).astype(np.int64)


def scaled(units: np.ndarray, t: Thresholds, keyed: bool = False) -> Run:
    def program(party: Party, x: Replicated) -> Protocol[Any]:
        return (yield from to_window(party, see(party, x, 2), t, keyed))

    run = simulate(program, shared_words(from_integers(units, t.bits), t.bits))
    assert run.cost == window_cost(len(units), [t], keyed)
    return run


def values_of(results: list[Scaled]) -> np.ndarray:
    pairs = [r.value for r in results]
    total = sum(p.words for p in pairs)  # the pivot's stand-in is zero
    return signed(total.astype(pairs[0].words.dtype), pairs[0].bits).astype(np.float64)


def powers_of(results: list[Scaled]) -> np.ndarray:
    return numbers([r.power for r in results])


def numbers(pairs: list[LongPair]) -> np.ndarray:
    def integers(pair: LongPair) -> list[int]:
        assert pair.words is not None
        limbs = zip(pair.words.low.tolist(), pair.words.high.tolist(), strict=True)
        return [low + (high << 64) for low, high in limbs]

    halves = [integers(pair) for pair in pairs if pair.words is not None]
    assert len(halves) == 2
    bits = pairs[0].bits
    return np.array([(u + v) % (1 << bits) for u, v in zip(*halves, strict=True)], float)


@pytest.mark.parametrize("power", list(Power))
@pytest.mark.parametrize(
    ("k", "low", "high"), [(62, 1, 30), (62, 9, 12), (34, 1, 16), (16, 1, 7), (32, 10, 15)]
)
@pytest.mark.parametrize("keyed", [False, True])
def test_values_in_the_window(k: int, low: int, high: int, power: Power, keyed: bool) -> None:
    """v = x 4^(high - d) lies in [4^(high-1), 2 * 4^high), and the power uses the same d."""
    units = of_units(2 * low - 2, 2 * high, 200)
    results = scaled(units, Thresholds(low, high, k, power, 100), keyed).results
    value, found = values_of(results), powers_of(results)
    assert (value >= 4.0 ** (high - 1)).all()
    assert (value < 2 * 4.0**high).all()
    d = high - np.log2(value / units) / 2
    assert set(d) <= set(range(low, high + 1))
    assert [power.at(int(each), low, high) for each in d] == list(found)


@pytest.mark.parametrize(("low", "high"), [(1, 2), (1, 3), (2, 3)])
def test_counts_for_every_share_of_every_value(low: int, high: int) -> None:
    """Zero below 4^d, not zero from 2 * 4^d on, for all A and B of eight bits."""
    t = Thresholds(low, high, 8, Power.INVERSE, 64)
    a, b = (w.reshape(-1).astype(np.uint8) for w in np.meshgrid(np.arange(256), np.arange(256)))
    dealt = pivots_bits(t, a)
    half = RNG.integers(0, 256, dealt.shape, np.uint8)
    u, v = twins_counts(t, b, True, half), twins_counts(t, b, False, dealt - half)
    zero, x = reduced(u + v, t.count_log) == 0, (a + b).astype(int)
    logs = [log for run, log in t.runs for _ in t.places[run]]
    for column, d in enumerate(range(low, high)):
        most = reduced(u + v, t.count_log)[:, column].max()
        assert most < 1 << logs[column]
        assert zero[x < 4**d, column].all()
        assert not zero[(x >= 2 * 4**d) & (x < 128), column].any()


def test_a_value_beyond_the_range_is_not_scaled() -> None:
    units = np.array([4**5, 4**6 + 1, 4**20, 2 * 4**4])
    results = scaled(units, Thresholds(3, 5, 62, Power.INVERSE, 62)).results
    assert list(powers_of(results)) == [1, 1, 1, 1]
    assert list(values_of(results)) == list(units)


@pytest.mark.parametrize("keyed", [False, True])
def test_one_of_two_powers_is_cleared(keyed: bool) -> None:
    """A second value's lowest bit clears its own power, and a clear one the first value's."""
    first = Thresholds(1, 4, 16, Power.INVERSE_ROOT, 70)
    second = Thresholds(3, 5, 16, Power.INVERSE_ROOT, 90, 90)
    units, other = of_units(0, 8, 400), np.concatenate([of_units(4, 10, 400)])[:400]
    units = np.resize(units, len(other))

    def program(party: Party, *values: Replicated) -> Protocol[Any]:
        return (yield from to_windows(party, [see(party, x, 1) for x in values], [first, second], keyed))

    run = simulate(program, *(shared_words(from_integers(u, 16), 16) for u in (units, other)))
    assert run.cost == window_cost(len(units), [first, second], keyed)
    near, far = (powers_of([r[i] for r in run.results]) for i in range(2))
    if keyed:
        near = near * numbers([r[0].small for r in run.results])
    assert np.array_equal(near == 0, far != 0)
    assert (far[other < 4**3] == 0).all()
    assert (near[other >= 2 * 4**3] == 0).all()
    values = values_of([r[0] for r in run.results])
    assert np.array_equal((near**2 * units)[near > 0], values[near > 0])


@pytest.mark.parametrize("arguments", [(0, 3, 16), (3, 3, 16), (1, 8, 16), (1, 5, 15)])
def test_conditions(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolError):
        Thresholds(*arguments, Power.INVERSE, 64)


def test_a_value_of_another_ring_is_refused() -> None:
    t = Thresholds(1, 3, 16, Power.INVERSE, 64)
    with pytest.raises(ProtocolError, match="rings"):
        simulate(partial(program_of, t), shared_words(from_integers(np.ones(2), 20), 20))


def program_of(t: Thresholds, party: Party, x: Replicated) -> Protocol[Any]:
    return (yield from to_window(party, see(party, x, 0), t))
