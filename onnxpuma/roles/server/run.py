"""One request at one server: fresh keys, shares in, the interpreter, and its own term of each output out.

The values that the request keeps stay behind as the two components that this server holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.sharing import outgoing
from onnxpuma.observe import Progress
from onnxpuma.ops.beside import with_numbers
from onnxpuma.roles.request.answer import result
from onnxpuma.roles.request.message import received
from onnxpuma.roles.server.job import Job
from onnxpuma.roles.server.opening import LABEL, open_session
from onnxpuma.roles.server.receipt import Signer, Witness
from onnxpuma.roles.server.store import KeptShares
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import Buffer, Link


def compute(
    link: Link,
    interpreter: Interpreter,
    job: Job,
    on_round: Callable[[], None],
    progress: Progress,
    identities: Sequence[str],
    signer: Signer | None = None,
) -> tuple[wire_pb2.Result, list[Buffer], dict[str, KeptShares]]:
    """Run `job` in lockstep with the two other servers: the answer to its client, and the values to keep.

    on_round: called after every exchange; an exception from it ends the run. identities: the public keys of
    the three servers. signer: None for no receipts. Raises InputError, before anything runs, when the client
    gave two servers different shares; TransportError when a peer leaves, stops or is out of step, and when
    the chains of two servers differ.
    """
    inputs = received(job.plan, link.party, job.request.private)
    witness = None if signer is None else Witness(signer, link, job.session)
    if witness is None:
        keys = open_session(link, job, inputs, identities)
    else:
        link = witness.link
        keys = open_session(link, job, inputs, identities, f"{LABEL} with receipts")
        witness.begin(keys, [job])
    party = Party(link, keys, job.session, on_round=on_round)
    inputs.update((entry.name, job.held[entry.name].words) for entry in job.plan.held)
    # The caller's job loses its shares here, so that each is freed after the step that reads it last.
    job.request.private, job.held = [], {}
    shares, report = interpreter.run(job.plan, party, inputs, progress)
    report.answers_left = job.answers_left
    terms = {o.name: outgoing(party, shares[o.name], o.format) for o in job.plan.opened}
    whole = {o.name: with_numbers(shares[o.name], o.beside) for o in job.plan.kept}
    kept = {
        o.name: KeptShares(_settled(whole[o.name]), replace(o, beside=None), job.session)
        for o in job.plan.kept
    }
    body, buffers = result(job.plan, terms, report)
    if witness is not None:
        witness.compare()
        buffers.append(witness.receipt(job, buffers[: len(terms)]))
    return body, buffers, kept


def _settled(x: Replicated | Sum3) -> Replicated:
    """x with words that have arrived: the session may end, and nothing of x is still on its way."""
    assert isinstance(x, Replicated)  # the plan resolves kept outputs
    return x.arrived()
