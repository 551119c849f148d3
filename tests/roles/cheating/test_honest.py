"""Honest servers on different kernels are never accused: each replay computes what they computed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from onnxpuma.mpc import ring
from onnxpuma.roles.audit.judge import Comparison
from onnxpuma.roles.audit.replay import Replayed, replay_party
from onnxpuma.roles.audit.statements import found_in_statements
from onnxpuma.roles.audit.verdict import Finding, Verdict
from tests.roles.cheating.conftest import small_model
from tests.roles.cheating.trio import SERVERS, Session, Trio


@pytest.fixture(autouse=True)
def kernel() -> Iterator[None]:
    level = ring.native_level()
    yield
    ring.set_native_level(level)


def replayed(trio: Trio, session: Session, levels: list[str]) -> Replayed:
    """The run again, each party on a kernel of its own."""
    whole, interpreters = Replayed(), trio.interpreters()
    for party, level in zip(SERVERS, levels, strict=True):
        ring.set_native_level(level)
        one = replay_party(session.recorded, interpreters[party], party, session.messages)
        whole.tags.update(one.tags)
        whole.passed.update(one.passed)
        whole.keys.update(one.keys)
        whole.done.update(one.done)
    return whole


def judged(trio: Trio, levels: list[str]) -> Verdict:
    """The verdict on honest servers: they run on the first kernel, and are replayed on the three others."""
    ring.set_native_level(levels[0])
    session = trio.run(keep=True)
    evidence = session.evidence()
    found = found_in_statements(evidence, session.plan)
    return found or Comparison(evidence, session.plan, replayed(trio, session, levels[1:])).verdict()


def accused(trio: Trio, sessions: int, seed: int) -> Counter[str]:
    """How many sessions of honest servers on mixed kernels end how."""
    rng, found = random.Random(seed), Counter[str]()
    for _ in range(sessions):
        verdict = judged(trio, rng.choices(ring.native_levels(), k=4))
        found[verdict.finding.name if verdict.finding is Finding.NOBODY else str(verdict)] += 1
    return found


@pytest.fixture(scope="module")
def small() -> Trio:
    return Trio(small_model(), {"ids": np.array([2])})


def test_dozens_of_replays_on_mixed_kernels(small: Trio) -> None:
    assert accused(small, 30, 1) == {"NOBODY": 30}


@pytest.mark.parametrize("level", ring.native_levels())
def test_softmax_and_tournaments_on_each_kernel(trio: Trio, level: str) -> None:
    others = [other for other in ring.native_levels() if other != level]
    assert judged(trio, [level, *(others * 3)[:3]]).finding is Finding.NOBODY


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("quarter", range(4))
def test_ten_thousand_replays_on_mixed_kernels(small: Trio, quarter: int) -> None:
    assert len(ring.native_levels()) >= 3
    assert accused(small, 2500, 2 + quarter) == {"NOBODY": 2500}
