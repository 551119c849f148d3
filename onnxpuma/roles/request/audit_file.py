"""The file of one canary's session: what its client sent, and what the servers signed and handed over.

The client writes it, the model's owner reads it. The testimonies in it are sealed to the owner's key.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from onnxpuma.errors import InputError
from onnxpuma.roles.request.whole_file import read_whole, write_whole
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import PARTIES

FORM = "onnxpuma audit 1"
_HINT = "name a file that a client stored about a canary, or copy it again from there"


def write_audit(path: Path, content: wire_pb2.AuditFile) -> None:
    """Write the file, for its owner alone to read, whole or not at all. ConfigError when that fails."""
    write_whole(path, FORM, content.SerializeToString(deterministic=True))


def read_audit(path: Path) -> wire_pb2.AuditFile:
    """Read what `write_audit` wrote. ConfigError for a file that cannot be read, InputError for one that is
    something else or has changed in a single bit."""
    data = read_whole(path, FORM, "a canary's session", _HINT)
    content = wire_pb2.AuditFile()
    try:
        content.ParseFromString(data)
    except DecodeError:
        content.Clear()
    if len(content.servers) != PARTIES:
        raise InputError(f"{path} is not about three servers", _HINT)
    return content
