"""What the servers tell each other before the first step of a run: one message to each neighbour, both ways.

    part        32 random bytes: both holders' parts make the key of a pair (mpc/prf.py)
                and for each request of the run:
    code        over the component of every secret input that both hold, as each received it from the client
    sketch      of the keys of secret ids (protocols/sketch.py), if there are any

No word that depends on a weight leaves before the codes and sketches of both neighbours match. A client that
gives two servers different shares is refused here, so it can only ask with consistent ones. If several
requests are to run together, each server then tells both others which of them it refuses, or can only run
later, and the run goes on without these.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnxpuma.errors import InputError, OnnxpumaError, TransportError
from onnxpuma.mpc.prf import PART_BYTES, AesStream, PartyKeys, derived_key, fresh_part
from onnxpuma.mpc.protocols.dpf import BITS, Dealt, SecretIds, expand_all
from onnxpuma.mpc.protocols.sketch import COMBINATIONS, Sketch, sketch
from onnxpuma.mpc.ring.arrays import read, zeros
from onnxpuma.mpc.ring.words import Words
from onnxpuma.roles.request.message import CODE_BYTES, MADE_HERE, component_code
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.transport.link import PARTIES, Buffer, Link, Tag

LABEL = "opening"
SIGNED_LABEL = f"{LABEL} with receipts"  # servers that sign and servers that do not refuse each other
RUNS, LATER, REFUSED = range(3)  # what becomes of a request: the highest of what three servers say


@dataclass(eq=False)
class Side:
    """What one server has of one request of a run."""

    job: Job | None  # None: it does not hold the request
    # Its shares of the plan's secret inputs; None where it does not run the request.
    inputs: dict[str, Dealt] | None = None
    standing: int = RUNS
    error: OnnxpumaError | None = None  # why it refuses the request
    memory: int = 0  # bytes that it takes

    def refuse(self, error: OnnxpumaError | None) -> None:
        if error is not None:
            self.standing, self.error = REFUSED, error

    @property
    def ids(self) -> list[SecretIds]:
        """The keys of its secret ids."""
        return [form for form in (self.inputs or {}).values() if isinstance(form, SecretIds)]

    def proof(self, party: int, session: bytes) -> Proof | None:
        """What shows the neighbours of `party` that its shares fit theirs; None if it does not run this."""
        if self.job is None or self.inputs is None:
            return None
        job, binding = self.job, (session, self.job.digest)
        found = self.ids
        mine = sketch(found, AesStream(derived_key(job.coins, b"sketch", *binding))) if found else None
        codes = {
            component: component_code(job.plan, party, job.request.private, component, binding)
            for component in (party, (party + 1) % PARTIES)
        }
        return Proof(party, codes, mine)


@dataclass(frozen=True)
class Proof:
    """One party's codes of the components of a request, and its sketch."""

    party: int
    codes: Mapping[int, bytes]  # by component
    mine: Sketch | None

    def told(self, peer: int) -> list[Buffer]:
        """What a neighbour is told: component i is held with the party before, i + 1 with the one after."""
        previous = peer == (self.party - 1) % PARTIES
        code = self.codes[self.party if previous else peer]
        if self.mine is None:
            return [code, b""]
        return [code, self.mine.to_previous if previous else self.mine.to_following]

    def difference(self, theirs: Mapping[int, tuple[bytes, Words]]) -> InputError | None:
        """Why the neighbours' shares do not fit this party's, if they do not."""
        party, previous, following = self.party, (self.party - 1) % PARTIES, (self.party + 1) % PARTIES
        for peer, component in ((previous, party), (following, following)):
            if not hmac.compare_digest(theirs[peer][0], self.codes[component]):
                first, second = sorted((party, peer))
                return InputError(
                    f"the client sent server {first} and server {second} different shares", MADE_HERE
                )
        if self.mine is not None and not self.mine.agrees(theirs[previous][1], theirs[following][1]):
            return InputError(
                "the client sent the servers different shares: its keys for ids read other rows of component"
                f" {previous} than of component {party}",
                MADE_HERE,
            )
        return None


def open_session(
    link: Link,
    batch: Batch,
    sides: Sequence[Side],
    identities: Sequence[str],
    label: str = LABEL,
    draw: Callable[[], bytes] | None = None,
) -> PartyKeys:
    """The PRF keys of this session, once both neighbours prove to hold the same components of the requests.

    sides: what this party has of each request of the batch; those that are not to run have another `standing`
    afterwards, the same at all three parties. identities: the public keys of the three servers. label:
    the same at all three, or they do not open. draw: gives this party's parts; None: fresh ones. Raises
    InputError when the client of a lone request gave two servers different shares, TransportError when a peer
    leaves or sends a malformed message. One exchange; to each neighbour 32 bytes, and for each request 32, or
    224 if it has ids. For more than one request a second exchange, of a byte for each.
    """
    party = link.party
    previous, following = (party - 1) % PARTIES, (party + 1) % PARTIES
    tag = Tag(batch.session, 0, 0, label)
    parts = {peer: (draw or fresh_part)() for peer in (previous, following)}
    expand_all([form for side in sides for form in side.ids])
    proofs = [side.proof(party, batch.session) for side in sides]
    for peer in (previous, following):
        message: list[Buffer] = [parts[peer]]
        for proof in proofs:
            message += [b"", b""] if proof is None else proof.told(peer)
        link.send(peer, tag, message)
    theirs = {peer: _read(link, peer, tag, proofs) for peer in (previous, following)}
    for place, (side, proof) in enumerate(zip(sides, proofs, strict=True)):
        told = {peer: found for peer in theirs if (found := theirs[peer][1][place]) is not None}
        if proof is not None and len(told) == len(theirs):
            side.refuse(proof.difference(told))
    if len(sides) > 1:
        _agree(link, Tag(batch.session, 0, 1, label), sides)
    elif sides[0].error is not None:
        raise sides[0].error
    running = [side.job.digest for side in sides if side.job is not None and side.standing == RUNS]
    keys = {}
    for peer, component in ((previous, party), (following, following)):
        holders = (component, (component - 1) % PARTIES)
        both = [parts[peer] if holder == party else theirs[peer][0] for holder in holders]
        names = [identities[holder].encode() for holder in holders]
        bound = (batch.session, *running, bytes([component]), *names)
        keys[component] = derived_key(both, b"session", *bound)
    return PartyKeys.from_keys(party, keys[party], keys[following])


def _read(
    link: Link, peer: int, tag: Tag, proofs: Sequence[Proof | None]
) -> tuple[bytes, list[tuple[bytes, Words] | None]]:
    """A neighbour's part and, for each request that it runs, its code and sketch."""
    buffers = link.receive(peer, tag)
    malformed = TransportError(
        f"party {peer} opened the session with a malformed message", "install the same version on all servers"
    )
    if len(buffers) != 1 + 2 * len(proofs) or len(buffers[0]) != PART_BYTES:
        raise malformed
    told: list[tuple[bytes, Words] | None] = []
    for proof, code, combined in zip(proofs, buffers[1::2], buffers[2::2], strict=True):
        due = 0 if proof is None or proof.mine is None else 4 * COMBINATIONS
        if not len(code) and not len(combined) and len(proofs) > 1:
            told.append(None)
        elif len(code) != CODE_BYTES or (proof is not None and len(combined) != due):
            raise malformed
        else:
            told.append((bytes(code), read(combined, BITS) if due else zeros(0, BITS)))
    return bytes(buffers[0]), told


def _agree(link: Link, tag: Tag, sides: Sequence[Side]) -> None:
    """Every server hears what the others say of each request, so that all three run the same."""
    peers = [peer for peer in range(PARTIES) if peer != link.party]
    mine = bytes(side.standing for side in sides)
    for peer in peers:
        link.send(peer, tag, [mine])
    for peer in peers:
        said = b"".join(bytes(buffer) for buffer in link.receive(peer, tag))
        if len(said) != len(sides) or max(said) > REFUSED:
            raise TransportError(
                f"party {peer} sent a malformed message", "install the same version on all servers"
            )
        for side, standing in zip(sides, said, strict=True):
            side.standing = max(side.standing, standing)
