"""What three servers signed about one session, held against each other and against what their client sent.

Nothing is computed again here. Each check names whoever is at odds with its own signature, or alone with what
it says. A difference between two servers about what passed between them is left to the replay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxpuma.errors import PlanError, ReceiptError
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.audit.evidence import Evidence, Testimony
from onnxpuma.roles.audit.verdict import Finding, Verdict, named
from onnxpuma.roles.request.passage import at_fault
from onnxpuma.roles.request.receipt import BEGUN, FORM, begun, canonical, client_code, code_of
from onnxpuma.roles.server.lockstep import code_of as code_of_version
from onnxpuma.roles.server.receipt import chain_key
from onnxpuma.transport.chained import chain_of
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.signing import is_signed

_OTHER_FILE = "audit the session with the model, the client and the file that belong to it"


def found_in_statements(evidence: Evidence, plan: Plan) -> Verdict | None:
    """Who gave nothing, or signed what cannot be; None where the three statements and what the servers handed
    over fit together, except in what passed between them.

    Raises PlanError when `plan` is not that of the request, ReceiptError when the evidence is not of one
    session, or not of this model.
    """
    if evidence.asked.plan_digest != plan.digest:
        raise PlanError(
            f"the plan made here ({plan.digest[:8]}) is not the client's ({evidence.asked.plan_digest[:8]})",
            "audit with the shared model of that session, in the version of its servers",
        )
    return (
        _silent(evidence)
        or _another_run(evidence, plan)
        or _another_passage(evidence)
        or _own_contradiction(evidence)
        or _other_coins(evidence, plan)
    )


def is_whole(evidence: Evidence) -> bool:
    """Whether all three servers signed the end of the run."""
    return all(signed is not None for signed in evidence.receipts)


def coins_of(evidence: Evidence) -> tuple[bytes, ...]:
    """The coins of the session, on which two servers at least agree."""
    return Counter(_told(evidence, lambda said: tuple(said.coins))).most_common(1)[0][0]


def keys_of(testimony: Testimony) -> PartyKeys:
    """The session keys that a server handed over."""
    own, following = testimony.party, (testimony.party + 1) % PARTIES
    return PartyKeys.from_keys(testimony.party, testimony.keys[own], testimony.keys[following])


def convicted(
    evidence: Evidence, servers: Sequence[int], why: str, finding: Finding = Finding.SERVERS, **where: Any
) -> Verdict:
    """A verdict about these servers, with what they signed. where: `way` and `tag`."""
    signed = tuple(one for party in servers if (one := evidence.receipts[party]) is not None)
    told = tuple(said for party in servers if (said := evidence.testimonies[party]) is not None)
    return Verdict(finding, tuple(sorted(servers)), why, statements=signed, testimonies=told, **where)


def _silent(evidence: Evidence) -> Verdict | None:
    """Servers without a valid receipt of a run that gave an answer, or without a testimony."""
    for party in range(PARTIES):
        missing = _unsigned(evidence, party)
        if missing:
            return convicted(evidence, [party], missing, Finding.SILENT)
    absent = [
        party
        for party, told in enumerate(evidence.testimonies)
        if told is None or told.party != party or told.session != evidence.session
    ]
    if not absent:
        return None
    said = "; ".join(f"server {p} said: {why}" for p in absent if (why := evidence.refusals.get(p)))
    why = f"{named(absent)} did not hand over the keys of this session"
    return convicted(evidence, absent, f"{why} ({said})" if said else why, Finding.SILENT)


def _unsigned(evidence: Evidence, party: int) -> str:
    """Why there is no valid receipt of `party`; "" if there is one, or the run ended before."""
    signed = evidence.receipts[party]
    if signed is None:
        return "" if evidence.error else f"server {party} signed no receipt"
    if signed.key != evidence.signers[party]:
        return f"the receipt of server {party} is signed with another key than its own"
    try:
        signed.check(party)
    except ReceiptError as error:
        return error.message
    return ""


def _another_run(evidence: Evidence, plan: Plan) -> Verdict | None:
    """A server that signed another thing than the client's request, or other facts than the two others."""
    if not is_whole(evidence):
        return None
    said = [signed.statement for signed in evidence.receipts if signed is not None]
    due = {
        "form": FORM,
        "session": evidence.session.hex(),
        "model": plan.model_digest,
        "plan": plan.digest,
        "request": evidence.requests[0].digest().hex(),
        "client": client_code(evidence.client_key).hex(),
    }
    for name, value in due.items():
        found = _odd(
            evidence, [s[name] == value for s in said], f"signed for another {name} than the client's"
        )
        if found is not None:
            return found
    for name, read in (("jobs", canonical), ("earlier", canonical), ("version", _version)):
        texts = [read({name: statement[name]}) for statement in said]
        common = Counter(texts).most_common(1)[0][0]
        found = _odd(evidence, [t == common for t in texts], f"signed other '{name}' than the two others")
        if found is not None:
            return found
    given = [
        code_of(evidence.salts[party], "inputs", evidence.requests[party].private) == said[party]["inputs"]
        for party in range(PARTIES)
    ]
    # The two others hold every component of the inputs, so a client that told one server something else would
    # be at odds with two of them.
    return _odd(evidence, given, "signed for other shares of the inputs than the client's")


def _another_passage(evidence: Evidence) -> Verdict | None:
    """Servers that signed two versions of what passed between them and a neighbour."""
    if not is_whole(evidence):
        return None
    said = [signed.statement for signed in evidence.receipts if signed is not None]
    odd = set[int]()
    for one in range(PARTIES):
        odd |= {*at_fault(said, evidence.signers, one, (one + 1) % PARTIES)}
    if not odd:
        return None
    why = "signed its messages with a neighbour one way to that one and another way to the client"
    return convicted(evidence, sorted(odd), f"{named(sorted(odd))} {why}")


def _version(statement: Mapping[str, Any]) -> bytes:
    return code_of_version(str(statement["version"])).encode()


def _odd(evidence: Evidence, fits: Sequence[bool], what: str) -> Verdict | None:
    """The one server whose statement does not fit. ReceiptError when that of two does not."""
    odd = [party for party, fit in enumerate(fits) if not fit]
    if len(odd) > 1:
        raise ReceiptError(f"{named(odd)} {what}", _OTHER_FILE)
    return convicted(evidence, odd, f"{named(odd)} {what}") if odd else None


def _own_contradiction(evidence: Evidence) -> Verdict | None:
    """Servers that signed two things of which one is false."""
    for party, told in enumerate(evidence.testimonies):
        assert told is not None
        signed = evidence.receipts[party]
        why = _contradiction(told, None if signed is None else signed.statement, evidence.signers[party])
        if why:
            return convicted(evidence, [party], f"server {party} {why}")
    return None


def _contradiction(told: Testimony, receipt: Mapping[str, Any] | None, signer: str) -> str:
    """What a server says that its own signatures belie; "" if nothing."""
    first = told.begun
    if set(first) != set(BEGUN) or not is_signed(signer, begun(first), told.at_begin):
        return "handed over a statement of the start of the run that it did not sign"
    if receipt is not None and any(first[name] != receipt[name] for name in BEGUN):
        return "signed one thing at the start of the run, and another at its end"
    if first["party"] != told.party or first["session"] != told.session.hex():
        return "handed over a statement of the start of another run"
    components = {told.party, (told.party + 1) % PARTIES}
    if set(told.keys) != components:
        return "handed over keys of other components than its own"
    keys = keys_of(told)
    codes = {str(c): keys.code(c, b"commitment", told.session).hex() for c in components}
    if first["keys"] != codes:
        return "handed over other keys than those to which it had committed"
    peers = {*range(PARTIES)} - {told.party}
    if set(told.digests) != {(told.party, p) for p in peers} | {(p, told.party) for p in peers}:
        return "handed over no list of its messages with each neighbour"
    if receipt is None:
        return ""
    for way, digests in sorted(told.digests.items()):
        said, peer = ("sent", way[1]) if way[0] == told.party else ("received", way[0])
        if receipt[said].get(str(peer)) != chain_of(digests, chain_key(keys, *way)).hex():
            return f"handed over another list of what it {said}, to or from server {peer}, than it had signed"
    return ""


def _other_coins(evidence: Evidence, plan: Plan) -> Verdict | None:
    """A server with other coins than the two others, in a run that they made to the end: its sketches would
    not have fitted theirs (protocols/sketch.py). Without secret ids nothing depends on coins."""
    if not any(entry.depth for entry in plan.inputs):
        return None
    told = _told(evidence, lambda said: tuple(said.coins))
    common, count = Counter(told).most_common(1)[0]
    if count == PARTIES:
        return None
    if count == 1 or not is_whole(evidence):
        raise ReceiptError(
            "the servers drew different coins for this session, and it cannot be computed again",
            "ask the owners of the three servers for their logs of it",
        )
    odd = [party for party, coins in enumerate(told) if coins != common]
    return convicted(evidence, odd, f"{named(odd)} handed over other coins than the two others")


def _told(evidence: Evidence, read: Callable[[Testimony], Any]) -> list[Any]:
    return [read(told) for told in evidence.testimonies if told is not None]
