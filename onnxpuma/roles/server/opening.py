"""What the servers tell each other before the first step of a run: one message to each neighbour, both ways.

    part        32 random bytes: both holders' parts make the key of a pair (mpc/prf.py)
    code        over the component of every secret input that both hold, as each received it from the client
    sketch      of the keys of secret ids (protocols/sketch.py), if there are any

No word that depends on a weight leaves before the codes and sketches of both neighbours match. A client that
gives two servers different shares is refused here, so it can only ask with consistent ones.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence

from onnxpuma.errors import InputError, TransportError
from onnxpuma.mpc.prf import PART_BYTES, AesStream, PartyKeys, derived_key, fresh_part
from onnxpuma.mpc.protocols.dpf import BITS, Dealt, SecretIds
from onnxpuma.mpc.protocols.sketch import COMBINATIONS, Sketch, sketch
from onnxpuma.mpc.ring.arrays import read, zeros
from onnxpuma.mpc.ring.words import Words
from onnxpuma.roles.request.message import CODE_BYTES, MADE_HERE, component_code
from onnxpuma.roles.server.job import Job
from onnxpuma.transport.link import PARTIES, Buffer, Link, Tag

LABEL = "opening"


def open_session(
    link: Link,
    job: Job,
    inputs: Mapping[str, Dealt],
    identities: Sequence[str],
    label: str = LABEL,
    draw: Callable[[], bytes] | None = None,
) -> PartyKeys:
    """The PRF keys of this session, once both neighbours prove to hold the same components of the request.

    inputs: this party's shares of the plan's secret inputs. identities: the public keys of the three
    servers. label: the same at all three, or they do not open. draw: gives this party's parts; None: fresh
    ones. Raises InputError when the client gave two servers different shares, TransportError when a peer
    leaves or sends a malformed message. One exchange; 64 bytes to each neighbour, 192 if there are ids.
    """
    party = link.party
    previous, following = (party - 1) % PARTIES, (party + 1) % PARTIES
    binding = (job.session, job.digest)
    found = [form for form in inputs.values() if isinstance(form, SecretIds)]
    mine = sketch(found, AesStream(derived_key(job.coins, b"sketch", *binding))) if found else None
    tag = Tag(job.session, 0, 0, label)
    parts = {peer: (draw or fresh_part)() for peer in (previous, following)}
    # Component i is held with the party before, component i + 1 with the one after.
    components = {previous: party, following: following}
    codes = {
        peer: component_code(job.plan, party, job.request.private, component, binding)
        for peer, component in components.items()
    }
    told = {} if mine is None else {previous: mine.to_previous, following: mine.to_following}
    for peer in (previous, following):
        message: list[Buffer] = [parts[peer], codes[peer]]
        link.send(peer, tag, [*message, told[peer]] if told else message)
    theirs = {peer: _read(link, peer, tag, bool(told)) for peer in (previous, following)}
    for peer in (previous, following):
        if not hmac.compare_digest(theirs[peer][1], codes[peer]):
            first, second = sorted((party, peer))
            raise InputError(
                f"the client sent server {first} and server {second} different shares", MADE_HERE
            )
    if mine is not None:
        _check_sketch(mine, theirs[previous][2], theirs[following][2], previous, party)
    keys = {}
    for peer, component in components.items():
        holders = (component, (component - 1) % PARTIES)
        both = [parts[peer] if holder == party else theirs[peer][0] for holder in holders]
        names = [identities[holder].encode() for holder in holders]
        keys[component] = derived_key(both, b"session", *binding, bytes([component]), *names)
    return PartyKeys.from_keys(party, keys[party], keys[following])


def _read(link: Link, peer: int, tag: Tag, ids: bool) -> tuple[bytes, bytes, Words]:
    buffers = link.receive(peer, tag)
    due = [PART_BYTES, CODE_BYTES, *([4 * COMBINATIONS] if ids else [])]
    if [len(buffer) for buffer in buffers] != due:
        raise TransportError(
            f"party {peer} opened the session with a malformed message",
            "install the same version on all servers",
        )
    words = read(buffers[2], BITS) if ids else zeros(0, BITS)
    return bytes(buffers[0]), bytes(buffers[1]), words


def _check_sketch(
    mine: Sketch, from_previous: Words, from_following: Words, previous: int, party: int
) -> None:
    if not mine.agrees(from_previous, from_following):
        raise InputError(
            f"the client sent the servers different shares: its keys for ids read other rows of component"
            f" {previous} than of component {party}",
            MADE_HERE,
        )
