"""The link over ZeroMQ: one encrypted connection in each direction between every two servers.

Each server listens with one PULL socket and connects one PUSH socket to each of the two others, so that
ZeroMQ's threads encrypt and decrypt at the same time. The outgoing connection also shows whether its peer is
alive. docs/wire.md describes the frames.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import zmq

from onnxpuma.errors import TransportError
from onnxpuma.transport import sockets, wire, wire_pb2, words
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.hearing import Hearing
from onnxpuma.transport.inbox import Arrival, Inbox, silence
from onnxpuma.transport.line import Line, Peer, incomplete
from onnxpuma.transport.link import Buffer, Link, Tag, Traffic, as_bytes

Control: TypeAlias = wire_pb2.Start | wire_pb2.Ready | wire_pb2.Refuse | wire_pb2.Abort

# ZeroMQ waits sockets.RECONNECT_MILLISECONDS before it makes a broken connection again. Looking more often
# than that sees every break before words could travel on a new connection.
LOOK_SECONDS = sockets.RECONNECT_MILLISECONDS / 1000 / 4

_log = logging.getLogger("onnxpuma.transport")


class PeerLink(Link):
    """The link of server `party` to the two others. It connects in the background; `connect` waits for that.

    Raises ConfigError when `listen` is in use or not an address of this machine.
    """

    def __init__(
        self,
        party: int,
        keys: KeyPair,
        listen: str,  # where the others connect to: "tcp://*:7000"
        peers: Mapping[int, Peer],  # the two others, by party
        *,
        timeout: float = 600.0,  # seconds that `receive` waits
        heartbeat: float = 10.0,  # seconds until a silent peer counts as lost; a dead one is noticed at once
        linger: float = 2.0,  # seconds that `close` waits for unsent messages
        io_threads: int = 1,
        version: str = "",  # the others find this and the digest in their `hello`
        model_digest: bytes = b"",
        components: Mapping[int, bytes] | None = None,  # by party: told to that one alone
        network: wire_pb2.Network | None = None,
    ) -> None:
        self.party = party
        self.traffic = Traffic()
        self.timeout = timeout
        codes = {peer: (components or {}).get(peer, b"") for peer in peers}
        self._introductions = wire.encode_hellos(party, version, model_digest, codes, network)
        self._inbox = Inbox(party)
        self._controls: deque[tuple[int, Control]] = deque()
        self._closed, self._looked = False, 0.0
        self._posted: Tag | None = None  # the latest: the others' next messages mostly have it, too
        self._lines = {i: Line(party, i, place, keys.public) for i, place in sorted(peers.items())}
        others = {party: place.public_key for party, place in peers.items()}
        self._hearing = Hearing(listen, keys, others, heartbeat, io_threads)
        self._out = zmq.Context(io_threads)
        try:
            for line in self._lines.values():
                line.open(self._out, keys, heartbeat, linger)
        except BaseException:
            self.close()
            raise

    # ---- the port -------------------------------------------------------------------------------------

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        self.post(peer, tag, [as_bytes(buffer) for buffer in buffers])

    def post(self, peer: int, tag: Tag, views: Sequence[memoryview]) -> tuple[int, int]:
        """`send`; the bytes of the words and of the header."""
        self.enter(tag.session)
        if time.monotonic() > self._looked + LOOK_SECONDS:
            self._look()
        line, self._posted = self._lines[peer], tag
        frames, size, header = words.encode_words(tag, views)
        # The words of a session all use one connection: after a break, some of them are lost.
        if line.broken_since is not None or not line.push(frames):
            raise line.unreachable()
        self.traffic.count_sent(peer, size, header)
        return size, header

    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        deadline = time.monotonic() + self.timeout
        while (arrival := self.take(peer, tag)) is None:
            if time.monotonic() > deadline:
                raise silence(self.party, peer, tag, self.timeout)
            self.wait(deadline - time.monotonic())
        return arrival.buffers

    def take(self, peer: int, tag: Tag) -> Arrival | None:
        """What `receive` returns, if it has been read; None where `receive` would wait. Raises as it does."""
        self.enter(tag.session)
        arrival = self._inbox.take(peer, tag)
        if arrival is None:
            if not self._lines[peer].mute:
                return None
            self.read()  # its last message may have come
            self._inbox.enter(tag.session)
            arrival = self._inbox.take(peer, tag)
            if arrival is None:
                raise self._lines[peer].unreachable()
        self.traffic.count_received(peer, arrival.size, arrival.header_bytes)
        return arrival

    def enter(self, session: bytes) -> None:
        """Begin a session, unless it is under way; raises the error that ended it, if it has ended."""
        if session not in self._inbox.current:
            # A break before this session does not count against it, but against those that are under way.
            self.read()
            self._look()
            for line in self._lines.values():
                if line.broken_since is not None:
                    self._inbox.end_all(line.unreachable())
            self._inbox.enter(session)
            for line in self._lines.values():
                if line.connected:
                    line.broken_since = None
                elif line.dead() or (line.broken_since is None and not line.left):
                    self._inbox.end(session, line.unreachable())
            self._inbox.enter(session)

    def read(self) -> None:
        """Handle every message that has arrived."""
        while self._handle(self._hearing.next()):
            pass

    def is_due(self, peer: int, session: bytes) -> bool:
        """Whether, as far as `read` has told, `receive` from this peer would not wait."""
        return self._inbox.settled(peer, session) or self._lines[peer].mute

    def finish(self, session: bytes) -> None:
        self._inbox.end(session)

    def abort(self, session: bytes, message: str) -> None:
        self._inbox.end(session)
        frame = wire.encode_peer(wire_pb2.Abort(session=session, message=message))
        for line in self._lines.values():
            line.push([frame])

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.read()  # a peer that has said goodbye by now is sent none
        for line in self._lines.values():
            if line.opened:
                if not line.left:
                    line.push([wire.encode_peer(wire_pb2.Bye())])
                line.close()
        # Let everything go out before the door shuts: a peer that saw it shut before the goodbye arrived
        # would take this for a death.
        self._out.term()
        self._hearing.close()

    # ---- beside the words -----------------------------------------------------------------------------

    @property
    def hello(self) -> dict[int, wire_pb2.Hello]:
        """How each peer introduced itself when it last connected."""
        return {peer: line.hello for peer, line in self._lines.items() if line.hello is not None}

    @property
    def peers(self) -> frozenset[int]:
        """The parties that this link connects to."""
        return frozenset(self._lines)

    @property
    def connected(self) -> frozenset[int]:
        """The peers that are reachable and have introduced themselves, as far as is known now."""
        self.read()
        self._look()
        return frozenset(peer for peer, line in self._lines.items() if not line.missing())

    def unresolved(self, peer: int) -> str:
        """Why the name of this peer's host leads nowhere; empty if it leads somewhere."""
        return self._lines[peer].unresolved()

    def connect(self, timeout: float) -> None:
        """Wait until both peers are connected. Raises AuthenticationError when one refuses our key or does
        not own the key we expect, PeerLostError naming those that are missing after `timeout` seconds,
        TransportError when a peer speaks another version of the wire format."""
        deadline = time.monotonic() + timeout
        while self.connected != self.peers:
            for line in self._lines.values():
                line.check_trust()
            if time.monotonic() > deadline:
                raise incomplete(self._lines.values(), self._hearing.refused, timeout)
            self.wait(deadline - time.monotonic())
        for line in self._lines.values():
            line.check_hello()

    def send_control(self, peer: int, message: Control) -> None:
        """Send a message that belongs to no round; PeerLostError when the peer is not connected."""
        self._look()
        if not self._lines[peer].push([wire.encode_peer(message)]):
            raise self._lines[peer].unreachable()

    def poll_control(self, timeout: float = 0.0) -> tuple[int, Control] | None:
        """The next control message and its sender; None when none arrives within `timeout` seconds. An Abort
        has already taken effect when it is returned. Never raises for a lost peer: see `connected`."""
        deadline = time.monotonic() + timeout
        while True:
            self.read()
            self._look()
            if self._controls:
                return self._controls.popleft()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            self.wait(remaining)

    @property
    def told(self) -> bool:
        """Whether a control message has been read that `poll_control` has not returned yet."""
        return bool(self._controls)

    def waits_on(self) -> list[zmq.Socket[bytes]]:
        """The sockets to poll for reading in order to wait for this link along with other things."""
        return [self._hearing.socket, *(line.watch.monitor for line in self._lines.values())]

    def renew(self, seconds: float) -> bool:
        """Replace connections older than `seconds` by fresh ones, with fresh keys.

        That takes a moment in which nothing is sent. True asks the caller to begin no session until one has
        come: none has come by itself.
        """
        for line in self._lines.values():
            if line.renew(seconds):
                _log.info("a fresh connection to party %d", line.peer)
                line.push([self._introductions[line.peer]])
        return any(line.outdated(seconds) for line in self._lines.values())

    # ---- within ---------------------------------------------------------------------------------------

    def _handle(self, message: tuple[int, list[zmq.Frame]] | None) -> bool:
        """Handle a message that has arrived; False when there is none."""
        if message is None:
            return False
        peer, frames = message
        line = self._lines[peer]
        line.heard = time.monotonic()
        try:
            self._sort(line, frames)
        except TransportError as error:
            _log.warning("party %d: %s", line.peer, error.message)
            self._inbox.end_all(error)
        return True

    def _sort(self, line: Line, frames: list[zmq.Frame]) -> None:
        first = frames[0].bytes
        if words.carries_words(first):
            rest = [frame.buffer for frame in frames[1:]]
            arrived = words.decode_words(first, rest, self._posted)
            self._inbox.put(line.peer, Arrival(*arrived))
            return
        message = wire.decode_peer(first)
        kind = message.WhichOneof("body")
        # an introduction, say: tell the gate whose connection this is
        self._hearing.introduced(line.peer, frames)
        if kind == "hello":
            if line.hello is not None and line.hello.instance != message.hello.instance:
                self._inbox.forget(line.peer)  # its process was started again
            line.hello = message.hello
            line.left = False
        elif kind == "bye":
            line.left = True
        else:
            if kind == "abort":
                self._inbox.aborted(line.peer, message.abort.session, message.abort.message)
            self._controls.append((line.peer, getattr(message, str(kind))))

    def _look(self) -> None:
        """Record which connections were made and which were lost."""
        self._looked = time.monotonic()
        for line in self._lines.values():
            if line.update():
                _log.info("connected to party %d at %s", line.peer, line.place.address)
                line.push([self._introductions[line.peer]])
            if line.dead():
                self._inbox.lost(line.peer, line.mourn())

    def wait(self, seconds: float) -> None:
        """Handle the next message: sleep until it comes, `seconds` at most and not long. Then look about."""
        if not self._handle(self._hearing.next(seconds)) or time.monotonic() > self._looked + LOOK_SECONDS:
            self._look()
