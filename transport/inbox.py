"""What has arrived from each peer, in order, and what is known about the current session.

The one place that decides whether a message is the one that is waited for, is left over from a session that
ended, or shows that two parties have drifted apart. Every link has one.
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
    """Messages that arrived and were not yet asked for, of the party `party`."""

    def __init__(self, party: int) -> None:
        self.party = party
        self.session = b""
        self._arrivals: list[deque[Arrival]] = [deque() for _ in range(PARTIES)]
        self._ended: OrderedDict[bytes, TransportError | None] = OrderedDict()

    def enter(self, session: bytes) -> None:
        """Make `session` the current one; raise what ended it, if something did."""
        if session != self.session:
            if self.session:
                self.end(self.session)
            self.session = session
        if session in self._ended:
            why = self._ended[session] or RemoteError(
                f"session {session.hex()[:8]} is over", "a session id is used once: begin a new session"
            )
            raise type(why)(why.message, why.hint)

    def end(self, session: bytes, why: TransportError | None = None) -> None:
        """Drop what is left of `session` and what still comes; the first reason given is kept."""
        if self._ended.get(session) is None:
            self._ended[session] = why
        while len(self._ended) > REMEMBERED_SESSIONS:
            self._ended.popitem(last=False)
        self._arrivals = [deque(a for a in queue if a.tag.session != session) for queue in self._arrivals]

    def aborted(self, peer: int, session: bytes, message: str) -> None:
        """`peer` says that `session` is over."""
        self.end(session, RemoteError(message, f"party {peer} ended the session; its log says more"))

    def lost(self, peer: int, message: str) -> None:
        """`peer` is gone: the current session cannot be completed."""
        if self.session:
            hint = f"see that server {peer} runs and can be reached, then send the request again"
            self.end(self.session, PeerLostError(message, hint))

    def put(self, peer: int, arrival: Arrival) -> None:
        """Keep a message until it is asked for, unless its session has ended. TransportError when there are
        more than a peer in lockstep can be ahead."""
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
            "the servers hold different plans or different versions of onnxpuma; compare their digests",
        )
