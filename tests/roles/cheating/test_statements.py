"""Servers that run rightly or wrongly, and then lie, contradict themselves or keep silent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from onnxpuma.errors import PlanError, ReceiptError
from onnxpuma.mpc.prf import fresh_part
from onnxpuma.roles.audit.evidence import Evidence
from onnxpuma.roles.audit.evidence import Testimony as Told  # pytest takes a Test... for a test
from onnxpuma.roles.audit.verdict import Finding
from onnxpuma.roles.request.receipt import begun, canonical
from onnxpuma.roles.server.receipt import chain_key
from onnxpuma.transport.chained import chain_of
from tests.roles.cheating.conftest import mixed_feed, mixed_model
from tests.roles.cheating.deviations import LiesToANeighbour, Sends, one_more
from tests.roles.cheating.test_cheats import convicts
from tests.roles.cheating.trio import SERVERS, Session, Trio

Change = Callable[[Told], dict[str, Any]]


@pytest.fixture(scope="module")
def session(trio: Trio) -> Session:
    return trio.run()


@pytest.fixture(scope="module")
def evidence(session: Session) -> Evidence:
    return session.evidence()


def signing(trio: Trio, evidence: Evidence, party: int, **changes: Any) -> Evidence:
    """The server signs another statement, with its own key."""
    signed = evidence.receipts[party]
    assert signed is not None
    said, key = {**signed.statement, **changes}, trio.signing[party]
    again = replace(
        signed,
        statement=said,
        at_begin=key.sign(begun(said)),
        at_end=key.sign(b"end" + canonical(said)),
    )
    receipts = list(evidence.receipts)
    receipts[party] = again
    return replace(evidence, receipts=tuple(receipts))  # type: ignore[arg-type]


def telling(evidence: Evidence, party: int, **changes: Any) -> Evidence:
    """The server hands over something else."""
    told: list[Any] = list(evidence.testimonies)
    told[party] = replace(told[party], **changes)
    return replace(evidence, testimonies=tuple(told))  # type: ignore[arg-type]


def in_turn(kinds: Iterable[str]) -> list[tuple[str, int]]:
    """Each kind of statement at one server, the next kind at the next: the judge reads those of all alike."""
    return list(zip(kinds, cycle(SERVERS), strict=False))


OTHER = {
    "session": "ab" * 16,
    "model": "ab" * 32,
    "plan": "ab" * 32,
    "request": "ab" * 32,
    "client": "ab" * 32,
    "jobs": ["ab" * 32],
    "earlier": ["ab" * 16],
    "version": "0.1.0+another",
    "inputs": "ab" * 32,
    "outputs": "ab" * 32,
    "began": "2000-01-01T00:00:00.000+00:00",
}


@pytest.mark.parametrize(("name", "party"), in_turn(OTHER))
def test_a_server_that_signs_another_thing(
    trio: Trio, session: Session, evidence: Evidence, name: str, party: int
) -> None:
    verdict = trio.judge(signing(trio, evidence, party, **{name: OTHER[name]}), session)
    convicts(trio, verdict, party)


@pytest.mark.parametrize("party", SERVERS)
@pytest.mark.parametrize("name", ["sent", "received", "vouched", "keys"])
def test_a_server_that_signs_other_chains_or_keys(
    trio: Trio, session: Session, evidence: Evidence, name: str, party: int
) -> None:
    """Its neighbour has its signature under the true chain; its commitment belies the key it hands over."""
    signed = evidence.receipts[party]
    assert signed is not None
    changed = {place: "ab" * (len(code) // 2) for place, code in signed.statement[name].items()}
    convicts(trio, trio.judge(signing(trio, evidence, party, **{name: changed}), session), party)


def lists(told: Told, outward: bool) -> dict[str, Any]:
    """The first list, with another last digest."""
    way = min(w for w in told.digests if (w[0] == told.party) is outward)
    return {"digests": {**told.digests, way: (*told.digests[way][:-1], bytes(32))}}


LIES: dict[str, Change] = {
    "another list of what it sent": lambda told: lists(told, True),
    "another list of what it received": lambda told: lists(told, False),
    "no list of a neighbour": lambda told: {"digests": {}},
    "another part": lambda told: {"parts": (fresh_part(), told.parts[1])},
    "another key": lambda told: {"keys": {c: fresh_part()[:16] for c in told.keys}},
    "keys of other components": lambda told: {"keys": {(c + 1) % 3: key for c, key in told.keys.items()}},
    "other coins": lambda told: {"coins": tuple(fresh_part() for _ in range(3))},
    "another beginning": lambda told: {"begun": {**told.begun, "began": "2000-01-01T00:00:00.000+00:00"}},
}


@pytest.mark.parametrize(("lie", "party"), in_turn(LIES))
def test_an_honest_run_of_which_a_server_hands_over_something_else(
    trio: Trio, session: Session, evidence: Evidence, lie: str, party: int
) -> None:
    told = evidence.testimonies[party]
    assert told is not None
    convicts(trio, trio.judge(telling(evidence, party, **LIES[lie](told)), session), party)


@pytest.mark.parametrize("party", SERVERS)
def test_a_cheat_that_blames_its_neighbour(trio: Trio, party: int) -> None:
    """It sent one word wrong, and signs and hands over the list of an honest server."""
    deviation = Sends(party, "combined", one_more)
    session = trio.run(deviation)
    evidence = session.evidence()
    true = trio.judge(evidence, session)
    assert deviation.applied
    assert true.way is not None
    told, signed = evidence.testimonies[party], evidence.receipts[party]
    assert told is not None
    assert signed is not None
    digests = {**told.digests, true.way: (*told.digests[true.way][:-1], bytes(32))}
    chain = chain_of(digests[true.way], chain_key(session.keys[party], *true.way)).hex()
    sent = {**signed.statement["sent"], str(true.way[1]): chain}
    lied = telling(signing(trio, evidence, party, sent=sent), party, digests=digests)
    convicts(trio, trio.judge(lied, session), party)


@pytest.mark.parametrize("party", SERVERS)
def test_a_server_that_withholds_its_keys(
    trio: Trio, session: Session, evidence: Evidence, party: int
) -> None:
    told: list[Any] = list(evidence.testimonies)
    told[party] = None
    withheld = replace(evidence, testimonies=tuple(told), refusals={party: "no such session"})  # type: ignore[arg-type]
    verdict = trio.judge(withheld, session)
    assert (verdict.finding, verdict.who) == (Finding.SILENT, party)
    assert "no such session" in str(verdict)
    (signed,) = verdict.statements  # it took part: its receipt says so
    signed.check(party)


@pytest.mark.parametrize("party", SERVERS)
def test_a_server_without_a_receipt(trio: Trio, session: Session, evidence: Evidence, party: int) -> None:
    receipts: list[Any] = list(evidence.receipts)
    signed = receipts[party]
    receipts[party] = None
    verdict = trio.judge(replace(evidence, receipts=tuple(receipts)), session)  # type: ignore[arg-type]
    assert (verdict.finding, verdict.who) == (Finding.SILENT, party)
    receipts[party] = replace(signed, at_end=bytes(64))
    verdict = trio.judge(replace(evidence, receipts=tuple(receipts)), session)  # type: ignore[arg-type]
    assert (verdict.finding, verdict.who) == (Finding.SILENT, party)


# ---- runs that gave no answer ---------------------------------------------------------------------------


def without_answer(session: Session, **changes: Any) -> Evidence:
    return session.evidence(receipts=(None, None, None), salts=(b"", b"", b""), error="ended", **changes)


@pytest.mark.parametrize("party", SERVERS)
def test_a_departure_in_a_run_that_ended_early(trio: Trio, party: int) -> None:
    """It owns up to the word that it sent, so its testimony convicts it."""
    session = trio.run(Sends(party, "combined", one_more))
    verdict = trio.judge(without_answer(session), session)
    assert (verdict.finding, verdict.who) == (Finding.SERVERS, party)
    (told,) = verdict.testimonies
    assert told.party == party


def claiming(evidence: Evidence, party: int, ways: Sequence[tuple[int, int]]) -> Evidence:
    """The server says that another message passed these ways, in the middle of the run."""
    told = evidence.testimonies[party]
    assert told is not None
    digests = dict(told.digests)
    for way in ways:
        digests[way] = (*digests[way][:5], bytes(32), *digests[way][6:])
    return telling(evidence, party, digests=digests)


@pytest.mark.parametrize("party", SERVERS)
def test_a_lie_in_a_run_that_ended_early_leaves_two(trio: Trio, party: int) -> None:
    """Nothing tells if the neighbour sent what this server says it received; against both it is alone."""
    session = trio.run(LiesToANeighbour(party))
    assert session.errors
    before, after = (party - 1) % 3, (party + 1) % 3
    evidence = without_answer(session)
    assert trio.judge(evidence, session).finding is Finding.NOBODY
    verdict = trio.judge(claiming(evidence, party, [(after, party)]), session)
    assert (verdict.finding, set(verdict.servers), verdict.who) == (Finding.ONE_OF, {party, after}, None)
    assert verdict.way == (after, party)
    verdict = trio.judge(claiming(evidence, party, [(after, party), (before, party)]), session)
    assert (verdict.finding, verdict.who) == (Finding.SERVERS, party)


@pytest.mark.parametrize("party", SERVERS)
def test_a_cheat_that_signs_no_end_and_understates_what_it_sent(trio: Trio, party: int) -> None:
    """Its neighbours ran on wrong words, and their terms are wrong: they are not accused of that."""
    session = trio.run(Sends(party, "combined", one_more))
    whole = session.evidence()
    true, told = trio.judge(whole, session), whole.testimonies[party]
    assert true.way is not None
    assert told is not None
    receipts = tuple(None if at == party else signed for at, signed in enumerate(whole.receipts))
    short = {way: sent[:2] if way[0] == party else sent for way, sent in told.digests.items()}
    evidence = replace(telling(whole, party, digests=short), receipts=receipts, error="no receipt")  # type: ignore[arg-type]
    verdict = trio.judge(evidence, session)
    assert (verdict.finding, verdict.who) == (Finding.SERVERS, party)
    for at in {*SERVERS} - {party}:  # of one neighbour alone it understates: the pair is left
        short = {w: sent[:2] if w == (party, at) else sent for w, sent in told.digests.items()}
        evidence = replace(telling(whole, party, digests=short), receipts=receipts, error="no receipt")  # type: ignore[arg-type]
        verdict = trio.judge(evidence, session)
        assert party in verdict.servers
        assert verdict.finding in (Finding.SERVERS, Finding.ONE_OF)


# ---- what is not for the judge --------------------------------------------------------------------------


def test_a_file_that_does_not_belong_to_the_session(trio: Trio, session: Session, evidence: Evidence) -> None:
    other = trio.run()
    with pytest.raises(ReceiptError, match="server 0 and server 1 and server 2 signed for another session"):
        trio.judge(
            replace(evidence, session=other.recorded.session, testimonies=other.evidence().testimonies),
            session,
        )
    with pytest.raises(ReceiptError, match="signed for other shares of the inputs than the client's"):
        trio.judge(replace(evidence, requests=other.evidence().requests), session)
    asked = replace(evidence.asked, plan_digest="ab" * 32)
    with pytest.raises(PlanError, match=r"the plan made here .* is not the client's"):
        trio.judge(replace(evidence, asked=asked), session)


def test_weights_of_another_model_accuse_nobody(trio: Trio, session: Session, evidence: Evidence) -> None:
    other = Trio(mixed_model(), mixed_feed())  # the same weights, in other shares
    with pytest.raises(ReceiptError, match="all three servers depart from the run that this evidence"):
        other.judge(evidence, session)


def test_a_verdict_is_readable(trio: Trio) -> None:
    session = trio.run(Sends(1, "evaluate_series", one_more))
    text = str(trio.judge(session.evidence(), session))
    assert "server 1 sent another message than the program" in text
    assert "the message of server 1 to server" in text
    assert "Gelu" in text or "Relu" in text
