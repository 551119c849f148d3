"""The messages that arrived from each peer, in order, and the state of the sessions that are under way.

Every link has one inbox. It alone decides whether a message is the one expected, belongs to another session,
is left over from one that ended, or shows that two parties have drifted apart.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from onnxpuma.errors import (
    LockstepError,
    PeerLostError,
    RemoteError,
    RequestTimeoutError,
    TransportError,
)
from onnxpuma.transport.link import PARTIES, Tag

REMEMBERED_SESSIONS = 4096
MOST_AHEAD = 1 << 16


class Arrival(NamedTuple):
    """One message of words: its tag, its buffers, and the bytes of its header."""

    tag: Tag
    buffers: list[memoryview]
    header_bytes: int

    @property
    def size(self) -> int:
        """Bytes of its words."""
        return sum([len(buffer) for buffer in self.buffers])


class Inbox:
    """Messages that arrived at `party` and that it has not asked for yet."""

    def __init__(self, party: int) -> None:
        self.party = party
        self.current: set[bytes] = set()  # the sessions that this party has entered and that have not ended
        self._arrivals: dict[bytes, list[deque[Arrival]]] = {}  # by session and peer
        self._ahead = [0] * PARTIES  # messages of each peer in all sessions
        self._ended: OrderedDict[bytes, TransportError | None] = OrderedDict()

    def enter(self, session: bytes) -> None:
        """Make `session` one of the current ones; raise the error that ended it, if it has ended."""
        if session in self._ended:
            why = self._ended[session] or RemoteError(
                f"session {session.hex()[:8]} is over", "a session id is used once: start a new session"
            )
            raise type(why)(why.message, why.hint)
        self.current.add(session)

    def end(self, session: bytes, why: TransportError | None = None) -> None:
        """Drop the messages of `session`, now and from here on; the first `why` given is kept."""
        if self._ended.get(session) is None:
            self._ended[session] = why
        while len(self._ended) > REMEMBERED_SESSIONS:
            self._ended.popitem(last=False)
        self.current.discard(session)
        for peer, queue in enumerate(self._arrivals.pop(session, [])):
            self._ahead[peer] -= len(queue)

    def end_all(self, why: TransportError) -> None:
        """End every current session."""
        for session in list(self.current):
            self.end(session, why)

    def aborted(self, peer: int, session: bytes, message: str) -> None:
        """Note that `peer` has ended `session`."""
        self.end(session, RemoteError(message, f"party {peer} ended the session; its log says more"))

    def lost(self, peer: int, message: str) -> None:
        """Note that `peer` is gone: no current session can be completed."""
        hint = f"check that server {peer} is running and reachable, then send the request again"
        self.end_all(PeerLostError(message, hint))

    def forget(self, peer: int) -> None:
        """Drop all messages of `peer` that nobody has asked for: the process that sent them is gone."""
        for queues in self._arrivals.values():
            queues[peer].clear()
        self._ahead[peer] = 0

    def put(self, peer: int, arrival: Arrival) -> None:
        """Keep a message until it is asked for, unless its session has ended.

        Raises TransportError when `peer` has sent more messages ahead than a party in lockstep can.
        """
        session = arrival.tag.session
        if session in self._ended:
            return
        if self._ahead[peer] >= MOST_AHEAD:
            raise TransportError(
                f"party {peer} has sent {MOST_AHEAD} messages that nobody has asked for",
                "all three servers must run the same version of onnxpuma",
            )
        queues = self._arrivals.get(session)
        if queues is None:
            queues = self._arrivals[session] = [deque() for _ in range(PARTIES)]
        queues[peer].append(arrival)
        self._ahead[peer] += 1

    def settled(self, peer: int, session: bytes) -> bool:
        """Whether there is nothing to wait for: a message of `peer` is there, or the session has ended."""
        queues = self._arrivals.get(session)
        return bool(queues and queues[peer]) or session in self._ended

    def take(self, peer: int, tag: Tag) -> Arrival | None:
        """The next message of `peer` in the session of `tag`, or None; LockstepError when it is not the one
        that `tag` names."""
        queues = self._arrivals.get(tag.session)
        if not queues or not queues[peer]:
            return None
        arrival = queues[peer].popleft()
        self._ahead[peer] -= 1
        if arrival.tag.place != tag.place:
            raise LockstepError(
                f"party {peer} sent {arrival.tag}, party {self.party} is at {tag}",
                "the servers have different plans or different versions of onnxpuma; compare their digests",
            )
        return arrival


def silence(party: int, peer: int, tag: Tag, seconds: float) -> RequestTimeoutError:
    """The error of `party`, at `tag`, for a peer that has sent nothing for so many seconds."""
    return RequestTimeoutError(
        f"party {peer} sent nothing in {seconds:g} s; party {party} is at {tag}",
        "one party computes for longer than the request timeout, or it is stuck",
    )
