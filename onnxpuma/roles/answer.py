"""How a result is written down: each server returns its own term of each output, and a report.

The terms are masked afresh before they leave (mpc/sharing.py), so together they are a uniformly random
sharing of the outputs: the client learns these and nothing of the words they were computed from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from onnxpuma.errors import OnnxpumaError, TransportError
from onnxpuma.mpc import ring
from onnxpuma.mpc.shares import Sum3
from onnxpuma.mpc.sharing import opened
from onnxpuma.mpc.words import decode
from onnxpuma.observe import RunReport
from onnxpuma.plan.plan import Plan
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import Buffer

_HINT = "all servers and the client must run the same version of onnxpuma"


def result(
    plan: Plan, terms: Mapping[str, Sum3], report: RunReport
) -> tuple[wire_pb2.Result, list[Buffer]]:
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


def open_result(answers: Sequence[Answer]) -> tuple[dict[str, np.ndarray], tuple[RunReport, ...]]:
    """The outputs in their declared types, from the answers of the three servers, and their reports.

    Raises TransportError when the three do not fit together.
    """
    first = answers[0].result
    for number, answer in enumerate(answers):
        same = list(answer.result.outputs) == list(first.outputs)
        if not same or len(answer.buffers) != len(first.outputs) + 1:
            raise TransportError(f"server {number} answers another request than server 0", _HINT)
    values = {}
    try:
        for place, entry in enumerate(first.outputs):
            shape = tuple(entry.shape)
            components = [ring.unpack(answer.buffers[place], entry.ring_bits, shape) for answer in answers]
            words = opened(components, entry.ring_bits)
            kind = np.dtype(entry.dtype)
            values[entry.name] = decode(words, entry.fraction_bits, entry.ring_bits).astype(kind)
        reports = tuple(RunReport.from_dict(json.loads(bytes(answer.buffers[-1]))) for answer in answers)
    except (OnnxpumaError, TypeError, ValueError, KeyError) as error:
        raise TransportError(f"the answers of the servers do not fit together: {error}", _HINT) from error
    return values, reports
