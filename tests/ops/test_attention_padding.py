"""Padding in front of a cache: masks that plans and programs leave open, and that cost nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare, model_of, plain, typed
from onnxpuma.mpc.replay import repertoire
from onnxpuma.mpc.replay.rehearsal import rehearsed
from onnxpuma.mpc.ring.native import native
from onnxpuma.ops.attention_padding import PADDED
from onnxpuma.ops.late import is_late
from onnxpuma.plan.plan import Step
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.standard.mask_values import LOWEST_FLOAT
from onnxpuma.standard.padding import BLOCK
from tests.ops.conftest import Check
from tests.ops.test_attention import TOLERANCE, masked, reals


def heads(keys: int, batch: int = 2, query_heads: int = 4, key_heads: int = 2) -> dict[str, Any]:
    """One query. The keys of padding are such that their scores are the largest."""
    q, k = reals(batch, query_heads, 1, 8), reals(batch, key_heads, keys, 8, seed=1)
    k[:, :, : BLOCK - 1] = 3 * np.sign(q[:, :key_heads])
    return {"q": q, "k": k, "v": reals(batch, key_heads, keys, 10, seed=2)}


def kept(keys: int, *padding: int) -> np.ndarray:
    """(rows, 1, 1, keys): which keys count, with so many places of padding in each row."""
    return np.arange(keys) >= np.array(padding).reshape(-1, 1, 1, 1)


def step_of(done: Comparison) -> Step:
    return next(step for step in done.outcome.plan.steps if step.operator.name == "Attention")


def late(done: Comparison) -> bool:
    return is_late(step_of(done).call, PADDED)


@pytest.mark.parametrize("padding", [(0,), (1,), (BLOCK - 1,), (2, 5)])
@pytest.mark.parametrize("keys", [BLOCK, 5 * BLOCK])
@pytest.mark.parametrize("low", [None, -np.inf, LOWEST_FLOAT])
def test_padding_does_not_count(check: Check, padding: tuple[int, ...], keys: int, low: float | None) -> None:
    allowed = kept(keys, *padding)
    mask = allowed if low is None else masked(allowed, low)
    done = compare("Attention", heads(keys) | {"mask": mask}, public=["mask"])
    check(done, TOLERANCE)
    assert late(done)


def test_a_softcap_and_three_axes(check: Check) -> None:
    mask = kept(2 * BLOCK, 4)
    done = compare("Attention", heads(2 * BLOCK) | {"mask": mask}, softcap=5.0)
    assert late(done)
    assert done.error < 5e-3
    three = {"q": reals(2, 1, 32), "k": reals(2, 16, 16, seed=1), "v": reals(2, 16, 20, seed=2), "mask": mask}
    done = compare("Attention", three, q_num_heads=4, kv_num_heads=2)
    check(done, TOLERANCE)
    assert late(done)


def test_all_paddings_of_a_block_are_one_plan() -> None:
    """They cost as much as keys without padding, and the steps are of one content: one program serves all."""
    found = [
        step_of(compare("Attention", heads(2 * BLOCK) | {"mask": kept(2 * BLOCK, n)})) for n in range(BLOCK)
    ]
    assert len({id(step.call.content) for step in found}) == 1
    assert len({step.digest for step in found}) == BLOCK  # and yet another plan for each
    assert {step.cost for step in found} == {step_of(compare("Attention", heads(2 * BLOCK))).cost}


@pytest.mark.parametrize(
    "allowed",
    [
        kept(2 * BLOCK, BLOCK),  # a whole block of padding
        kept(2 * BLOCK + 1, 3),  # no whole blocks of keys
        ~kept(2 * BLOCK, 13),  # padding behind
        np.arange(2 * BLOCK).reshape(1, 1, 1, -1) != 2,  # a hole
    ],
)
def test_other_masks_leave_scores_out(check: Check, allowed: np.ndarray) -> None:
    done = compare("Attention", heads(allowed.shape[-1]) | {"mask": allowed})
    check(done, TOLERANCE)
    assert not late(done)


def test_other_uses_leave_scores_out(check: Check) -> None:
    mask, feed = kept(2 * BLOCK, 3), heads(2 * BLOCK)
    biases = reals(1, 1, 1, 2 * BLOCK)
    two = feed | {"q": reals(2, 4, 2, 8), "mask": mask}
    for done in (
        compare("Attention", two),  # two queries
        compare("Attention", feed | {"mask": mask}, is_causal=1),
        compare("Attention", feed | {"mask": masked(mask, -3.0)}, public=["mask"]),  # no mask
        compare("Attention", feed | {"mask": masked(mask, -np.inf) + biases}, public=["mask"]),
    ):
        assert not late(done)


def test_a_kernel_that_keeps_the_padding_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxpuma.ops.attention.without_padding", lambda parts, *_: parts)
    done = compare("Attention", heads(2 * BLOCK) | {"mask": kept(2 * BLOCK, 5)})
    assert done.error > 0.01


def test_a_peak_that_counts_the_padding_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxpuma.ops.attention.levelled", lambda scores, _: scores)
    feed = heads(2 * BLOCK)
    feed["k"][:, :, : BLOCK - 1] *= 20
    done = compare("Attention", feed | {"mask": kept(2 * BLOCK, 7)})
    assert done.error > 0.01


@pytest.mark.skipif(native() is None, reason="programs are made of the kernel's calls")
@pytest.mark.parametrize("op", ["Attention", "RotaryEmbedding"])
def test_one_program_serves_all_late_inputs(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rehearsed in the second run, and right in all others."""
    rehearsals = []
    monkeypatch.setattr(repertoire, "rehearsed", lambda *given: rehearsals.append(1) or rehearsed(*given))
    feeds: list[dict[str, Any]] = []
    for number in (3, 6, 1, 0, 7):
        if op == "Attention":
            feeds.append(heads(2 * BLOCK) | {"mask": kept(2 * BLOCK, number)})
        else:
            angles = (number + 0.5) * np.array([[[1.0, 0.1, 0.01, 0.001]]])
            tables = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
            feeds.append({"x": reals(1, 4, 1, 8, seed=number)} | tables)
    model = typed(model_of(op, feeds[0]), feeds[0])
    public = ["mask"] if op == "Attention" else ["cos", "sin"]
    runner = MemoryModel(model, public_inputs=public, at_client=False, rewrite=False)
    counts = []
    for feed in feeds:
        (got,), (want,) = runner.run(feed).outputs.values(), plain(model, feed)
        np.testing.assert_allclose(got, want, atol=TOLERANCE)
        counts.append(len(rehearsals))
    assert counts == [0, 3, 3, 3, 3]
