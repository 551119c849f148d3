"""A request as one server received it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from onnxpuma.transport import wire_pb2

ID_BYTES = 16


@dataclass(eq=False, slots=True)
class Request:
    """A request as one server received it."""

    client: str  # name of the key that sent it
    body: wire_pb2.Request  # its public part
    public: list[memoryview]  # the buffers that all servers get
    private: list[memoryview] = field(repr=False)  # the buffers for this server alone
    route: bytes  # the client's routing id, to which answers go
    connection: tuple[int, int]
    key: str = ""  # public, of the client
    gone: bool = False  # the client left, or no longer wants an answer

    @property
    def id(self) -> bytes:
        return self.body.id

    def digest(self) -> bytes:
        """SHA-256 of the public part, 32 bytes; the servers compare it, as all must have the same request."""
        return request_digest(self.body, self.public)


def request_digest(body: wire_pb2.Request, public: Sequence[memoryview]) -> bytes:
    """The digest of a request with this public part."""
    total = hashlib.sha256(body.SerializeToString(deterministic=True))
    for buffer in public:
        total.update(len(buffer).to_bytes(8, "little"))
        total.update(buffer)
    return total.digest()
