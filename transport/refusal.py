"""A server that cannot start tells the others why, so that they do not wait for it without an explanation.

Its message is a Refuse without a session. The server connects for this purpose alone and does not listen: its
own port may be the reason why it cannot start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Event

import zmq

from onnxpuma.transport import wire, wire_pb2
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.line import Line, Peer
from onnxpuma.transport.link import SESSION_BYTES

NO_SESSION = bytes(SESSION_BYTES)
LINGER_SECONDS = 1.0
LOOK_SECONDS = 0.05


def tell_refusal(
    party: int,
    keys: KeyPair,
    peers: Mapping[int, Peer],
    failure: wire_pb2.Failure,
    *,
    seconds: float,
    heartbeat: float,
    stop: Event,
) -> frozenset[int]:
    """Tell `peers` that server `party` does not start, and why; return those that could be told.

    Waits `seconds` at most for peers that cannot be reached, and ends when `stop` is set.
    """
    frame = wire.encode_peer(wire_pb2.Refuse(session=NO_SESSION, failure=failure))
    deadline = time.monotonic() + seconds
    lines = [Line(party, peer, place, keys.public) for peer, place in sorted(peers.items())]
    told: set[int] = set()
    with zmq.Context() as context:
        try:
            for line in lines:
                line.open(context, keys, heartbeat, LINGER_SECONDS)
            while len(told) < len(lines) and time.monotonic() < deadline and not stop.wait(LOOK_SECONDS):
                for line in lines:
                    line.update()
                    if line.peer not in told and line.push([frame]):
                        told.add(line.peer)
        finally:
            for line in lines:
                if line.opened:
                    line.close()
    return frozenset(told)
