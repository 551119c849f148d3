"""One request at one server: fresh keys, shares in, the interpreter, its own term of each output out.

What the request keeps stays behind as the two components that this server holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from onnxpuma.errors import TransportError
from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import KEY_BYTES, PartyKeys, fresh_key
from onnxpuma.mpc.shares import Replicated, Sum3
from onnxpuma.mpc.sharing import outgoing
from onnxpuma.observe import Progress
from onnxpuma.ops.beside import with_numbers
from onnxpuma.roles.agreement import Job
from onnxpuma.roles.answer import result
from onnxpuma.roles.kept import KeptShares
from onnxpuma.roles.request import received
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import PARTIES, Buffer, Link, Tag


def compute(
    link: Link, interpreter: Interpreter, job: Job, on_round: Callable[[], None], progress: Progress
) -> tuple[wire_pb2.Result, list[Buffer], dict[str, KeptShares]]:
    """Run `job` in lockstep with the two other servers; what to answer its client, and what to keep for it.

    on_round: called after every exchange; what it raises ends the run. Raises TransportError when a peer
    leaves, stops or is out of step.
    """
    party = Party(link, session_keys(link, job.session), job.session, on_round=on_round)
    inputs = received(job.plan, party.index, job.request.private)
    inputs.update((entry.name, job.held[entry.name].words) for entry in job.plan.held)
    job.request.private, job.held = [], {}
    shares, report = interpreter.run(job.plan, party, inputs, progress)
    terms = {o.name: outgoing(party, shares[o.name], o.fraction) for o in job.plan.opened}
    whole = {o.name: with_numbers(shares[o.name], o.beside) for o in job.plan.kept}
    kept = {
        o.name: KeptShares(_settled(whole[o.name]), replace(o, beside=None), job.session)
        for o in job.plan.kept
    }
    return *result(job.plan, terms, report), kept


def _settled(x: Replicated | Sum3) -> Replicated:
    """x with words that have arrived: nothing of it is on its way when the session ends."""
    assert isinstance(x, Replicated)  # the plan resolves what is kept
    return Replicated(x.party, x.first, x.second, x.bits, x.fraction)


def session_keys(link: Link, session: bytes) -> PartyKeys:
    """PRF keys of this session alone: party j draws K_j and gives it to party j - 1, the other holder."""
    party, following = link.party, (link.party + 1) % PARTIES
    tag = Tag(session, 0, 0, "session keys")
    own = fresh_key()
    link.send((party - 1) % PARTIES, tag, [own])
    buffers = link.receive(following, tag)
    if [len(buffer) for buffer in buffers] != [KEY_BYTES]:
        raise TransportError(
            f"party {following} sent no session key", "install the same version on all servers"
        )
    return PartyKeys.from_keys(party, own, bytes(buffers[0]))
