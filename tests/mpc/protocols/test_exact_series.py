"""Series in long words: alone, times one or two split numbers, and plus a multiple of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol, U
from onnxpuma.mpc.protocols import exact_series
from onnxpuma.mpc.protocols.exact_series import (
    ARGUMENT_BITS,
    series_long,
    series_long_cost,
    series_plus,
    series_plus_cost,
    series_times,
    series_times_cost,
)
from onnxpuma.mpc.protocols.fourier import all_series, result_fraction
from onnxpuma.mpc.protocols.long_words import (
    Coming,
    LongPair,
    LongSplit,
    deal_long,
    deal_long_cost,
    pass_on_long,
    pass_on_long_cost,
)
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.ring.words import from_integers
from onnxpuma.mpc.simulate import Run, shared_words, simulate

RNG = np.random.default_rng(16)
N = 700
WORDS = RNG.integers(0, 1 << ARGUMENT_BITS, N)
FRACTION = 24


def exact(name: str) -> np.ndarray:
    series, angle = all_series()[name], WORDS * 2 * np.pi / 2**ARGUMENT_BITS
    value = np.full(N, series.coefficients[0])
    for m, c, s in zip(series.multiples, series.coefficients[1::2], series.coefficients[2::2], strict=True):
        value += c * np.cos(m * angle) + s * np.sin(m * angle)
    return value


def split_of(party: Party, numbers: list[int], bits: int) -> LongSplit:
    """A split of known numbers, led by party 1."""
    source = np.random.default_rng(5)
    b = [int(v) << 64 | int(w) for v, w in source.integers(0, 1 << 64, (len(numbers), 2), np.uint64)]
    role = party.role(1)
    mine = [x - y for x, y in zip(numbers, b, strict=True)] if role == PIVOT else b
    words = Long.constants(mine)
    return LongSplit(role, 1, Coming([[words.low, words.high]]), bits)


def ran(protocol: Any, fraction: int, bits: int, cost: Cost) -> np.ndarray:
    """The result as numbers, lowered to 30 fraction bits."""

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        y = yield from protocol(party, see(party, x, 1))
        return y.lowered(fraction - 30, Format(min(64, bits - fraction + 30), 30))

    run: Run = simulate(program, shared_words(from_integers(WORDS, ARGUMENT_BITS), ARGUMENT_BITS))
    assert run.cost == cost
    return np.asarray(run.value())


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt", "log", "sqrt"])
@pytest.mark.parametrize("gain", [1.0, 0.6])
def test_alone(name: str, gain: float) -> None:
    series = all_series()[name]
    fraction = result_fraction(series, FRACTION, gain)
    cost = series_long_cost(series, N, fraction + 9, FRACTION, gain)
    value = ran(
        lambda p, x: series_long(p, series, x, fraction + 9, FRACTION, gain), fraction, fraction + 9, cost
    )
    assert np.abs(value - gain * exact(name)).max() < 3 * 2.0**-FRACTION * series.harmonics**0.5


@pytest.mark.parametrize("bits", [66, 90, 128])
def test_times_a_power(bits: int) -> None:
    series = all_series()["rsqrt"]
    most = bits - 7 - result_fraction(series, FRACTION)
    power = [1 << int(e) for e in RNG.integers(0, min(most, 27), N)]
    fraction = result_fraction(series, FRACTION)
    value = ran(
        lambda p, x: series_times(p, series, x, [split_of(p, power, bits)], FRACTION),
        fraction,
        bits,
        series_times_cost(series, N, bits, FRACTION),
    )
    assert np.abs(value / power - exact("rsqrt")).max() < 2.0**-20


def test_times_a_power_and_a_bit() -> None:
    series, bits = all_series()["sqrt"], 96
    power = [1 << int(e) for e in RNG.integers(0, 20, N)]
    bit = [int(e) for e in RNG.integers(0, 2, N)]
    fraction = result_fraction(series, FRACTION)
    value = ran(
        lambda p, x: series_times(p, series, x, [split_of(p, v, bits) for v in (power, bit)], FRACTION),
        fraction,
        bits,
        series_times_cost(series, N, bits, FRACTION, powers=2),
    )
    assert (value[np.array(bit) == 0] == 0).all()
    assert np.abs(value / power - exact("sqrt") * bit).max() < 2.0**-20


def test_plus_a_multiple() -> None:
    series, bits = all_series()["log"], 90
    count = [int(e) for e in RNG.integers(0, 30, N)]
    fraction = result_fraction(series, FRACTION)
    weight = -round(1.375 * 2.0**fraction)
    value = ran(
        lambda p, x: series_plus(p, series, x, split_of(p, count, bits), weight, FRACTION),
        fraction,
        bits,
        series_plus_cost(series, N, bits, FRACTION),
    )
    assert np.abs(value + 1.375 * np.array(count) - exact("log")).max() < 2.0**-20


def test_no_floating_point_cosine_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pivot's words too are the same on every machine."""
    series = exact_series.exact(all_series()["rsqrt"], 24, 0.7)

    def tables() -> list[bytes]:
        words = from_integers(WORDS, ARGUMENT_BITS)
        both = (exact_series._dealt(series, words), exact_series._factors(series, words))
        return [w.tobytes() for w in both]

    before = tables()
    for name in ("cos", "sin", "exp"):
        monkeypatch.setattr(np, name, lambda x: 1 / 0)
    assert tables() == before


@pytest.mark.parametrize("widths", [[3], [70] * 9, [128, 100, 64, 63, 20, 8, 1, 1, 90, 5]])
def test_long_words_are_dealt(widths: list[int]) -> None:
    words = Long(*RNG.integers(0, 1 << 64, (2, 6, len(widths)), np.uint64))

    def program(party: Party) -> Protocol[Any]:
        coming = deal_long(party, 0, words if party.role(0) == PIVOT else None, 6, widths)
        yield
        return None if party.role(0) == PIVOT else coming.take()

    run = simulate(program)
    assert run.cost == deal_long_cost(6, widths)
    difference = run.results[1] + run.results[2] - words
    for column, width in enumerate(widths):
        low, high = (side[:, column].tolist() for side in (difference.low, difference.high))
        assert all((a + (b << 64)) % (1 << width) == 0 for a, b in zip(low, high, strict=True))


@pytest.mark.parametrize("bits", [40, 64, 65, 100, 128])
def test_long_words_are_passed_on(bits: int) -> None:
    halves = [Long(*RNG.integers(0, 1 << 64, (2, 6), np.uint64)) for _ in range(2)]

    def program(party: Party) -> Protocol[Any]:
        role = party.role(2)
        pair = LongPair(role, 2, None if role == PIVOT else halves[role == U], (6,), bits)
        split = pass_on_long(party, pair)
        yield
        return split.role, split.words

    run = simulate(program)
    assert run.cost == pass_on_long_cost(6, bits)
    parts = dict(run.results)
    for twin in (1, 2):
        difference = parts[0] + parts[twin] - halves[0] - halves[1]
        limbs = zip(difference.low.tolist(), difference.high.tolist(), strict=True)
        assert all((low + (high << 64)) % (1 << bits) == 0 for low, high in limbs)


def test_a_ring_too_small_for_the_result_is_refused() -> None:
    with pytest.raises(ProtocolError, match="wider"):
        LongPair(0, 0, None, (1,), 90).lowered(30, Format(64, 0))
