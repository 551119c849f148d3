"""The file of one canary's session: what its client sent, and what the servers signed and handed over.

The client writes it, the model's owner reads it. The testimonies in it are sealed to the owner's key.
"""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3
from google.protobuf.message import DecodeError

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.plan.draft import PRIVATE, Draft
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import PARTIES

MAGIC = b"onnxpuma audit 1\n"
SUM_BYTES = 32


def write_audit(path: Path, content: wire_pb2.AuditFile) -> None:
    """Write the file, for its owner alone to read, whole or not at all. ConfigError when that fails."""
    data = content.SerializeToString(deterministic=True)
    try:
        draft = Draft(path, PRIVATE)
        try:
            for part in (MAGIC, blake3(data).digest(), data):
                draft.file.write(part)
            draft.finish()
            draft.commit()
        finally:
            draft.discard()
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", "choose a folder that you can write to"
        ) from error


def read_audit(path: Path) -> wire_pb2.AuditFile:
    """Read what `write_audit` wrote. ConfigError for a file that cannot be read, InputError for one that is
    something else or has changed in a single bit."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", "name a file that a client stored about a canary"
        ) from error
    start = len(MAGIC) + SUM_BYTES
    content = wire_pb2.AuditFile()
    try:
        whole = data.startswith(MAGIC) and blake3(data[start:]).digest() == data[len(MAGIC) : start]
        content.ParseFromString(data[start:] if whole else b"")
    except DecodeError:
        whole = False
    if not whole or len(content.servers) != PARTIES:
        raise InputError(
            f"{path} is not about a canary's session, or is damaged", "copy it again from the client"
        )
    return content
