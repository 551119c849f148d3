"""Three servers' runs of a canary in this process, one of which may depart; what they hand over."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.prf import PartyKeys, fresh_part
from onnxpuma.plan.together.join import Joints
from onnxpuma.roles.audit.evidence import Evidence, Testimony, Way
from onnxpuma.roles.audit.judge import judge
from onnxpuma.roles.audit.replay import Message, Recorded
from onnxpuma.roles.audit.verdict import Verdict
from onnxpuma.roles.client.receipt import taken_receipt
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.roles.request.answer import open_result
from onnxpuma.roles.request.message import received
from onnxpuma.roles.request.receipt import BEGUN, Receipt, heard
from onnxpuma.roles.server.job import Batch
from onnxpuma.roles.server.opening import Side, open_session
from onnxpuma.roles.server.receipt import Signer, Witness
from onnxpuma.roles.server.run import Begun, compute
from onnxpuma.transport.chained import WrappedLink
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import Buffer, Link, Tag, as_bytes
from onnxpuma.transport.memory import memory_links
from onnxpuma.transport.signing import SigningKey
from tests.roles.audit.case import CLIENT, asking_of, recorded_of
from tests.roles.cheating.deviations import Honest

SERVERS = (0, 1, 2)


@dataclass
class Session:
    """One run: its answers or errors, and what each server knows of it."""

    recorded: Recorded
    signing: list[SigningKey]
    answers: dict[int, Answer] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)
    witnesses: dict[int, Witness] = field(default_factory=dict)
    keys: dict[int, PartyKeys] = field(default_factory=dict)
    messages: dict[Way, list[Message]] = field(default_factory=dict)  # that were sent, where they are kept

    @property
    def plan(self) -> Any:
        return self.recorded.askings[0].plan

    def outputs(self) -> dict[str, np.ndarray]:
        """What the client opens."""
        answers = [self.answers[party] for party in SERVERS]
        bare = [replace(answer, buffers=answer.buffers[:-1]) for answer in answers]
        return open_result(self.plan, bare)[0]

    def receipt(self) -> Receipt:
        """The receipts, as the client checks them. Raises ReceiptError."""
        asking = self.recorded.askings[0]
        taken = taken_receipt(
            [self.answers[party] for party in SERVERS],
            [key.public for key in self.signing],
            len(self.plan.opened),
            CLIENT,
            asking.requests[0].body,
            asking.requests[0].public,
            [request.private for request in asking.requests],
        )[1]
        assert taken is not None
        return taken

    def testimony(self, party: int) -> Testimony:
        """What `party` hands over if it is honest about it."""
        witness, keys = self.witnesses[party], self.keys[party]
        link = witness.link
        digests: dict[Way, tuple[bytes, ...]] = {}
        for peer in {*SERVERS} - {party}:
            digests[party, peer] = tuple(link.sent[peer].digests)
            digests[peer, party] = tuple(link.received[peer].digests)
        return Testimony(
            party=party,
            session=self.recorded.session,
            coins=self.recorded.askings[0].coins,
            parts=self.recorded.parts[party],
            keys={c: keys._keys[c] for c in (party, (party + 1) % 3)},
            digests=digests,
            begun={name: witness._statement[name] for name in BEGUN},
            at_begin=witness._begun,
            payload=b"",
        )

    def evidence(self, **changes: Any) -> Evidence:
        """What the owner has; changes: of its fields."""
        asking = self.recorded.askings[0]
        told: list[Any] = [None] * 3
        for party, answer in self.answers.items():
            told[party] = heard(party, answer.buffers[-1], self.signing[party].public)
        whole = Evidence(
            session=self.recorded.session,
            label=self.recorded.label,
            identities=self.recorded.identities,
            signers=tuple(key.public for key in self.signing),  # type: ignore[arg-type]
            client_key=CLIENT,
            requests=asking.requests,
            asked=asking.asked,
            receipts=tuple(one and one[0] for one in told),  # type: ignore[arg-type]
            salts=tuple(one[1] if one else b"" for one in told),  # type: ignore[arg-type]
            testimonies=tuple(map(self.testimony, SERVERS)),  # type: ignore[arg-type]
            refusals={},
            error="; ".join(sorted(str(error) for error in self.errors.values())),
        )
        return replace(whole, **changes)


class Keeping(WrappedLink):
    """A link that keeps what it sends."""

    def __init__(self, link: Link, messages: dict[Way, list[Message]]) -> None:
        super().__init__(link)
        self._messages = messages

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        kept = Message(tag, tuple(as_bytes(buffer) for buffer in buffers))
        self._messages.setdefault((self.party, peer), []).append(kept)
        super().send(peer, tag, buffers)


class Trio:
    """A model, shared among three servers, and the owner who audits them."""

    def __init__(self, model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> None:
        self.model, self.feed = MemoryModel(model), feed
        self.weights = [one._weights for one in self.model._interpreters]
        self.signing = [SigningKey.generate() for _ in SERVERS]

    def run(self, deviation: Honest | None = None, timeout: float = 60.0, keep: bool = False) -> Session:
        """One run of a fresh canary. The deviation's party departs. timeout: of a wait for one message, in
        seconds; keep: the messages."""
        session = Session(recorded_of([asking_of(self.model, self.feed)], fresh_part()[:16]), self.signing)
        links = memory_links(timeout=timeout)
        honest = Honest(-1)
        deviation = deviation or honest

        def work(party: int) -> None:
            acting = deviation if deviation.party == party else honest
            recorded = session.recorded
            job = recorded.askings[0].job(party, recorded.session)
            public = [key.public for key in self.signing]
            signer = Signer(self.signing[party], f"p{party}", "0.1.0+code", public)
            bare = Keeping(links[party], session.messages) if keep else links[party]
            link = acting.link(bare) if acting is deviation else deviation.link_of_another(bare)
            witness = session.witnesses[party] = Witness(signer, link, recorded.session)
            try:
                sides = [Side(job, received(job.plan, party, job.request.private))]
                parts = iter(recorded.parts[party])
                keys = session.keys[party] = open_session(
                    witness.link,
                    Batch(recorded.session, [job]),
                    sides,
                    recorded.identities,
                    recorded.label,
                    lambda: next(parts),
                )
                begun = Begun(witness.link, recorded.session, keys, witness)
                begun.requests = [(job, sides[0].inputs or {})]
                interpreter = acting.interpreter(self.weights[party])
                (done,) = compute(begun, interpreter, Joints(), lambda: None, lambda *_: None)
                views = [memoryview(bytes(as_bytes(buffer))) for buffer in done.buffers]
                session.answers[party] = Answer(done.body, views, job.request.id)
            except Exception as error:
                session.errors[party] = error
                links[party].abort(recorded.session, str(error))

        with deviation.active():
            threads = [threading.Thread(target=work, args=(party,), daemon=True) for party in SERVERS]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
        return session

    def interpreters(self) -> list[Interpreter]:
        """The owner's."""
        return [Interpreter(weights) for weights in self.weights]

    def judge(self, evidence: Evidence, session: Session) -> Verdict:
        return judge(evidence, session.plan, self.interpreters())
