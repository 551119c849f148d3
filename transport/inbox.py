"""The messages that arrived from each peer, in order, and the state of the current session.

Every link has one inbox. It alone decides whether a message is the one expected, is left over from a session
that ended, or shows that two parties have drifted apart.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from onnxpuma.errors import LockstepError, PeerLostError, RemoteError, TransportError
from onnxpuma.transport.link import PARTIES, Tag

REMEMBERED_SESSIONS = 4096
MOST_AHEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of words: its tag, its buffers, and the bytes of its header."""

    tag: Tag
    buffers: list[memoryview]
    header_bytes: int


class Inbox:
    """Messages that arrived at `party` and that it has not asked for yet."""

    def __init__(self, party: int) -> None:
        self.party = party
        self.session = b""
        self._arrivals: list[deque[Arrival]] = [deque() for _ in range(PARTIES)]
        self._ended: OrderedDict[bytes, TransportError | None] = OrderedDict()

    def enter(self, session: bytes) -> None:
        """Make `session` the current one; raise the error that ended it, if it has ended."""
        if session != self.session:
            if self.session:
                self.end(self.session)  # its messages are dropped, however late they come
            self.session = session
        if session in self._ended:
            why = self._ended[session] or RemoteError(
                f"session {session.hex()[:8]} is over", "a session id is used once: start a new session"
            )
            raise type(why)(why.message, why.hint)

    def end(self, session: bytes, why: TransportError | None = None) -> None:
        """Drop the messages of `session`, now and from here on; the first `why` given is kept."""
        if self._ended.get(session) is None:
            self._ended[session] = why
        while len(self._ended) > REMEMBERED_SESSIONS:
            self._ended.popitem(last=False)
        self._arrivals = [deque(a for a in queue if a.tag.session != session) for queue in self._arrivals]

    def aborted(self, peer: int, session: bytes, message: str) -> None:
        """Note that `peer` has ended `session`."""
        self.end(session, RemoteError(message, f"party {peer} ended the session; its log says more"))

    def lost(self, peer: int, message: str) -> None:
        """Note that `peer` is gone: the current session cannot be completed."""
        if self.session:
            hint = f"check that server {peer} is running and reachable, then send the request again"
            self.end(self.session, PeerLostError(message, hint))

    def forget(self, peer: int) -> None:
        """Drop all messages of `peer` that nobody has asked for: the process that sent them is gone."""
        self._arrivals[peer].clear()

    def put(self, peer: int, arrival: Arrival) -> None:
        """Keep a message until it is asked for, unless its session has ended.

        Raises TransportError when `peer` has sent more messages ahead than a party in lockstep can.
        """
        if arrival.tag.session in self._ended:
            return
        if len(self._arrivals[peer]) >= MOST_AHEAD:
            raise TransportError(
                f"party {peer} has sent {MOST_AHEAD} messages that nobody has asked for",
                "all three servers must run the same version of onnxpuma",
            )
        self._arrivals[peer].append(arrival)

    def take(self, peer: int, tag: Tag) -> Arrival | None:
        """The next message of `peer`, or None; LockstepError when it is not the one that `tag` names."""
        queue = self._arrivals[peer]
        if not queue:
            return None
        arrival = queue.popleft()
        if arrival.tag != tag:
            raise self._drifted(peer, arrival.tag, tag)
        return arrival

    def _drifted(self, peer: int, theirs: Tag, ours: Tag) -> LockstepError:
        sessions = ""
        if theirs.session != ours.session:
            self.end(theirs.session)
            sessions = f" of session {theirs.session.hex()[:8]} (here: session {ours.session.hex()[:8]})"
        return LockstepError(
            f"party {peer} sent {theirs}{sessions}, party {self.party} is at {ours}",
            "the servers have different plans or different versions of onnxpuma; compare their digests",
        )
