"""Softmax and attention by a histogram, as a network of long rounds takes them: rows, spreads and masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from onnxpuma.check import single
from onnxpuma.check.single import Comparison
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.protocols.exp_softmax import NARROW, WIDE
from onnxpuma.ops.numerators import fastest_reading
from onnxpuma.ops.score_reading import Reading, farthest_apart, histograms

Check = Callable[[Comparison, float], None]
FAR = Network(1e10, 0.04)
compare = partial(single.compare, network=FAR)
TOLERANCE = 4e-4


def reals(*shape: int, seed: int = 0, scale: float = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def bounded(x: np.ndarray, most: float) -> dict[str, np.ndarray]:
    return {"x": np.clip(x, -most, most)}


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Plan as if scores of a row were known to lie less than this apart."""

    def known(spread: float) -> None:
        for place in ("softmax", "attention_left", "attention_scale"):
            monkeypatch.setattr(f"onnxpuma.ops.{place}.SPREAD", spread)
            monkeypatch.setattr(f"onnxpuma.ops.{place}.LEAST_SPREAD", spread, raising=False)

    return known


def by_histogram(done: Comparison) -> bool:
    """The rounds do not grow with the rows."""
    return bool(done.outcome.plan.cost.rounds < 25)


@pytest.mark.parametrize("shape", [(5, 1), (3, 2), (7, 129), (40, 50), (2000, 3), (1, 2500), (3, 600)])
@pytest.mark.parametrize("spread", [20.0, 140.0])
def test_softmax(check: Check, near: Any, shape: tuple[int, ...], spread: float) -> None:
    near(spread)
    x = reals(*shape, scale=spread / 5)
    done = compare("Softmax", bounded(x, spread / 2 - 1))
    check(done, 1e-4)
    assert by_histogram(done)


@pytest.mark.parametrize("below", [1.0, 7.0, 12.0, 14.0, 17.5, 24.0, 100.0])
def test_scores_below_the_first_and_above_it(check: Check, near: Any, below: float) -> None:
    """The first score of a row is the origin: the largest, the lowest, or between."""
    near(140.0)
    x = reals(9, 40, scale=0.5)
    x[:3, 0] += below
    x[3:6, 0] -= below
    x[6:, 1::2] -= below
    check(compare("Softmax", {"x": x}), 1e-4)


def test_a_small_numerator_keeps_its_digits(check: Check, near: Any) -> None:
    """Two equal scores, at every distance from the edges of the buckets: each gets exactly a half."""
    near(140.0)
    x = np.full((400, 5), -60, np.float32)
    x[:, 0] = 0
    x[:, 2] = x[:, 4] = np.linspace(30, 38, 400)
    check(compare("Softmax", {"x": x}), 5e-5)


def test_a_long_row_of_which_nearly_all_lies_far_below(near: Any) -> None:
    near(140.0)
    x = np.full((2, 5000), -14.0, np.float32)
    x[0, 7] = x[1, 4999] = 0
    done = compare("Softmax", {"x": x})
    assert done.error < 1e-3


def heads(queries: int = 5, keys: int = 6, **more: Any) -> dict[str, Any]:
    made = {
        "q": reals(2, 4, queries, 8),
        "k": reals(2, 4, keys, 8, seed=1),
        "v": reals(2, 4, keys, 10, seed=2),
    }
    return {**made, **more}


@pytest.mark.parametrize("attributes", [{}, {"is_causal": 1}, {"scale": 1.0}, {"softcap": 2.0}])
def test_attention(check: Check, near: Any, attributes: dict[str, float]) -> None:
    near(60.0)
    done = compare("Attention", heads(), **attributes)
    check(done, TOLERANCE + 2e-3 * attributes.get("softcap", 0))
    assert by_histogram(done)


def test_attention_with_masks_and_a_cache(check: Check, near: Any) -> None:
    near(60.0)
    mask = np.random.default_rng(3).random((2, 1, 5, 6)) > 0.4
    mask[..., 1] = True
    check(compare("Attention", heads(mask=mask)), TOLERANCE)
    check(
        compare("Attention", heads(mask=np.where(mask, 0, -np.inf).astype(np.float32)), public=["mask"]),
        TOLERANCE,
    )
    past = {"past_k": reals(2, 4, 3, 8, seed=5), "past_v": reals(2, 4, 3, 10, seed=6)}
    check(compare("Attention", heads(mask=None, **past), outputs=3), TOLERANCE)
    shown = compare("Attention", heads(), outputs=4, qk_matmul_output_mode=3)
    assert shown.outcome.cost == shown.outcome.plan.cost
    assert np.abs(shown.all_got[3] - shown.all_want[3]).max() < 1e-4


def test_many_heads(check: Check, near: Any) -> None:
    near(60.0)
    feed = {"q": reals(1, 8, 16, 16), "k": reals(1, 8, 16, 16, seed=1), "v": reals(1, 8, 16, 16, seed=2)}
    check(compare("Attention", feed, is_causal=1), TOLERANCE)


@pytest.mark.parametrize("spread", [3.0, 20.0, 60.0, 139.6, 256.0, 500.0])
@pytest.mark.parametrize("ring", [64, 48])
def test_a_reading_covers_what_it_declares(spread: float, ring: int) -> None:
    """Every histogram reads as far as a tournament, in as many bits as there are."""
    ways = histograms(spread, RESTING, ring, fine=True)
    if spread < 250:
        assert {how.window for how in ways} == ({NARROW, WIDE} if ring == 64 else {NARROW})
    for how in [Reading(spread), *ways]:
        assert spread <= how.farthest + 3
        assert how.farthest >= farthest_apart(spread)
        assert how.blur <= (2.0 if how.window == NARROW else 6.0)
        assert how.window.reach - how.blur >= 14
        assert how.bits <= RESTING.bits
    assert all(how.window == NARROW for how in histograms(spread, RESTING, 64, fine=False))


def test_a_histogram_needs_the_bits_of_its_span() -> None:
    held = RESTING.at(36)
    assert histograms(140.0, held, 64, fine=True)
    assert not histograms(140.0, held.modulo(40), 64, fine=True)


def test_the_network_decides() -> None:
    ways, lengths = histograms(140.0, RESTING, 64, fine=True), np.full(1536, 128)
    tournament = Reading(140.0)
    taken = {
        name: fastest_reading(network, tournament, ways, lengths, object, 64)
        for name, network in {"far": FAR, "usual": USUAL, "few bytes": Network(1e8, 1e-4)}.items()
    }
    assert taken["usual"] == taken["few bytes"] == tournament
    assert taken["far"].peak is not None
