"""What passed between two servers, as each of them signed it, and which of the two contradicts itself.

At the end of a run each server signs to each neighbour the two chains of what passed between them, and goes
on only with the neighbour's signature under the same ones. It shows that signature in its receipt. So a
server whose receipt says something else than its neighbour's has signed both, or cannot show that the
neighbour did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxpuma.mpc.prf import framed
from onnxpuma.transport.signing import is_signed


def vouching(session: bytes, by: int, to: int, sent: bytes, received: bytes) -> bytes:
    """The bytes that server `by` signs to server `to`: the chains of what it sent there and received from
    there."""
    return framed(b"onnxpuma chains", session, bytes([by, to]), sent, received)


def is_vouched(statement: Mapping[str, Any], peer: int, key: str) -> bool:
    """Whether the server of this statement shows that `peer`, whose signing key this is, signed the chains
    that the statement has. statement: well-formed."""
    sent, received, signature = (statement[name].get(str(peer)) for name in ("sent", "received", "vouched"))
    if sent is None or received is None or signature is None:
        return False
    chains = (bytes.fromhex(received), bytes.fromhex(sent))  # as the peer saw them
    said = vouching(bytes.fromhex(statement["session"]), peer, statement["party"], *chains)
    return is_signed(key, said, bytes.fromhex(signature))


def at_fault(
    statements: Sequence[Mapping[str, Any]], keys: Sequence[str], one: int, other: int
) -> tuple[int, ...]:
    """Whom of two servers its own signatures belie about the messages between them; () if nobody.

    statements, keys: of the three servers. Whoever follows the program shows its neighbour's signature, and
    signs nothing else than it shows.
    """
    pairs = ((one, other), (other, one))
    odd = tuple(party for party, peer in pairs if not is_vouched(statements[party], peer, keys[peer]))
    return odd or (() if is_agreed(statements, one, other) else (one, other))


def is_agreed(statements: Sequence[Mapping[str, Any]], one: int, other: int) -> bool:
    """Whether two servers say the same of the messages between them."""
    return all(
        statements[sender]["sent"].get(str(receiver)) == statements[receiver]["received"].get(str(sender))
        for sender, receiver in ((one, other), (other, one))
    )
