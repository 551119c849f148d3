"""An attention divides by its row sums after or before their reciprocals are Replicated, a round sooner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.mpc.cost import Network
from onnxpuma.ops.attention_reading import reading_of
from onnxpuma.ops.numerators import row_reciprocals_cost
from onnxpuma.plan.examine.choices import ways_taken

Check = Callable[[Comparison, float], None]
TOLERANCE = 4e-4
BESIDE, AFTER = "quotient beside the reciprocal", "quotient after the reciprocal"
FAR, SLOW = Network(1e12, 1.0), Network(1e3, 1e-9)  # rounds alone count, or bytes


def reals(*shape: int, seed: int = 0, scale: float = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def heads(batch: int = 2, queries: int = 5, keys: int = 6, scale: float = 1) -> dict[str, Any]:
    return {
        "q": reals(batch, 4, queries, 8),
        "k": reals(batch, 2, keys, 8, seed=1),
        "v": reals(batch, 2, keys, 10, seed=2, scale=scale),
    }


def taken(done: Comparison) -> dict[str, int]:
    return ways_taken(done.outcome.plan)["Attention"]


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_both_ways_give_the_quotient_at_their_cost(check: Check, size: float) -> None:
    """Rows of one key and of many, led by one pivot; values of any size."""
    feed = heads(queries=6, keys=6, scale=size)
    far, slow = (compare("Attention", feed, network=network, is_causal=1) for network in (FAR, SLOW))
    assert (BESIDE in taken(far), AFTER in taken(slow)) == (True, True)
    for done in (far, slow):
        check(done, 5e-5 + 1e-4 * float(np.abs(feed["v"]).max()))


def test_it_saves_a_round_and_adds_none() -> None:
    """On one network, an attention that shows its weights divides these afterwards and takes a round more."""
    plain, shown = (
        compare("Attention", heads(), network=FAR, outputs=count, qk_matmul_output_mode=3) for count in (1, 4)
    )
    assert taken(plain)[BESIDE] == taken(shown)[AFTER] == 1
    assert shown.outcome.cost.rounds - plain.outcome.cost.rounds == 1


def test_rows_with_nothing_allowed_give_zeros(check: Check) -> None:
    """The rows that are left lie end to end; the others stay empty."""
    allowed = np.random.default_rng(7).random((2, 4, 5, 6)) > 0.4
    allowed[..., 0] = True
    allowed[0, 0, 2] = allowed[1, 3, 4] = allowed[1, 0, :] = False
    done = compare("Attention", {**heads(), "mask": allowed}, network=FAR)
    assert BESIDE in taken(done)
    assert done.outcome.cost == done.outcome.plan.cost
    empty = ~allowed.any(axis=-1)
    assert not done.got[empty].any()
    assert np.abs(done.got - done.want)[~empty].max() <= TOLERANCE


def test_rows_that_three_pivots_lead(check: Check) -> None:
    feed = {"q": reals(1, 8, 16, 16), "k": reals(1, 8, 16, 16, seed=1), "v": reals(1, 8, 16, 16, seed=2)}
    done = compare("Attention", feed, network=FAR, is_causal=1)
    assert BESIDE in taken(done)
    check(done, TOLERANCE)


@pytest.mark.parametrize("mode", [0, 2])
def test_scores_beside_the_quotient(mode: int) -> None:
    done = compare("Attention", heads(), network=FAR, outputs=4, qk_matmul_output_mode=mode)
    assert BESIDE in taken(done)
    assert done.outcome.cost == done.outcome.plan.cost
    for got, want in zip(done.all_got, done.all_want, strict=True):
        if want is not None and want.size:
            assert np.abs(got - want).max() <= TOLERANCE


def test_no_reciprocal_is_lifted_where_the_twins_keep_it() -> None:
    """A lifted one sends the fewest bytes, but comes from a ring too narrow for the twins."""
    plan = compare("Attention", heads(), network=SLOW).outcome.plan
    call = next(step.call for step in plan.steps if step.operator.name == "Attention")
    how, lengths = reading_of(call), np.full(40, 6)
    lifted = row_reciprocals_cost(lengths, 6, 64, how, SLOW)
    kept = row_reciprocals_cost(lengths, 6, 64, how, SLOW, wider=12)
    assert lifted.rounds == kept.rounds + 2  # the lift, and the round in which a result becomes Replicated
