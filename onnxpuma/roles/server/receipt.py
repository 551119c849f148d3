"""A server's side of receipts: it watches a run, compares chains with its neighbours, and signs."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from onnxpuma.errors import TransportError
from onnxpuma.mpc.prf import PartyKeys, fresh_part
from onnxpuma.roles.request.passage import vouching
from onnxpuma.roles.request.receipt import (
    BEGUN,
    FORM,
    SALT_BYTES,
    begun,
    canonical,
    client_code,
    code_of,
    told,
)
from onnxpuma.roles.server.identity import shared_component
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.retained import Evidence
from onnxpuma.transport.chained import ChainedLink, Passed
from onnxpuma.transport.link import PARTIES, Buffer, Link, Tag
from onnxpuma.transport.signing import SigningKey, is_signed

LABEL = "receipts"


@dataclass(frozen=True)
class Signer:
    """The one who signs at a server."""

    key: SigningKey
    name: str  # of the server, in cluster.toml
    version: str  # of the package, and the code of what it does in lockstep
    signers: Sequence[str]  # the public signing keys of the three servers


class Witness:
    """What one server can sign about one run. `link` is the link that the run must use, opening included."""

    def __init__(self, signer: Signer, link: Link, session: bytes) -> None:
        self._signer, self._session = signer, session
        self.link = ChainedLink(link)
        self._salts: dict[bytes, bytes] = {}  # by job, as the codes of the inputs
        self._inputs: dict[bytes, str] = {}
        self._statement: dict[str, Any] = {}
        self._begun = b""
        self._chain_keys: dict[tuple[int, int], bytes] = {}  # by sender and receiver
        self._parts: list[bytes] = []
        self._keys: PartyKeys | None = None

    def draw(self) -> bytes:
        """A part of this server's for a key of the session, as `open_session` draws them."""
        self._parts.append(fresh_part())
        return self._parts[-1]

    def begin(self, keys: PartyKeys, jobs: Sequence[Job]) -> None:
        """Sign what the run begins with, once its session is open.

        keys: of this session. jobs: those that it serves, which still have their private buffers.
        """
        for job in jobs:
            salt = self._salts[job.digest] = os.urandom(SALT_BYTES)
            self._inputs[job.digest] = code_of(salt, "inputs", job.request.private)
        me, self._keys = self.link.party, keys
        commitments = {c: keys.code(c, b"commitment", self._session) for c in (me, (me + 1) % PARTIES)}
        for peer in _peers(me):
            for way in ((me, peer), (peer, me)):
                self._chain_keys[way] = chain_key(keys, *way)
        self._statement = {
            "form": FORM,
            "party": me,
            "session": self._session.hex(),
            "jobs": [job.digest.hex() for job in jobs],
            "keys": {str(component): code.hex() for component, code in commitments.items()},
            "began": _now(),
            "name": self._signer.name,
            "version": self._signer.version,
        }
        self._begun = self._signer.key.sign(begun(self._statement))

    def compare(self) -> None:
        """Compare the chains with both neighbours, once the run has ended and before any output leaves.

        Raises TransportError, which names the two parties that differ, or the one that did not sign. One
        exchange; two chains and a signature to each neighbour.
        """
        me, link = self.link.party, self.link.inner
        sent, received = self._chains(self.link.sent, True), self._chains(self.link.received, False)
        tag = Tag(self._session, 0, 0, LABEL)
        for peer in _peers(me):
            said = vouching(self._session, me, peer, sent[peer], received[peer])
            link.send(peer, tag, [sent[peer], received[peer], self._signer.key.sign(said)])
        vouched = {}
        for peer in _peers(me):
            *theirs, signature = [bytes(part) for part in link.receive(peer, tag)] or [b""]
            for sender, receiver, mine, other in (
                (peer, me, received[peer], theirs[:1]),
                (me, peer, sent[peer], theirs[1:]),
            ):
                if not hmac.compare_digest(mine, b"".join(other)):
                    raise TransportError(
                        f"what party {sender} sent is not what party {receiver} received: one of the two"
                        " departs from the program, or lies about it",
                        "no output of this run has left; compare the machines and logs of these two servers",
                    )
            said = vouching(self._session, peer, me, received[peer], sent[peer])
            if not is_signed(self._signer.signers[peer], said, signature):
                raise TransportError(
                    f"party {peer} did not sign what passed between it and party {me}",
                    "no output of this run has left; compare the signing keys in cluster.toml of all servers",
                )
            vouched[str(peer)] = signature.hex()
        self._statement["sent"] = {str(peer): chain.hex() for peer, chain in sent.items()}
        self._statement["received"] = {str(peer): chain.hex() for peer, chain in received.items()}
        self._statement["vouched"] = vouched

    def _chains(self, passed: Mapping[int, Passed], outward: bool) -> dict[int, bytes]:
        me = self.link.party
        return {
            peer: passed[peer].chain(self._chain_keys[(me, peer) if outward else (peer, me)])
            for peer in _peers(me)
        }

    def receipt(self, job: Job, terms: Sequence[Buffer]) -> bytes:
        """The receipt for the client of `job`, to whom `terms` go, in its wire form."""
        salt = self._salts[job.digest]
        statement = {
            **self._statement,
            "model": job.request.body.model_digest.hex(),
            "plan": job.asked.plan_digest,
            "request": job.request.digest().hex(),
            "client": client_code(job.client_key).hex(),
            "earlier": [session.hex() for session in job.earlier],
            "inputs": self._inputs[job.digest],
            "outputs": code_of(salt, "outputs", terms),
            "ended": _now(),
        }
        return told(statement, self._begun, self._signer.key.sign(b"end" + canonical(statement)), salt)

    def evidence(self, job: Job) -> Evidence | None:
        """What an audit of this run needs of this server, which the two of them then own; None unless the
        run has begun, and serves `job` alone, whose client may open it as a canary."""
        commitment, keys = job.request.body.commitment, self._keys
        if not commitment or keys is None or self._statement["jobs"] != [job.digest.hex()]:
            return None
        me = self.link.party
        digests = {(me, peer): tuple(passed.digests) for peer, passed in self.link.sent.items()}
        digests |= {(peer, me): tuple(passed.digests) for peer, passed in self.link.received.items()}
        begun = {name: self._statement[name] for name in BEGUN}
        return Evidence(
            me,
            self._session,
            job.coins,
            [bytearray(part) for part in self._parts],
            {component: bytearray(key) for component, key in keys.secrets().items()},
            digests,
            begun,
            self._begun,
            commitment,
        )


def chain_key(keys: PartyKeys, sender: int, receiver: int) -> bytes:
    """The key of the chain from `sender` to `receiver`. keys: those of either for this session."""
    return keys.code(shared_component(sender, receiver), b"chain", bytes([sender, receiver]))


def _peers(me: int) -> list[int]:
    return [party for party in range(PARTIES) if party != me]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
