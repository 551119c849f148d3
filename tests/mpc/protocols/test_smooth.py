"""Activations against float64: inside the window, densely at its edges, far outside, and without bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.fourier import all_series
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.smooth import LEAST, activation, activation_terms, terms_format
from onnxpuma.mpc.protocols.smooth_reading import Reading, every_reading, readings, readings_to_terms
from onnxpuma.mpc.simulate import shared_reals, simulate

RNG = np.random.default_rng(12)
erf = np.vectorize(math.erf)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# name: function, largest error, largest mean error on |x| < 6
FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float, float]] = {
    "gelu": (lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), 0.001, 0.00015),
    "gelu_tanh": (gelu_tanh, 0.001, 0.00015),
    "tanh": (np.tanh, 0.0012, 0.0002),
    "erf": (erf, 0.001, 0.0001),
    "sigmoid": (sigmoid, 0.001, 0.0002),
    "silu": (lambda x: x * sigmoid(x), 0.0016, 0.0003),
    "softplus": (lambda x: np.logaddexp(0, x), 0.0015, 0.0003),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), 0.0018, 0.00035),
}
NAMES = pytest.mark.parametrize("name", FUNCTIONS)


@cache
def program(name: str, pivot: int = 2) -> Callable[..., Protocol[Replicated]]:
    return lambda party, x: activation(party, x, all_series()[name], pivot, RESTING)


def errors(name: str, x: np.ndarray, pivot: int = 2) -> np.ndarray:
    return np.asarray(simulate(program(name, pivot), shared_reals(x)).value() - FUNCTIONS[name][0](x))


def edge(name: str) -> float:
    """The right end of the window."""
    series = all_series()[name]
    return series.width * series.unit / 2


def test_every_activation_is_tested() -> None:
    assert set(FUNCTIONS) == {name for name, series in all_series().items() if series.width}


@NAMES
def test_where_most_values_are(name: str) -> None:
    _, largest, mean = FUNCTIONS[name]
    error = errors(name, RNG.uniform(-6, 6, 60_000))
    assert np.abs(error).max() < largest
    assert np.abs(error).mean() < mean
    assert abs(error.mean()) < 4e-5


@NAMES
@pytest.mark.parametrize("side", [-1, 1])
def test_at_the_edges_of_the_window(name: str, side: int) -> None:
    """Dense points around the edge, which the coarse reading blurs by a unit on either side."""
    unit = all_series()[name].unit
    x = side * (edge(name) + np.linspace(-2 * unit, 2 * unit, 40_000))
    assert np.abs(errors(name, x)).max() < FUNCTIONS[name][1]


@NAMES
@pytest.mark.parametrize("argument", [60.0, 1000.0, 2.0**20, None])
def test_far_outside_of_the_window(name: str, argument: float | None) -> None:
    """The lines on both sides, up to the largest argument: the format's own, if none is stated."""
    limit = argument or 2.0**43
    ends = np.array([s * limit * (1 - 2.0**-p) for p in (20, 30, 40) for s in (1, -1)])
    powers = np.array([s * 2.0**i for i in range(43) for s in (1, -1)])
    x = np.concatenate([RNG.uniform(-limit, limit, 5000), ends, powers[np.abs(powers) < limit]])

    def far(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from activation(party, x, all_series()[name], 2, RESTING, argument))

    with np.errstate(over="ignore"):
        error = simulate(far, shared_reals(x)).value() - FUNCTIONS[name][0](np.round(x * 2**18) / 2**18)
    assert np.abs(error).max() < FUNCTIONS[name][1]


@NAMES
@pytest.mark.parametrize("argument", [8.0, 30.0, 1000.0, None])
@pytest.mark.parametrize("form", [Replicated, Sum3])
def test_every_way_to_read(name: str, argument: float | None, form: type) -> None:
    """All of them, near the window and far out, of a value and of a product."""
    function, largest, _ = FUNCTIONS[name]
    limit = argument or 2.0**25
    x = np.concatenate(
        [RNG.uniform(-limit, limit, 2000), RNG.uniform(-6, 6, 2000), [limit * 0.999999, -limit]]
    )
    x = np.round(x * 2**18) / 2**18
    source = RESTING if form is Replicated else RESTING.at(36)
    ways = every_reading(all_series()[name], argument, source, RESTING)
    assert len(ways) >= (2 if argument else 1)

    def program(
        party: Party, x: Replicated, one: Replicated, way: Reading | None = None
    ) -> Protocol[Replicated]:
        given = x if form is Replicated else multiply(party, x, one)
        return (yield from activation(party, given, all_series()[name], 0, RESTING, argument, way))

    for way in ways:
        run = simulate(partial(program, way=way), shared_reals(x), shared_reals(np.ones_like(x)))
        assert np.abs(run.value() - function(x)).max() < largest, way.name
        assert run.cost == way.cost(x.size, RESTING, form)


def test_readings_are_worth_their_bits() -> None:
    """From the fewest bits to the fewest rounds: 5 to 3 for a small argument, one fewer far out."""
    for argument, rounds in ((8.0, [5, 4, 3]), (1000.0, [5, 4]), (None, [6, 5])):
        costs = [
            w.cost(8, RESTING, Sum3)
            for w in readings(all_series()["gelu"], argument, Sum3, RESTING.at(36), RESTING)
        ]
        assert [c.rounds for c in costs] == rounds
        assert sorted(c.bits for c in costs) == [c.bits for c in costs]


@NAMES
def test_where_the_value_is_known_exactly(name: str) -> None:
    """At zero, one unit of the format on either side, and powers of two."""
    x = np.array([0.0, 2.0**-18, -(2.0**-18), *(s * 2.0**i for i in range(-17, 10) for s in (1, -1))])
    assert np.abs(errors(name, np.tile(x, 100))).max() < FUNCTIONS[name][1]


@pytest.mark.parametrize("pivot", [0, 1, 2])
def test_every_pivot(pivot: int) -> None:
    for name in ("gelu", "tanh"):
        assert np.abs(errors(name, RNG.uniform(-20, 20, 5000), pivot)).max() < 1.2e-3


@pytest.mark.parametrize("name", ["gelu", "sigmoid"])
def test_a_product_is_read_as_it_is(name: str) -> None:
    def of_product(party: Party, x: Replicated, y: Replicated) -> Protocol[Replicated]:
        return (yield from activation(party, multiply(party, x, y), all_series()[name], 1, RESTING))

    x, y = RNG.normal(0, 3, (2, 200, 30))
    run = simulate(of_product, shared_reals(x), shared_reals(y))
    assert run.results[0].shape == x.shape
    assert np.abs(run.value() - FUNCTIONS[name][0](x * y)).max() < 1.2e-3


@pytest.mark.parametrize(("fraction", "bits"), [(14, 60), (16, 48), (18, 64), (22, 64)])
def test_other_scales_of_the_result(fraction: int, bits: int) -> None:
    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from activation(party, x, all_series()["gelu"], 0, Format(bits, fraction)))

    x = RNG.uniform(-10, 10, 3000)
    run = simulate(program, shared_reals(x))
    assert (run.results[0].fraction, run.results[0].bits) == (fraction, bits)
    assert np.abs(run.value() - FUNCTIONS["gelu"][0](x)).max() < 1.2e-3


@pytest.mark.parametrize("name", ["gelu", "silu", "softplus", "mish"])
@pytest.mark.parametrize("argument", [8.0, 60.0, 1000.0])
@pytest.mark.parametrize("form", [Replicated, Sum3])
def test_left_as_terms(name: str, argument: float, form: type) -> None:
    """Near the window and far out, as `activation` has it; in a ring from which a lift is exact."""
    function, largest, _ = FUNCTIONS[name]
    x = np.concatenate([RNG.uniform(-argument, argument, 1000), RNG.uniform(-6, 6, 1000), [-argument]])
    x = np.concatenate([np.round(x * 2**18) / 2**18, [argument * 0.999999]])
    source = RESTING if form is Replicated else RESTING.at(36)
    ways = readings_to_terms(all_series()[name], argument, source)
    assert ways
    for way in ways:

        def program(party: Party, x: Replicated, one: Replicated, way: Reading = way) -> Protocol[Sum3]:
            given = x if form is Replicated else multiply(party, x, one)
            return (yield from activation_terms(party, given, 1, way))

        run = simulate(program, shared_reals(x), shared_reals(np.ones_like(x)))
        made = run.results[0].format
        assert made == terms_format(way)
        assert run.value().min() >= LEAST
        assert run.value().max() < made.largest * 2 + LEAST
        assert np.abs(run.value() - function(x)).max() < largest
        assert np.abs((run.value() - function(x)).mean()) < 1e-4
        cost = way.cost(x.size, RESTING, form)
        assert (cost.rounds, cost.bits) == (run.cost.rounds, run.cost.bits)


def test_a_step_is_not_left_as_terms() -> None:
    assert readings_to_terms(all_series()["tanh"], 8.0, RESTING) == ()
