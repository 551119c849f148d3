"""Declared costs: every protocol's rounds and bits equal the links' counts, for any number of elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.mpc.cost import FREE, Cost, packed
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, Split, Sum3, see
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.protocols import (
    boolean,
    clamp,
    compare,
    convert,
    exp_softmax,
    exponential,
    fourier,
    gate,
    histogram,
    lifting_gate,
    logarithm,
    maximum,
    power_of_four,
    reciprocal,
    smooth,
    term_product,
    wide,
)
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.thresholds import Power, Thresholds
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.truncate import lift, lift_cost, resolve, resolve_cost
from onnxpuma.mpc.protocols.widen import lift_pair, lift_pair_cost, widen, widen_cost
from onnxpuma.mpc.simulate import shared_reals, simulate

SIZES = (1, 3, 8, 77, 1003)
PEAK = histogram.Histogram(6, 4, 1)
GELU = fourier.all_series()["gelu"]


def arrived(x: Any) -> Protocol[Any]:
    yield
    return x


def split(party: Party, x: Replicated, bits: int, halves: bool = False) -> Split:
    seen = see(party, x, 2).modulo(bits)
    return seen if halves else Split(seen.role, 2, seen.words, Format(bits, seen.fraction))


def pair(party: Party, x: Replicated, bits: int) -> Pair:
    return Pair(party.role(2), 2, x.modulo(bits).first, Format(bits, x.fraction))


def bit(party: Party, x: Replicated) -> Bit:
    return Bit(party.role(2), 2, np.zeros(-(-x.size // 8), np.uint8), x.shape)


def rows(n: int) -> np.ndarray:
    return np.array([n]) if n < 10 else np.array([1, 2, n - 10, 7])


def squared(party: Party, x: Replicated) -> Sum3:
    return multiply(party, x, x)


def terms(party: Party, x: Replicated) -> Sum3:
    return squared(party, x).modulo(21).with_fraction(15)


def local(x: Any) -> Protocol[Any]:
    yield from ()
    return x


def drained(protocol: Protocol[Any]) -> Protocol[Any]:
    """A protocol whose last round is still open when it returns."""
    result = yield from protocol
    yield
    return result


Run = Callable[[Party, Replicated], Protocol[Any]]
DIGITS = boolean.Circuit(
    6,
    tuple(boolean.Table(f"equal{d}", 2 * d, 2, lambda a, b: a == b) for d in range(3)),
    (boolean.xor((0, 1, 2), (1,)),),
)

CASES: dict[str, tuple[Run, Callable[[int], Cost]]] = {
    "split of a product": (
        lambda p, x: arrived(convert.split(p, squared(p, x), 2, Format(20, 14))),
        lambda n: convert.split_cost(n, 20),
    ),
    "split of a replicated value": (
        lambda p, x: local(convert.split(p, x, 2, Format(20, 14))),
        lambda n: convert.split_cost(n, 20, Replicated),
    ),
    "replicate_sum": (
        lambda p, x: arrived(convert.replicate_sum(p, squared(p, x))),
        lambda n: convert.replicate_sum_cost(n, 64),
    ),
    "pass_on": (
        lambda p, x: arrived(convert.pass_on(p, pair(p, x, 13))),
        lambda n: convert.pass_on_cost(n, 13),
    ),
    "widen": (lambda p, x: widen(p, pair(p, x, 19), 64), lambda n: widen_cost(n, 19, 64)),
    "lift of a pair": (lambda p, x: lift_pair(p, pair(p, x, 19), 60), lambda n: lift_pair_cost(n, 19, 60)),
    "pair in fewer bits": (
        lambda p, x: lift_pair(p, pair(p, x, 19), 11),
        lambda n: lift_pair_cost(n, 19, 11),
    ),
    "deal": (
        lambda p, x: arrived(convert.deal(p, 2, x.first if p.role(2) == PIVOT else None, x.shape, 31)),
        lambda n: convert.deal_cost(n, 31),
    ),
    "resolve a product": (
        lambda p, x: resolve(p, squared(p, x), 2, RESTING),
        lambda n: resolve_cost(n, 18, 64),
    ),
    "resolve a product to fewer bits": (
        lambda p, x: resolve(p, squared(p, x), 2, Format(32, 10)),
        lambda n: resolve_cost(n, 26, 64, bits=32),
    ),
    "resolve a product upwards": (
        lambda p, x: resolve(p, squared(p, x), 2, Format(64, 40)),
        lambda n: resolve_cost(n, -4, 64),
    ),
    "resolve a replicated value": (
        lambda p, x: resolve(p, x, 2, Format(64, 12)),
        lambda n: resolve_cost(n, 6, 64, Replicated),
    ),
    "resolve a product in one round": (
        lambda p, x: resolve(p, squared(p, x), 2, Format(42, 14)),
        lambda n: Cost(1, 3 * packed(n, 42)),
    ),
    "resolve a product to the ring that is left": (
        lambda p, x: resolve(p, squared(p, x), 2, Format(42, 14)),
        lambda n: resolve_cost(n, 22, 64, bits=42),
    ),
    "resolve a replicated value to the ring that is left": (
        lambda p, x: resolve(p, x, 2, Format(58, 12)),
        lambda n: resolve_cost(n, 6, 64, Replicated, 58),
    ),
    "resolve what is resolved": (
        lambda p, x: resolve(p, x, 2, RESTING),
        lambda n: resolve_cost(n, 0, 64, Replicated),
    ),
    "a circuit of digits of two bits": (
        lambda p, x: boolean.evaluate(p, split(p, x, 6), DIGITS),
        DIGITS.cost,
    ),
    "gate with halves": (
        lambda p, x: gate.gate(p, bit(p, x), split(p, x, 28, True)),
        lambda n: gate.gate_cost(n, 28, True),
    ),
    "gate without halves": (
        lambda p, x: gate.gate(p, bit(p, x), split(p, x, 28)),
        lambda n: gate.gate_cost(n, 28, False),
    ),
    "gate that lifts": (
        lambda p, x: lifting_gate.lifting_gate(p, bit(p, x), x.modulo(17), 25),
        lambda n: lifting_gate.lifting_gate_cost(n, 17, 25),
    ),
    "gate that lifts a split": (
        lambda p, x: lifting_gate.lifting_gate(p, bit(p, x), split(p, x, 17), 60),
        lambda n: lifting_gate.lifting_gate_cost(n, 17, 60, Split),
    ),
    "gate, and a lift": (
        lambda p, x: lifting_gate.gated_up(p, bit(p, x), split(p, x, 17, True), 60),
        lambda n: lifting_gate.gated_up_cost(n, 17, 60),
    ),
    "gate that lifts straight": (
        lambda p, x: lifting_gate.gated_up(p, bit(p, x), split(p, x, 17, True), 60, True),
        lambda n: lifting_gate.gated_up_cost(n, 17, 60, True),
    ),
    "terms times a value": (
        lambda p, x: term_product.multiply_terms(p, squared(p, x).modulo(21), x.modulo(40), 2),
        lambda n: term_product.multiply_terms_cost(n, 21, 40),
    ),
    "terms times a value, widened": (
        lambda p, x: term_product.product_of_terms(p, terms(p, x), x.modulo(46), 2, 40, Format(48, 18)),
        lambda n: term_product.product_of_terms_cost(n, Format(21, 15), 18, 40, Format(48, 18)),
    ),
    "terms times a value, all bits at once": (
        lambda p, x: term_product.product_of_terms(p, terms(p, x), x, 2, 63, Format(48, 18)),
        lambda n: term_product.product_of_terms_cost(n, Format(21, 15), 18, 63, Format(48, 18)),
    ),
    "arithmetic": (
        lambda p, x: gate.arithmetic(p, bit(p, x), 28),
        lambda n: gate.arithmetic_cost(n, 28),
    ),
    "row_maximum": (
        lambda p, x: drained(maximum.row_maximum(p, split(p, x, 12), rows(x.size))),
        lambda n: maximum.row_maximum_cost(n, rows(n), 12),
    ),
    "row_maximum_by_fours": (
        lambda p, x: drained(maximum.row_maximum_by_fours(p, split(p, x, 12), rows(x.size))),
        lambda n: maximum.row_maximum_by_fours_cost(n, rows(n), 12),
    ),
    "row_peak": (
        lambda p, x: drained(histogram.row_peak(p, split(p, x, 26), rows(x.size), PEAK, 25)),
        lambda n: histogram.row_peak_cost(rows(n), PEAK, 25),
    ),
    "series": (
        lambda p, x: fourier.evaluate_series(p, GELU, split(p, x, 16), 12, 38),
        lambda n: fourier.series_cost(GELU, n, 12, 38),
    ),
    "exp_window": (
        lambda p, x: exp_softmax.exp_window(p, split(p, x, 27)),
        lambda n: exp_softmax.exp_window_cost(n, 5),
    ),
    "exp_window of many digits": (
        lambda p, x: exp_softmax.exp_window(p, split(p, x, 31), exp_softmax.WIDE),
        lambda n: exp_softmax.exp_window_cost(n, 10, exp_softmax.WIDE),
    ),
    "exponential": (lambda p, x: exponential.exponential(p, x, 2), exponential.exponential_cost),
    "logarithm": (
        lambda p, x: logarithm.logarithm(p, x, 2),
        lambda n: logarithm.logarithm_cost(n, 64, Replicated),
    ),
    "activation at another scale": (
        lambda p, x: smooth.activation(p, x, GELU, 2, Format(48, 16)),
        lambda n: smooth.activation_cost(GELU, n, RESTING, Format(48, 16), Replicated),
    ),
    "held between two ends": (
        lambda p, x: clamp.between(p, x, 2, -1 << 18, 6 << 18, 40),
        lambda n: clamp.between_cost(n, -1 << 18, 6 << 18, 40, 64),
    ),
    "between, by whole gates": (
        lambda p, x: clamp.between(p, x, 2, -1 << 18, 6 << 18, 40, True),
        lambda n: clamp.between_cost(n, -1 << 18, 6 << 18, 40, 64, True),
    ),
    "held between two ends, and what is above": (
        lambda p, x: clamp.between_and_above(p, x, 2, -1 << 18, 6 << 18, 64),
        lambda n: clamp.between_and_above_cost(n, -1 << 18, 6 << 18, 64, 64),
    ),
    "rsqrt of a product": (
        lambda p, x: reciprocal.rsqrt(p, squared(p, x), 2, RESTING, (4, 20)),
        lambda n: reciprocal.inverse_cost("rsqrt", n, (4, 20), 36, RESTING),
    ),
}


def check(run: Run, cost: Callable[[int], Cost]) -> None:
    for n in SIZES:
        assert simulate(run, shared_reals(np.linspace(0.5, 3.0, n))).cost == cost(n), f"{n} elements"


@pytest.mark.parametrize("name", CASES)
def test_declared_is_counted(name: str) -> None:
    check(*CASES[name])


@pytest.mark.parametrize("k", [5, 28, 64])
def test_replicate_pair(k: int) -> None:
    check(
        lambda p, x: arrived(convert.replicate_pair(p, pair(p, x, k))),
        lambda n: convert.replicate_pair_cost(n, k),
    )


@pytest.mark.parametrize(("k", "bits"), [(46, 64), (28, 60), (20, 32), (64, 64), (40, 32), (7, 9)])
def test_lift(k: int, bits: int) -> None:
    check(lambda p, x: lift(p, split(p, x, k), bits), lambda n: lift_cost(n, k, bits))


@pytest.mark.parametrize("k", [2, 4, 7, 12, 16, 24])
def test_sign(k: int) -> None:
    check(lambda p, x: compare.is_negative(p, split(p, x, k)), lambda n: compare.is_negative_cost(n, k))


@pytest.mark.parametrize(("k", "width"), [(12, 16), (12, 9), (8, 1), (6, 16)])
def test_window(k: int, width: int) -> None:
    check(
        lambda p, x: compare.locate(p, split(p, x, k), width, way=compare.one_round(k)),
        lambda n: compare.one_round(k).cost(n),
    )
    check(lambda p, x: compare.locate(p, split(p, x, k), width), lambda n: compare.locate_cost(n, k))
    check(
        lambda p, x: compare.locate(p, split(p, x, k), width, True),
        lambda n: compare.locate_cost(n, k, True),
    )


@pytest.mark.parametrize("k", [8, 16, 24, 36, 64])
def test_wide_comparisons(k: int) -> None:
    check(lambda p, x: compare.wide_negative(p, split(p, x, k)), lambda n: compare.wide_negative_cost(n, k))
    check(lambda p, x: wide.wide_zero(p, split(p, x, k)), lambda n: wide.wide_zero_cost(n, k))


@pytest.mark.parametrize("digits", [(1, 16), (9, 10)])
def test_normalise(digits: tuple[int, int]) -> None:
    scaling = Thresholds(*digits, 62, Power.INVERSE, 96)
    check(
        lambda p, x: power_of_four.to_window(p, split(p, x, 62), scaling),
        lambda n: power_of_four.window_cost(n, [scaling]),
    )


@pytest.mark.parametrize("name", ["gelu", "tanh", "erf", "sigmoid", "silu", "softplus"])
@pytest.mark.parametrize("argument", [8.0, 1000.0, 2.0**20, None])
@pytest.mark.parametrize("form", [Replicated, Sum3])
def test_activation(name: str, form: type, argument: float | None) -> None:
    series, given = fourier.all_series()[name], 36 if form is Sum3 else 18

    def program(p: Party, x: Replicated) -> Protocol[Any]:
        x_or_square = squared(p, x) if form is Sum3 else x
        return (yield from smooth.activation(p, x_or_square, series, 2, RESTING, argument))

    check(program, lambda n: smooth.activation_cost(series, n, RESTING.at(given), RESTING, form, argument))


@pytest.mark.parametrize(
    ("function", "gain", "digits"),
    [
        (reciprocal.reciprocal, 1.0, reciprocal.RECIPROCAL_RANGE),
        (reciprocal.reciprocal, 3.0, (8, 12)),
        (reciprocal.rsqrt, 27.7, reciprocal.WHOLE_RANGE),
        (reciprocal.rsqrt, 0.3, (10, 11)),
    ],
)
@pytest.mark.parametrize("way", list(Way))
def test_inverses(function: Any, gain: float, digits: tuple[int, int], way: Way) -> None:
    made = RESTING.at(24)
    check(
        lambda p, x: function(p, x, 2, made, digits, gain, way),
        lambda n: reciprocal.inverse_cost(function.__name__, n, digits, 18, made, gain, Replicated, way),
    )


def resolved_square(party: Party, x: Replicated) -> Protocol[Any]:
    return (yield from resolve(party, squared(party, x), 2, RESTING))


@pytest.mark.filterwarnings("error")
def test_shapes_do_not_matter() -> None:
    for shape in ((), (1, 1), (3, 0, 2), (2, 3, 5)):
        x, n = np.full(shape, 0.5), int(np.prod(shape))
        run = simulate(resolved_square, shared_reals(x))
        assert run.cost == resolve_cost(n, 18, 64)
        assert run.value().shape == shape
        run = simulate(lambda p, x: smooth.activation(p, x, GELU, 1, RESTING), shared_reals(x))
        assert run.cost == smooth.activation_cost(GELU, n, RESTING, RESTING, Replicated)
        assert run.value().shape == shape


def test_costs_add_up() -> None:
    a, b = Cost(2, 100), Cost(3, 10)
    assert a + b == Cost(5, 110)
    assert a | b == Cost(3, 110)
    assert a * 3 == Cost(2, 300)
    assert a * 0 == FREE
    assert (a + b).merged() == Cost(4, 110)
    assert b.bytes == 1.25
    assert [packed(n, 5) for n in (0, 1, 2, 8)] == [0, 8, 16, 40]
