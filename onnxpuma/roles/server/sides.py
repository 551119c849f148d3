"""This server's side of each request of a run: its plan and its shares, or why it does not run."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from onnxpuma.errors import OnnxpumaError, RemoteError
from onnxpuma.mpc.protocols.dpf import Dealt
from onnxpuma.plan.budget import needed_bytes
from onnxpuma.roles.request.message import received
from onnxpuma.roles.server.agreement import Agreement
from onnxpuma.roles.server.budgets import AnswerLedger, charge
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.opening import LATER, REFUSED, Side
from onnxpuma.roles.server.reception import Reception
from onnxpuma.transport.failure import line_of, told

_log = logging.getLogger("onnxpuma.roles")


def sides_of(batch: Batch, reception: Reception, ledger: AnswerLedger | None) -> list[Side]:
    """Plan every request of the batch. One that cannot run here is refused; one for which memory is left only
    after the others have run runs later. The answers of those that run are counted in `ledger`.

    Raises what `Reception.plan` and `charge` raise for a request that is alone.
    """
    sides, taken, alone = list[Side](), 0, len(batch.jobs) == 1
    for job in batch.jobs:
        side = Side(job, standing=REFUSED) if job is None else _side(job, reception, alone)
        if job is not None and side.inputs is not None:
            size = needed_bytes(job.plan)
            if not alone and taken and taken + size > reception.memory:
                side.inputs, side.standing = None, LATER
            elif _counted(side, job, reception, ledger, alone):
                side.memory = size
                taken += size
        sides.append(side)
    return sides


def settled(batch: Batch, sides: Sequence[Side], agreement: Agreement) -> list[tuple[Job, dict[str, Dealt]]]:
    """The requests that run, with this server's shares; the others are answered, or wait again. The batch is
    left with those that run."""
    running = []
    for side in sides:
        if side.job is None:
            continue
        if side.standing == REFUSED:
            # A server that has no reason of its own leaves it to the others to tell the client theirs.
            error = side.error or RemoteError(
                "another server refused the request", "that server's error and its log say more"
            )
            _log.warning("%s failed: %s", side.job, line_of(error))
            agreement.port.fail(side.job.request, error)
        elif side.standing == LATER:
            agreement.put_back(side.job)
        elif side.inputs is not None:
            running.append((side.job, side.inputs))
    batch.jobs = [job for job, _ in running]
    return running


def _side(job: Job, reception: Reception, alone: bool) -> Side:
    try:
        reception.plan(job)
        return Side(job, received(job.plan, reception.party, job.request.private))
    except Exception as error:
        side = Side(job)
        _refuse(side, error, alone)
        return side


def _counted(side: Side, job: Job, reception: Reception, ledger: AnswerLedger | None, alone: bool) -> bool:
    """Whether the client has answers left for this request, which are counted once however often it waits."""
    if job.answers_left is None:
        try:
            blueprint = reception.graph_of(job.request).plans.blueprint
            job.answers_left = charge(ledger, blueprint, job.plan, job.client_key)
        except Exception as error:
            _refuse(side, error, alone)
            return False
    return True


def _refuse(side: Side, error: Exception, alone: bool) -> None:
    if alone:
        raise error
    if not isinstance(error, OnnxpumaError):
        _log.error("%s", "".join(traceback.format_tb(error.__traceback__)))
    side.inputs = None
    side.refuse(told(error))
