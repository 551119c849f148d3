"""A link that keeps a digest of every message, so that its two ends can prove later what passed between them.

A message's digest covers its tag and its buffers; the chain of one direction covers the digests in their
order, under a key of the two ends. Whoever lacks that key can test no guess of the messages against a chain.
BLAKE3 is several times faster than SHA-256 and BLAKE2b on processors without instructions for SHA. A thread
of its own digests long messages, beside the run. Short ones wait until there are many: code that runs a
hundred times on end costs a fraction of what it costs once between other things.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from onnxpuma.transport.link import Buffer, Link, Tag, Traffic, as_bytes
from onnxpuma.transport.words import header_of

CHAIN_BYTES = 32
LONG = 1 << 16  # bytes of a message from which handing it to the thread costs less than its digest
SHORT = 1 << 12  # bytes of a message below which it waits for others
MOST_WAITING = 1 << 17  # bytes of short messages that wait in one direction
_THREAD = ThreadPoolExecutor(1, "onnxpuma-digests")


@dataclass
class Passed:
    """What passed from one party to another: the digest of each message, in order."""

    _taken: list[bytes | Future[bytes]] = field(default_factory=list, repr=False)
    _waiting: list[bytes] = field(default_factory=list, repr=False)  # the short messages after those
    _bytes: int = 0  # of these

    def take(self, tag: Tag, views: Sequence[memoryview]) -> None:
        """Add a message, whose buffers nobody changes any more."""
        sizes = [len(view) for view in views]
        total = sum(sizes)
        if total < SHORT:
            message = b"".join((header_of(tag, sizes), *views))
            self._waiting.append(message)
            self._bytes += len(message)
            if self._bytes > MOST_WAITING:
                self._settle()
            return
        self._settle()
        if total < LONG:
            self._taken.append(message_digest(tag, views))
        else:
            self._taken.append(_THREAD.submit(message_digest, tag, views))

    def _settle(self) -> None:
        """Digest the messages that wait."""
        self._taken.extend([blake3(message).digest() for message in self._waiting])
        self._waiting.clear()
        self._bytes = 0

    @property
    def digests(self) -> list[bytes]:
        """Waits for those that are not there yet."""
        self._settle()
        return [one.result() if isinstance(one, Future) else one for one in self._taken]

    def chain(self, key: bytes) -> bytes:
        """The chain, as `chain_of` these digests."""
        return chain_of(self.digests, key)


def chain_of(digests: Sequence[bytes], key: bytes) -> bytes:
    """The chain of these messages, CHAIN_BYTES long. key: 32 bytes that the two ends alone know."""
    return blake3(b"".join(digests), key=key).digest()


def message_digest(tag: Tag, views: Sequence[memoryview]) -> bytes:
    """A digest over the tag and the buffers of one message, CHAIN_BYTES long."""
    total = blake3(header_of(tag, [len(view) for view in views]))
    for view in views:
        total.update(view)
    return total.digest()


class WrappedLink(Link):
    """A link that passes everything on to another one."""

    def __init__(self, link: Link) -> None:
        self.inner = link
        self.party = link.party

    @property
    def traffic(self) -> Traffic:  # type: ignore[override]
        return self.inner.traffic

    @property
    def timeout(self) -> float:  # type: ignore[override]
        return self.inner.timeout

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        self.inner.send(peer, tag, buffers)

    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        return self.inner.receive(peer, tag)

    def finish(self, session: bytes) -> None:
        self.inner.finish(session)

    def abort(self, session: bytes, message: str) -> None:
        self.inner.abort(session, message)

    def close(self) -> None:
        self.inner.close()


class ChainedLink(WrappedLink):
    """`link`, with a record of what passed through it since this object was made."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.sent: dict[int, Passed] = defaultdict(Passed)  # by peer
        self.received: dict[int, Passed] = defaultdict(Passed)

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        views = [as_bytes(buffer) for buffer in buffers]
        try:
            self.inner.send(peer, tag, views)
        finally:  # it may have left: a receiver never has more than its sender owns up to
            self.sent[peer].take(tag, views)

    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        buffers = self.inner.receive(peer, tag)
        self.received[peer].take(tag, buffers)
        return buffers
