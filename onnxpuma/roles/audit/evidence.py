"""What is known of one session when its owner looks into it: what determines it, and what each server signed.

Everything here was either signed by a server or is bound to what it signed: the client's private buffers and
the terms by codes under the salts, the public part by its digest, the session keys by commitments, the lists
of digests by the chains. A judge must check these bonds before it believes a word of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnxpuma.roles.request.message import Asked
from onnxpuma.roles.request.receipt import Signed
from onnxpuma.roles.request.testimony import Testimony as Testimony
from onnxpuma.roles.request.testimony import Way as Way
from onnxpuma.transport.request import Request


@dataclass(frozen=True)
class Evidence:
    """One session: what determines it, by party, and what the three servers signed about it."""

    session: bytes
    label: str  # of the opening
    identities: tuple[str, str, str]  # the public keys of the servers
    signers: tuple[str, str, str]  # their public signing keys
    client_key: str  # public
    # As the client sent it to each server: the same public part, and that server's private buffers.
    requests: tuple[Request, Request, Request] = field(repr=False)
    asked: Asked = field(repr=False)  # the public part, read
    # The final statements; None where a server gave none, since the run ended early.
    receipts: tuple[Signed | None, Signed | None, Signed | None]
    salts: tuple[bytes, bytes, bytes] = field(repr=False)  # of the codes in the receipts; b"" without one
    testimonies: tuple[Testimony | None, Testimony | None, Testimony | None] = field(repr=False)
    refusals: Mapping[int, str]  # what a server said in place of its testimony; "" if it said nothing
    error: str = ""  # with which the run ended at the client, where it gave no answer
