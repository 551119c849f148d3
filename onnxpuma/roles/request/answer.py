"""The wire form of a result: each server returns its own term of each output, and a report.

Each server masks its terms afresh before they leave (mpc/sharing.py), so the three form a uniformly random
sharing of the outputs: the client learns the outputs and nothing of the words behind them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from onnxpuma.errors import OnnxpumaError, TransportError
from onnxpuma.mpc import ring
from onnxpuma.mpc.forms import Sum3
from onnxpuma.mpc.ring.words import decode
from onnxpuma.mpc.sharing import opened
from onnxpuma.observe import RunReport
from onnxpuma.plan.plan import Plan
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import Buffer

_HINT = "all servers and the client must run the same version of onnxpuma"


def result(plan: Plan, terms: Mapping[str, Sum3], report: RunReport) -> tuple[wire_pb2.Result, list[Buffer]]:
    """One server's answer: its term of each output in `terms`, and its report as JSON."""
    body = wire_pb2.Result(bytes_sent=report.bytes_sent, rounds=report.rounds, seconds=report.seconds)
    buffers: list[Buffer] = []
    for output in plan.outputs:
        if output.name in terms:
            share = terms[output.name]
            body.outputs.add(
                name=output.name,
                dtype=output.dtype.name,
                shape=share.shape,
                secret=True,
                ring_bits=share.bits,
                fraction_bits=share.fraction,
                buffers=1,
            )
            buffers.append(ring.pack(share.words, share.bits))
    buffers.append(json.dumps(report.as_dict()).encode())
    return body, buffers


def open_result(plan: Plan, answers: Sequence[Answer]) -> tuple[dict[str, np.ndarray], tuple[RunReport, ...]]:
    """Open the secret outputs, in their declared types, and read the three reports.

    Raises TransportError when the three answers do not fit each other or this request.
    """
    due = plan.opened
    for number, answer in enumerate(answers):
        given = [(entry.name, tuple(entry.shape)) for entry in answer.result.outputs]
        if given != [(output.name, output.shape) for output in due] or len(answer.buffers) != len(due) + 1:
            raise TransportError(f"server {number} answered a different request", _HINT)
    values = {}
    try:
        for place, output in enumerate(due):
            entries = [answer.result.outputs[place] for answer in answers]
            (bits, fraction), *others = {(entry.ring_bits, entry.fraction_bits) for entry in entries}
            if others:
                raise ValueError(f"different rings for '{output.name}'")
            terms = [ring.unpack(answer.buffers[place], bits, output.shape) for answer in answers]
            values[output.name] = output.completed(decode(opened(terms, bits), fraction, bits))
        reports = tuple(RunReport.from_dict(json.loads(bytes(answer.buffers[-1]))) for answer in answers)
    except (OnnxpumaError, AttributeError, TypeError, ValueError) as error:
        raise TransportError(f"the servers' answers do not fit together: {error}", _HINT) from error
    return values, reports
