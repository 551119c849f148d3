"""After a canary's answer: the client opens its commitment, and stores what servers signed and hand over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from onnxpuma import __version__
from onnxpuma.config import ClusterConfig
from onnxpuma.errors import OnnxpumaError
from onnxpuma.roles.request.audit_file import write_audit
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.cluster import Answer, Cluster
from onnxpuma.transport.link import Buffer, as_bytes


@dataclass
class Sent:
    """One request as it left, and what came back: all that its client knows of the session."""

    opening: bytes = field(default=b"", repr=False)  # of its commitment, if it is a canary
    body: wire_pb2.Request = field(default_factory=wire_pb2.Request, repr=False)
    public: Sequence[Buffer] = field(default=(), repr=False)
    private: Sequence[Sequence[Buffer]] = field(default=(), repr=False)  # by server
    answers: Sequence[Answer] = field(default=(), repr=False)  # receipts included
    terms: int = 0  # buffers of an answer that are terms of outputs
    id: bytes = b""  # under which it was sent last


def complain(
    cluster: Cluster, config: ClusterConfig, client_key: str, sent: Sent, folder: Path, error: str = ""
) -> tuple[Path, list[str]]:
    """Open the commitment of this canary, and write what an audit needs to a new file in `folder`.

    error: with which the run ended, if it gave no answer. Returns the file, and what each server says that
    hands over nothing ("" for one that does). Raises ConfigError when the file cannot be written.
    """
    opened = wire_pb2.Opened(request=sent.id, opening=sent.opening)
    answers = cluster.aside(wire_pb2.Request(opened=opened))
    body = wire_pb2.Request()
    body.CopyFrom(sent.body)
    body.id, body.public_buffers = sent.id, len(sent.public)
    content = wire_pb2.AuditFile(
        request=body,
        public=[bytes(as_bytes(buffer)) for buffer in sent.public],
        client_key=client_key,
        opening=sent.opening,
        error=error,
        version=__version__,
    )
    refusals = []
    for number, (party, answer) in enumerate(zip(config.parties, answers, strict=True)):
        if isinstance(answer, OnnxpumaError):
            testimony, refusal = b"", answer.message
        else:
            testimony = b"".join(bytes(part) for part in answer)
            refusal = "" if testimony else "its answer was empty"
        refusals.append(refusal)
        receipt = b""
        if sent.answers and len(sent.answers[number].buffers) == sent.terms + 2:
            receipt = bytes(sent.answers[number].buffers[-1])
        content.servers.add(
            private=[bytes(as_bytes(buffer)) for buffer in sent.private[number]],
            key=party.public_key,
            signing_key=party.signing_key,
            receipt=receipt,
            testimony=testimony,
            refusal=refusal,
        )
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"canary-{moment}-{sent.id.hex()[:8]}.audit"
    write_audit(path, content)
    return path, refusals
