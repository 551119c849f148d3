"""Each way to depart, at each server: a canary catches it, the judge names the server and no other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxpuma.errors import LockstepError, RequestTimeoutError, TransportError
from onnxpuma.roles.audit.verdict import Finding, Verdict
from tests.roles.cheating import deviations as ways
from tests.roles.cheating.deviations import Honest, Sends, flipped, one_more
from tests.roles.cheating.trio import SERVERS, Session, Trio

ENDS = (TransportError, LockstepError, RequestTimeoutError)  # of a server's own: it heard them from no other

COMPUTING: dict[str, Callable[[int], Honest]] = {
    "adds to a term": ways.AddsToATerm,
    "deals a wrong cosine": lambda party: Sends(party, "evaluate_series", one_more),
    "deals a wrong table": lambda party: Sends(party, "group_carries", flipped),
    "deals a wrong carry": lambda party: Sends(party, "lift", one_more),
    "flips an opened bit of a gate": lambda party: Sends(party, "opened", flipped),
    "flips an opened bit of a comparison": lambda party: Sends(party, "combined", flipped),
    "changes a word of a product": lambda party: Sends(party, "split", one_more),
    "uses other weights": ways.OtherWeights,
    "skips a truncation": ways.SkipsATruncation,
    "repeats the words of an old message": ways.Repeats,
}


def convicts(trio: Trio, verdict: Verdict, party: int) -> None:
    """The verdict names `party` alone, and shows what it signed."""
    assert (verdict.finding, verdict.who) == (Finding.SERVERS, party), str(verdict)
    (signed,) = verdict.statements
    signed.check(party)
    assert signed.key == trio.signing[party].public
    assert f"server {party}" in str(verdict)


@pytest.fixture(scope="module")
def honest(trio: Trio) -> Session:
    return trio.run()


def test_honest_servers_are_not_accused(trio: Trio, honest: Session) -> None:
    assert not honest.errors
    honest.receipt()
    verdict = trio.judge(honest.evidence(), honest)
    assert (verdict.finding, verdict.servers, verdict.who) == (Finding.NOBODY, (), None)


@pytest.mark.parametrize("party", SERVERS)
@pytest.mark.parametrize("kind", COMPUTING)
def test_a_server_that_computes_something_else(trio: Trio, kind: str, party: int) -> None:
    """The receipts are in order and the client takes the answer; the replay tells."""
    deviation = COMPUTING[kind](party)
    session = trio.run(deviation)
    assert deviation.applied
    assert not session.errors
    session.receipt()
    verdict = trio.judge(session.evidence(), session)
    convicts(trio, verdict, party)
    if kind == "adds to a term":
        assert verdict.way is None
    else:
        assert verdict.way is not None
        assert verdict.way[0] == party
        assert verdict.tag is not None


@pytest.mark.parametrize("party", SERVERS)
def test_the_answer_to_a_canary_shows_it(trio: Trio, honest: Session, party: int) -> None:
    """What the client compares: honest runs agree to the last bits, and a changed term does not."""
    true, again = honest.outputs()["y"], trio.run().outputs()["y"]
    assert np.abs(true - again).max() < 0.05
    for kind in ("adds to a term", "uses other weights", "skips a truncation"):
        assert np.abs(trio.run(COMPUTING[kind](party)).outputs()["y"] - true).max() > 0.1


@pytest.mark.parametrize("party", SERVERS)
@pytest.mark.parametrize("kind", [ways.Withholds, ways.Stale, ways.LiesToANeighbour])
def test_a_server_that_ends_the_run(trio: Trio, kind: Callable[[int], Honest], party: int) -> None:
    """No answer can be opened, and an honest receiver's error names the server."""
    deviation = kind(party)
    session = trio.run(deviation, timeout=0.5 if kind is ways.Withholds else 60.0)
    assert deviation.applied
    assert len(session.answers) < 3
    told = [error for at, error in session.errors.items() if at != party and type(error) in ENDS]
    assert any(f"party {party}" in str(error) for error in told), session.errors
