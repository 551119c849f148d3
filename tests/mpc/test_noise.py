"""Noise: its distribution at one server and at the client, and who knows what of it."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from onnxpuma.errors import BuildError
from onnxpuma.mpc import noise
from onnxpuma.mpc.audit.views import Input, Source, random_inputs, random_source, record
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.noise import GAUSSIAN, KINDS, LAPLACE, drawn
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.noisy import noisy
from onnxpuma.mpc.ring.words import Words, signed
from onnxpuma.mpc.simulate import shared_words, simulate

SCALE, COUNT = 5, 8_000
FAR = 40 * SCALE  # beyond, the probability is below 10^-17
ALIKE = 1e-4  # a sound test fails once in 10^4 runs of a distribution


def exact(kind: str, scale: int = SCALE) -> np.ndarray:
    """The probabilities of -FAR to FAR."""
    at = np.arange(-FAR, FAR + 1, dtype=np.float64)
    weights = np.exp(-(at**2) / (2 * scale**2)) if kind == GAUSSIAN else np.exp(-np.abs(at) / scale)
    return weights / weights.sum()


def fits(found: np.ndarray, expected: np.ndarray) -> float:
    """The p-value of a chi-square test, over cells with 10 or more expected draws."""
    middle = len(expected) // 2
    counts = np.bincount(np.clip(found, -middle, middle) + middle, minlength=len(expected))
    likely = expected * len(found) >= 10
    rest = max(1e-12, 1 - expected[likely].sum())
    observed = np.append(counts[likely], len(found) - counts[likely].sum())
    cells = np.append(expected[likely], rest)
    return float(stats.chisquare(observed, cells / cells.sum() * len(found)).pvalue)


def several(kind: str, count: int) -> np.ndarray:
    """The distribution of the sum of so many servers' noise."""
    found = exact(kind)
    for _ in range(count - 1):
        found = np.convolve(found, exact(kind))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_one_server_draws_the_exact_distribution(kind: str) -> None:
    found = signed(drawn(kind, SCALE, (COUNT,), 64), 64)
    assert fits(found, exact(kind)) > ALIKE
    assert fits(found, exact(kind, SCALE + 1)) < ALIKE  # the test tells neighbouring scales apart


@pytest.mark.parametrize("kind", KINDS)
def test_an_opened_value_has_the_noise_of_all_three(kind: str) -> None:
    value = np.full(COUNT, 1 << 20, np.uint64)
    own: list[Words] = [np.zeros(0, np.uint64)] * 3

    def program(party: Party, x: Replicated) -> Protocol[Any]:
        own[party.index] = drawn(kind, SCALE, x.shape, 64)
        yield from ()
        return noisy(x, own[party.index])

    run = simulate(program, shared_words(value, 64))
    assert (run.cost.rounds, run.cost.bits) == (0, 0)
    seen = signed(run.words() - value, 64)
    assert fits(seen, several(kind, 3)) > ALIKE
    assert fits(seen, several(kind, 2)) < ALIKE
    for server in range(3):  # one that colludes with the client takes its own noise away
        rest = signed(run.words() - value - own[server], 64)
        assert fits(rest, several(kind, 2)) > ALIKE
        assert fits(rest, exact(kind)) < ALIKE
        assert abs(np.corrcoef(signed(own[server], 64), rest)[0, 1]) < 5 / math.sqrt(COUNT)


def own_noise(party: Party, *w: Words) -> Protocol[Any]:
    x = Replicated(party.index, w[party.index], w[(party.index + 1) % 3], Format(64, 0))
    yield from ()
    return noisy(x, w[3 + party.index])


def shared_noise(party: Party, *w: Words) -> Protocol[Any]:
    """Broken: the noise comes from a key that another party holds."""
    x = Replicated(party.index, w[party.index], w[(party.index + 1) % 3], Format(64, 0))
    other = party.draw(party.index + 1, x.shape, 64)
    yield from ()
    return noisy(x, party.draw(party.index, x.shape, 64) - other)


@pytest.mark.parametrize(("program", "sound"), [(own_noise, True), (shared_noise, False)])
def test_nobody_else_can_derive_a_servers_noise(program: Any, sound: bool) -> None:
    """No message tells of it, and no word of a key that two parties hold goes into it."""
    inputs = [Input(64, frozenset({j, (j + 2) % 3})) for j in range(3)]
    inputs += [Input(64, frozenset({j})) for j in range(3)]
    source: Source = random_source(64, 0)
    found = record(program, random_inputs(inputs, 64, 0), 64, source)
    assert (not found.messages and not any(found.tape.draws.values())) == sound


def test_draws_are_independent_of_each_other() -> None:
    first, second = (signed(drawn(GAUSSIAN, 1000, (4000,), 64), 64) for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(4000)
    assert drawn(LAPLACE, 3, (2, 5), 64).shape == (2, 5)
    assert drawn(LAPLACE, 3, (0, 5), 64).size == 0


def test_without_opendp_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BuildError, match=r"OpenDP[\s\S]*onnxpuma\[privacy\]"):
        noise.drawn(GAUSSIAN, 3, (1,), 64)
