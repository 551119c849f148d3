"""Who departed from the program in one session: what the servers signed, against what they should have sent.

The run is computed again from what determines it. A server departs by its own words if it says that it sent
another message than the program sends, and that everything that it had received before was right. Whoever
follows the program never says so. Where sender and receiver say different things of a message, one of them
lies: the one that is in two such disputes, since no two servers work together; otherwise the pair is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest

from onnxpuma.errors import ReceiptError
from onnxpuma.interpreter import Interpreter
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.audit.evidence import Evidence, Way
from onnxpuma.roles.audit.replay import Asking, Held, Recorded, Replayed, replay
from onnxpuma.roles.audit.statements import coins_of, convicted, found_in_statements, is_whole
from onnxpuma.roles.audit.verdict import Finding, Verdict, named
from onnxpuma.roles.request.receipt import code_of
from onnxpuma.transport.link import PARTIES, Tag

Moment = tuple[int, int]  # the opening or the run, and its round: a message depends on earlier ones alone
NEVER: Moment = (3, 0)
AFTER: Moment = (2, 0)  # the last message


def judge(
    evidence: Evidence, plan: Plan, interpreters: Sequence[Interpreter], held: Sequence[Held] = ({}, {}, {})
) -> Verdict:
    """Who departed, where, and by which signature that is proved.

    plan: of this request. interpreters: by party, with its shares of the weights. held: for a request that
    takes kept values, `Replayed.held` of the session that made them. Raises PlanError for another plan or a
    model with noise, ReceiptError for evidence that is not of one session of this model, and InputError when
    the client gave two servers different shares. Cost: one replay without its messages.
    """
    found = found_in_statements(evidence, plan)
    if found is not None:
        return found
    honest = replay(recorded_in(evidence, plan, held), interpreters, keep=False)
    return Comparison(evidence, plan, honest).verdict()


def recorded_in(evidence: Evidence, plan: Plan, held: Sequence[Held] = ({}, {}, {})) -> Recorded:
    """What determines the session. Every server must have handed over what it has of it."""
    asking = Asking(
        plan, evidence.requests, evidence.asked, coins_of(evidence), evidence.client_key, tuple(held)
    )
    parts = tuple(told.parts for told in evidence.testimonies if told is not None)
    return Recorded(evidence.session, (asking,), parts, evidence.identities, evidence.label)


@dataclass(frozen=True)
class Departure:
    """The first message of a list that is not the program's."""

    moment: Moment
    way: Way
    tag: Tag | None  # None: behind the last message
    length: bool  # the list has too few messages, or too many


@dataclass(frozen=True)
class Comparison:
    """What the servers say, and what the program does."""

    evidence: Evidence = field(repr=False)
    plan: Plan = field(repr=False)
    honest: Replayed = field(repr=False)

    def verdict(self) -> Verdict:
        """The first reason in causal order that convicts somebody."""
        return self._own_words() or self._disputed() or self._terms() or self._nobody()

    def said(self, party: int, way: Way) -> tuple[bytes, ...]:
        """The digests that `party` says passed this way."""
        told = self.evidence.testimonies[party]
        assert told is not None
        return told.digests[way]

    @cached_property
    def _digests(self) -> dict[Way, list[bytes]]:
        return {way: passed.digests for way, passed in self.honest.passed.items()}

    def _departure(self, party: int, way: Way) -> Departure | None:
        """Where what `party` says of a way departs from the program."""
        said, due, tags = self.said(party, way), self._digests[way], self.honest.tags[way]
        for place, (one, two) in enumerate(zip(said, due, strict=False)):
            if one != two:
                return Departure(self._moment(tags[place]), way, tags[place], False)
        if len(said) > len(due):
            return Departure(AFTER, way, None, True)
        if len(said) < len(due) and self.evidence.receipts[party] is not None:
            tag = tags[len(said)]
            return Departure(self._moment(tag), way, tag, True)
        return None

    def _moment(self, tag: Tag) -> Moment:
        return (0 if tag.label == self.evidence.label else 1), tag.round

    def _first(self, party: int, outward: bool) -> Departure | None:
        """The first departure among what `party` says it sent, or received."""
        ways = [(party, peer) if outward else (peer, party) for peer in range(PARTIES) if peer != party]
        found = [one for way in ways if (one := self._departure(party, way)) is not None]
        return min(found, key=lambda one: one.moment, default=None)

    def _own_words(self) -> Verdict | None:
        """Servers that say that they departed."""
        reasons = {p: why for p in range(PARTIES) if (why := self._own_departure(p)) is not None}
        if not reasons:
            return None
        if len(reasons) == PARTIES:
            raise ReceiptError(
                "all three servers depart from the run that this evidence determines",
                "audit with the shared model, the version and the cluster.toml of that session",
            )
        first = min((departure for _, departure in reasons.values()), key=lambda one: one.moment)
        text = "; ".join(f"server {party} {words}" for party, (words, _) in reasons.items())
        return convicted(self.evidence, list(reasons), text, way=first.way, tag=first.tag)

    def _own_departure(self, party: int) -> tuple[str, Departure] | None:
        sent, received = self._first(party, True), self._first(party, False)
        for one, verb in ((sent, "sent"), (received, "received")):
            if one is not None and one.length:
                return f"says that it {verb} another number of messages than the program", one
        before = NEVER if received is None else received.moment
        if sent is not None and sent.moment <= before:
            return "sent another message than the program, after nothing but right ones", sent
        return self._own_key(party)

    def _own_key(self, party: int) -> tuple[str, Departure] | None:
        """A session key that is not made of the parts that its two holders say they sent."""
        told = self.evidence.testimonies[party]
        assert told is not None
        for component, peer in ((party, (party - 1) % PARTIES), ((party + 1) % PARTIES,) * 2):
            way = (peer, party)
            code = self.honest.keys[party].code(component, b"commitment", self.evidence.session)
            heard = self.said(party, way)[:1] == tuple(self._digests[way][:1])
            if heard and told.begun["keys"][str(component)] != code.hex():
                opening = self.honest.tags[way][0]
                why = f"committed to another key than its part and that of server {peer} make"
                return why, Departure(self._moment(opening), (party, peer), opening, False)
        return None

    def _disputed(self) -> Verdict | None:
        """Messages of which sender and receiver say different things, or that only the receiver owns up to.

        A message that was sent may not have arrived when a run ended.
        """
        disputes = [
            (way, tag)
            for way, tags in self.honest.tags.items()
            for one, two, tag in zip_longest(self.said(way[0], way), self.said(way[1], way), tags)
            if one != two and two is not None
        ]
        if not disputes:
            return None
        pairs = {frozenset(way) for way, _ in disputes}
        way, tag = min(disputes, key=lambda one: self._moment(one[1]))
        in_all = frozenset.intersection(*pairs)
        if len(pairs) > 1 and len(in_all) == 1:
            (odd,) = in_all
            why = f"server {odd} contradicts both others about what passed between them"
            return convicted(self.evidence, [odd], why, way=way, tag=tag)
        servers = sorted(frozenset.union(*pairs))
        why = (
            f"{named(servers)} contradict each other: what server {way[0]} says that it sent is not what"
            f" server {way[1]} says that it received"
        )
        return convicted(self.evidence, servers, why, Finding.ONE_OF, way=way, tag=tag)

    def _terms(self) -> Verdict | None:
        """Servers that signed other terms of the outputs than the program returns."""
        odd = []
        for party, signed in enumerate(self.evidence.receipts):
            terms = self.honest.done[party][0].buffers[: len(self.plan.opened)]
            code = code_of(self.evidence.salts[party], "outputs", terms) if signed is not None else ""
            if signed is not None and signed.statement["outputs"] != code:
                odd.append(party)
        why = f"{named(odd)} sent all messages of the program, and signed another term of the outputs"
        return convicted(self.evidence, odd, why) if odd else None

    def _nobody(self) -> Verdict:
        if is_whole(self.evidence):
            return Verdict(Finding.NOBODY, (), "all three servers sent and returned what the program does")
        why = "up to the end of the run all three servers sent what the program does"
        return Verdict(Finding.NOBODY, (), f"{why}; it ended at the client with: {self.evidence.error}")
