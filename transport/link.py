"""The port through which the protocols talk: one party's link to the two others.

A link carries words and knows nothing about them. It promises four things: bytes arrive whole, once, in
step, and from the party that is named. Rings, shares and rounds are its callers' business.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from onnxpuma.errors import ProtocolError, plain_text

PARTIES = 3
SESSION_BYTES = 16
PLACE = struct.Struct(f"<IIII{SESSION_BYTES}s")  # zero, bytes of the label, step, round, session

LinkT = TypeVar("LinkT", bound="Link")
Buffer: TypeAlias = "bytes | bytearray | memoryview | np.ndarray[Any, Any]"


@dataclass(frozen=True, slots=True)
class Tag:
    """Where a message belongs; the receiver compares it with its own place before it reads a word.

    Raises ProtocolError when the session has another length.
    """

    session: bytes  # SESSION_BYTES random bytes, used for one run
    step: int  # index of the plan step
    round: int  # number of the exchange within the session
    label: str  # operator and node name: compared too, and shown in error messages
    place: bytes = field(init=False, repr=False, compare=False)  # all of it, as messages begin with it

    def __post_init__(self) -> None:
        if len(self.session) != SESSION_BYTES:  # `pack` would pad or cut it
            raise ProtocolError(
                f"a session id has {len(self.session)} bytes, not {SESSION_BYTES}", "draw it by os.urandom"
            )
        label = self.label.encode()
        head = PLACE.pack(0, len(label), self.step, self.round, self.session)
        object.__setattr__(self, "place", head + label + bytes(-(len(label) + 4) % 8))

    def __str__(self) -> str:
        return f"step {self.step}, round {self.round} ({plain_text(self.label) or 'no label'})"


@dataclass(slots=True)
class PeerTraffic:
    """What went to and came from one peer. Payload is the words alone; bytes are payload and headers."""

    payload_sent: int = 0
    bytes_sent: int = 0
    messages_sent: int = 0
    payload_received: int = 0
    bytes_received: int = 0
    messages_received: int = 0


def _zeros() -> tuple[PeerTraffic, ...]:
    return tuple(PeerTraffic() for _ in range(PARTIES))


@dataclass(slots=True)
class Traffic:
    """Counts of one link, by peer (`peers[i]`) and summed over the peers.

    Every link counts the same numbers for the same calls. The overhead of encryption and TCP (some 40 bytes a
    frame) is not included.
    """

    peers: tuple[PeerTraffic, ...] = field(default_factory=_zeros)

    @property
    def payload_sent(self) -> int:
        """Bytes of words sent, without headers: a protocol's declared cost predicts this number."""
        return sum(p.payload_sent for p in self.peers)

    @property
    def bytes_sent(self) -> int:
        """Bytes handed to the socket: words and headers."""
        return sum(p.bytes_sent for p in self.peers)

    @property
    def messages_sent(self) -> int:
        return sum(p.messages_sent for p in self.peers)

    @property
    def payload_received(self) -> int:
        return sum(p.payload_received for p in self.peers)

    @property
    def bytes_received(self) -> int:
        return sum(p.bytes_received for p in self.peers)

    @property
    def messages_received(self) -> int:
        return sum(p.messages_received for p in self.peers)

    def count_sent(self, peer: int, payload: int, header: int) -> None:
        """Add one sent message of `payload` + `header` bytes."""
        row = self.peers[peer]
        row.payload_sent += payload
        row.bytes_sent += payload + header
        row.messages_sent += 1

    def count_received(self, peer: int, payload: int, header: int) -> None:
        """Add one received message of `payload` + `header` bytes."""
        row = self.peers[peer]
        row.payload_received += payload
        row.bytes_received += payload + header
        row.messages_received += 1

    def copy(self) -> Traffic:
        """A snapshot of the counts."""
        return self - Traffic()

    def __sub__(self, earlier: Traffic) -> Traffic:
        """The counts since `earlier`, a `copy()` of the same counts."""
        names = PeerTraffic.__slots__
        return Traffic(
            tuple(
                PeerTraffic(*(getattr(now, n) - getattr(then, n) for n in names))
                for now, then in zip(self.peers, earlier.peers, strict=True)
            )
        )


class Link(ABC):
    """One party's connections to the two others. Used by one thread at a time."""

    party: int
    traffic: Traffic
    timeout: float  # seconds that `receive` waits; may be changed at any time

    @abstractmethod
    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        """Queue one message of several raw buffers for `peer` and return at once.

        Buffers are C-contiguous and are not copied: the caller must not modify them afterwards.

        Raises ProtocolError for a buffer that is not C-contiguous, PeerLostError when the peer is known to
        be gone, RemoteError when another party has aborted this session.
        """

    @abstractmethod
    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        """Block for the next message of `peer`; its buffers as read-only views of bytes, one for each sent.

        A session begins when `send` or `receive` first names it. Several may be under way; messages of
        one wait for it and are not seen by the others.

        Raises LockstepError when the message's tag is not `tag` (it names both places), PeerLostError when
        a party died or is stuck, RemoteError when another party aborted this session, RequestTimeoutError
        when nothing arrived within `timeout`.
        """

    @abstractmethod
    def finish(self, session: bytes) -> None:
        """End `session` here: it is done. Its messages are dropped, however late they arrive."""

    @abstractmethod
    def abort(self, session: bytes, message: str) -> None:
        """End `session` here and at both peers, where `send` and `receive` then raise RemoteError(message).

        Never raises for a peer that is gone: there is nobody left to tell.
        """

    @abstractmethod
    def close(self) -> None:
        """Say goodbye and release everything; a peer that still waits for this party gets PeerLostError."""

    def __enter__(self: LinkT) -> LinkT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_bytes(buffer: Buffer) -> memoryview:
    """A read-only view of the bytes of `buffer`, without a copy.

    Raises ProtocolError when the buffer is not C-contiguous.
    """
    view = buffer if type(buffer) is memoryview else memoryview(cast(Any, buffer))
    if view.readonly and view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    if not view.c_contiguous:
        raise ProtocolError(
            f"cannot send a buffer of shape {view.shape}: it is not C-contiguous",
            "pass it through np.ascontiguousarray",
        )
    if view.nbytes == 0:
        return memoryview(b"")
    return view.cast("B").toreadonly()
