"""How likely a cheat is found: docs/security.md's formulas against simulations and a few real runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxpuma.roles.audit.verdict import Finding
from tests.roles.cheating.conftest import small_model
from tests.roles.cheating.deviations import AddsToATerm, OtherWeights
from tests.roles.cheating.trio import Trio

TRIALS = 20_000
APART = 0.05  # outputs of honest runs of the small model are closer by far


def found_within(requests: int, rate: float, share: float) -> float:
    """The probability that one of `requests` is a canary and cheated on.

    rate: of canaries among the requests; share: of requests on which a server cheats.
    """
    return 1 - (1 - rate * share) ** requests


def spoiled_before(rate: float) -> float:
    """Ordinary answers that are spoiled before a canary shows it, on average: whatever the share is."""
    return (1 - rate) / rate


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("share", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("requests", [20, 100, 500])
def test_the_probability_of_detection(rate: float, share: float, requests: int) -> None:
    """Client and server draw independently: which requests are canaries, and where it cheats."""
    rng = np.random.default_rng(1)
    found = sum(
        ((rng.random((100, requests)) < rate) & (rng.random((100, requests)) < share)).any(axis=1).sum()
        for _ in range(TRIALS // 100)
    )
    due = found_within(requests, rate, share)
    assert abs(found / TRIALS - due) < 4 * math.sqrt(due * (1 - due) / TRIALS) + 1e-9


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_answers_that_are_spoiled_before(rate: float, share: float) -> None:
    """A server that cheats less often spoils as many answers before it is found; it only takes longer."""
    rng, trials = np.random.default_rng(2), 2000
    length = round(20 / (rate * share))  # enough: the stream ends without an end once in e^20
    cheats, canary = (rng.random((trials, length)) < p for p in (share, rate))
    ends = np.argmax(cheats & canary, axis=1)
    spoiled = np.array([row[:end].sum() for row, end in zip(cheats, ends, strict=True)])
    due = spoiled_before(rate)
    deviation = math.sqrt(1 - rate) / rate  # of a geometric variable
    assert abs(spoiled.mean() - due) < 4 * deviation / math.sqrt(trials)


def test_real_runs() -> None:
    """A stream of requests to real servers: a cheat shows on each canary that it meets, and nothing else."""
    rng = np.random.default_rng(3)
    trio, rate, share = Trio(small_model(), {"ids": np.array([2])}), 0.4, 0.5
    true, met = trio.run().outputs()["y"], 0
    for _ in range(40):
        canary, cheats, party = rng.random() < rate, rng.random() < share, int(rng.integers(3))
        kind = (AddsToATerm, OtherWeights)[int(rng.integers(2))]
        if not canary:
            continue
        session = trio.run(kind(party) if cheats else None)
        if kind is AddsToATerm or not cheats:  # other weights make a random number of an output
            assert (np.abs(session.outputs()["y"] - true).max() > APART) == cheats
        verdict = trio.judge(session.evidence(), session)
        due = (Finding.SERVERS, party) if cheats else (Finding.NOBODY, None)
        assert (verdict.finding, verdict.who) == due
        met += cheats
    assert met >= 5
