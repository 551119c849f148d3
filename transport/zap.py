"""Who may connect: the ZeroMQ authentication protocol (ZAP, RFC 27), with one list of public keys per domain.

A listening socket that names a domain asks here before it accepts a connection. A key on the list gets the
name listed with it, which every message of that connection then carries. Any other key is refused, and the
attempt is logged.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from threading import Thread

import zmq
from zmq.utils import z85

from onnxpuma.transport.gate import Bounds, Gate
from onnxpuma.transport.sockets import port_of
from onnxpuma.transport.watch import CROWDED

PEERS = "servers"
CLIENTS = "clients"

_log = logging.getLogger("onnxpuma.transport")


class Doorkeeper:
    """Owns a ZeroMQ context for listening sockets, and answers its questions in a separate thread."""

    def __init__(self, io_threads: int = 1) -> None:
        self.context = zmq.Context(io_threads)
        # The latest connections that were refused: (domain, address, public key). The thread appends to it.
        self.refused: deque[tuple[str, str, str]] = deque(maxlen=100)
        self._names: dict[str, dict[bytes, str]] = {}
        self._gates: dict[str, Gate] = {}
        self._questions = self.context.socket(zmq.REP)
        self._questions.linger = 0
        self._questions.bind("inproc://zeromq.zap.01")
        self._stop, stopped = self.context.socket(zmq.PAIR), self.context.socket(zmq.PAIR)
        self._stop.bind("inproc://doorkeeper.stop")
        stopped.connect("inproc://doorkeeper.stop")
        self._thread = Thread(target=self._serve, args=(stopped,), name="onnxpuma-doorkeeper", daemon=True)
        self._thread.start()

    def allow(self, domain: str, names: Mapping[str, str]) -> None:
        """From now on exactly the public keys in `names` may connect to `domain`; each maps to its name."""
        self._names[domain] = {z85.decode(key): name for key, name in names.items()}

    def watch(
        self,
        domain: str,
        socket: zmq.Socket[bytes],
        bounds: Bounds,
        in_use: Callable[[], set[int]] = set,
    ) -> Gate:
        """Keep the connections of `socket`, which must be bound, within `bounds` until `close`. See Gate."""
        gate = self._gates[domain] = Gate(port_of(socket), bounds, in_use)
        return gate

    def guard(self, socket: zmq.Socket[bytes], domain: str, secret: str) -> None:
        """Make `socket`, before it binds, a CURVE server that admits only the keys allowed in `domain`."""
        socket.curve_server = True
        socket.curve_secretkey = secret.encode()
        socket.zap_domain = domain.encode()
        # Without this option libzmq admits everybody while nobody answers its questions.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def close(self) -> None:
        """Stop watching and answering, and end the context, whose other sockets must be closed already."""
        for gate in self._gates.values():
            gate.close()
        if self._thread.is_alive():
            self._stop.send(b"")
            self._thread.join()
        self._stop.close()
        self.context.term()

    def _serve(self, stopped: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(self._questions, zmq.POLLIN)
        poller.register(stopped, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if stopped in ready:
                break
            if self._questions in ready:
                self._questions.send_multipart(self._answer(self._questions.recv_multipart()))
        self._questions.close()
        stopped.close()

    def _answer(self, question: list[bytes]) -> list[bytes]:
        version, request = question[:2]
        domain, address, _, mechanism = (field.decode(errors="replace") for field in question[2:6])
        credentials = question[6:]
        key = credentials[0] if mechanism == "CURVE" and len(credentials) == 1 else b""
        name = self._names.get(domain, {}).get(key)
        gate = self._gates.get(domain)
        if name is not None and gate is not None and not gate.admits(name):
            _log.warning("%s at %s has too many connections already", name, address)
            why = b"this key has too many connections"
            return [version, request, b"%d" % CROWDED, why, b"", b""]
        if name is not None:
            return [version, request, b"200", b"OK", name.encode(), b""]
        text = z85.encode(key).decode() if len(key) == 32 else f"none ({mechanism})"
        self.refused.append((domain, address, text))
        _log.warning(
            "refused a connection from %s to %s: public key %s is not on the list", address, domain, text
        )
        return [version, request, b"400", b"this public key is not on the list", b"", b""]
