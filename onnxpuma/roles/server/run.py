"""One run at one server: fresh keys, shares in, the interpreter, and its own term of each output out.

It computes one request, or several together: then the plans of all become one (plan/together/), and each
request's outputs are told apart again. The values that a request keeps stay behind as the two components that
this server holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.mpc.protocols.dpf import Dealt
from onnxpuma.mpc.sharing import outgoing
from onnxpuma.observe import Progress, RunReport
from onnxpuma.ops.beside import with_numbers
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.together.join import Joints, own_name
from onnxpuma.roles.request.answer import result
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.opening import SIGNED_LABEL, Side, open_session
from onnxpuma.roles.server.receipt import Signer, Witness
from onnxpuma.roles.server.store import KeptShares
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import Buffer, Link


@dataclass
class Begun:
    """A run that is open: the three servers hold the same requests, and agree on those that run."""

    link: Link
    session: bytes
    keys: PartyKeys
    witness: Witness | None  # None: no receipts
    # Those that run, each with this party's shares of its inputs.
    requests: list[tuple[Job, dict[str, Dealt]]] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """What a run leaves of one request."""

    body: wire_pb2.Result
    buffers: list[Buffer]
    kept: dict[str, KeptShares]


def opened(
    link: Link,
    batch: Batch,
    sides: Sequence[Side],
    identities: Sequence[str],
    signer: Signer | None = None,
) -> Begun:
    """Open the session of a batch. signer: None for no receipts. Raises and costs as `open_session`."""
    if signer is None:
        return Begun(link, batch.session, open_session(link, batch, sides, identities), None)
    witness = Witness(signer, link, batch.session)
    keys = open_session(witness.link, batch, sides, identities, SIGNED_LABEL, witness.draw)
    return Begun(witness.link, batch.session, keys, witness)


def compute(
    begun: Begun,
    interpreter: Interpreter,
    joints: Joints,
    on_round: Callable[[], None],
    progress: Progress,
) -> list[Done]:
    """Run the requests that have begun, in lockstep with the other servers.

    on_round: called after every exchange; an exception from it ends the run. Raises TransportError when a
    peer leaves, stops or is out of step, and when the chains of two servers differ.
    """
    party, requests = Party(begun.link, begun.keys, begun.session, on_round=on_round), begun.requests
    if begun.witness is not None:
        begun.witness.begin(begun.keys, [job for job, _ in requests])
    plans = [job.plan for job, _ in requests]
    alone = len(requests) == 1
    plan = plans[0] if alone else joints.get(plans)
    inputs: dict[str, Dealt] = {}
    for number, (job, given) in enumerate(requests):
        given.update((entry.name, job.taken(entry.name)) for entry in job.plan.held)
        inputs.update((name if alone else own_name(name, number), value) for name, value in given.items())
        # The caller's jobs lose their shares here, so that each is freed after the step that reads it last.
        job.request.private, job.held = [], {}
        given.clear()
    shares, report = interpreter.run(plan, party, inputs, progress)
    own = [
        shares if alone else {o.name: shares[own_name(o.name, number)] for o in one.outputs if o.secret}
        for number, one in enumerate(plans)
    ]
    reports = [
        _own(report, share, job, len(plans))
        for share, (job, _) in zip(shares_of(plans), requests, strict=True)
    ]
    done = [_done(party, *each) for each in zip(plans, own, reports, strict=True)]
    if begun.witness is not None:
        begun.witness.compare()
        for (job, _), one in zip(requests, done, strict=True):
            one.buffers.append(begun.witness.receipt(job, one.buffers[: len(job.plan.opened)]))
    return done


def shares_of(plans: Sequence[Plan]) -> list[float]:
    """The part of a run's bytes that is each request's, as their plans predict it."""
    if len(plans) == 1:  # which need not be priced
        return [1.0]
    bits = [max(plan.cost.bits, 1) for plan in plans]
    return [one / sum(bits) for one in bits]


def _own(report: RunReport, share: float, job: Job, requests: int) -> RunReport:
    """What a client is told of a run: nothing that shows the sizes of other clients' requests."""
    report = replace(report, answers_left=job.answers_left)
    if requests == 1:
        return report
    return replace(report, requests=requests, bytes_sent=round(share * report.bytes_sent), operators={})


def _done(party: Party, plan: Plan, shares: Mapping[str, Any], report: RunReport) -> Done:
    """The answer to a request, and the values that it keeps."""
    terms = {o.name: outgoing(party, shares[o.name], o.format) for o in plan.opened}
    whole = {o.name: with_numbers(shares[o.name], o.beside) for o in plan.kept}
    kept = {
        o.name: KeptShares(_settled(whole[o.name]), replace(o, beside=None), party.session) for o in plan.kept
    }
    return Done(*result(plan, terms, report), kept)


def _settled(x: Replicated | Sum3) -> Replicated:
    """x with words that have arrived: the session may end, and nothing of x is still on its way."""
    assert isinstance(x, Replicated)  # the plan resolves kept outputs
    return x.arrived()
