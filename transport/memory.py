"""A link inside one process, for three threads: the same checks and the same counts, but no sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Condition, Thread

from onnxpuma.errors import PeerLostError
from onnxpuma.transport.inbox import Arrival, Inbox, silence
from onnxpuma.transport.link import PARTIES, Buffer, Link, Tag, Traffic, as_bytes
from onnxpuma.transport.words import encode_words


class MemoryLink(Link):
    """One corner of the triangle that `memory_links` builds. It passes buffers on without a copy."""

    def __init__(self, party: int, timeout: float) -> None:
        self.party = party
        self.traffic = Traffic()
        self.timeout = timeout
        self._others: dict[int, MemoryLink] = {}
        self._inbox = Inbox(party)
        self._arrived = Condition()
        self._gone: set[int] = set()
        self._closed = False

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        views = [as_bytes(b) for b in buffers]
        _, size, header = encode_words(tag, views)
        other = self._others[peer]
        with self._arrived:
            self._inbox.enter(tag.session)
            if peer in self._gone:
                raise _lost(peer)
        self.traffic.count_sent(peer, size, header)
        with other._arrived:
            other._inbox.put(self.party, Arrival(tag, views, header))
            other._arrived.notify()

    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        deadline = time.monotonic() + self.timeout
        with self._arrived:
            while True:
                self._inbox.enter(tag.session)  # raises, if a peer has ended the session meanwhile
                arrival = self._inbox.take(peer, tag)
                if arrival is not None:
                    break
                if peer in self._gone:
                    raise _lost(peer)
                if not self._arrived.wait(deadline - time.monotonic()):
                    raise silence(self.party, peer, tag, self.timeout)
        self.traffic.count_received(peer, arrival.size, arrival.header_bytes)
        return arrival.buffers

    def finish(self, session: bytes) -> None:
        with self._arrived:
            self._inbox.end(session)

    def abort(self, session: bytes, message: str) -> None:
        with self._arrived:
            self._inbox.end(session)
        for other in self._others.values():
            with other._arrived:
                other._inbox.aborted(self.party, session, message)
                other._arrived.notify()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for other in self._others.values():
            with other._arrived:
                other._gone.add(self.party)
                other._arrived.notify()


def _lost(peer: int) -> PeerLostError:
    return PeerLostError(f"party {peer} has closed its link", "its own error, or its log, says why")


def memory_links(timeout: float = 60.0) -> tuple[MemoryLink, MemoryLink, MemoryLink]:
    """Links of parties 0, 1 and 2, one for each thread; `receive` waits `timeout` seconds at most."""
    links = (MemoryLink(0, timeout), MemoryLink(1, timeout), MemoryLink(2, timeout))
    for link in links:
        link._others = {i: links[i] for i in range(PARTIES) if i != link.party}
    return links


def side_by_side(links: Sequence[Link], session: bytes, work: Callable[[int], object]) -> None:
    """Call work(party) for each party, in a thread of its own. An error ends the session for the others;
    raises the first."""
    errors: list[BaseException] = []

    def guarded(party: int) -> None:
        try:
            work(party)
        except BaseException as error:
            errors.append(error)
            links[party].abort(session, str(error))

    threads = [Thread(target=guarded, args=(party,), daemon=True) for party in range(PARTIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
