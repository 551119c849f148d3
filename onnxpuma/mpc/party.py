"""One party in lockstep with two others: a protocol is a generator that yields once a round.

Between two yields a protocol computes, queues messages (`send`) and announces those that it expects
(`expect`); the yield is the exchange. Protocols that run side by side (`parallel`) share their rounds, and
the messages of one round from one party to another travel together. All three parties run the same code, and
draw from a common PRF key in the same order between the same two yields.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

import numpy as np

from onnxpuma.errors import ProtocolError
from onnxpuma.mpc import ring
from onnxpuma.mpc.buffers import apart, bytes_of, together
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.mpc.ring.arrays import nothing
from onnxpuma.mpc.ring.places import Places
from onnxpuma.mpc.ring.words import WIDEST, Words
from onnxpuma.transport.link import Link, Tag

T = TypeVar("T")
Protocol: TypeAlias = Generator[None, None, T]

PIVOT, U, V = 0, 1, 2  # the pivot p and its twins, u = p + 1 and v = p + 2


class Later:
    """Words that arrive with the exchange that ends the current round.

    A party that already holds the words creates an `early` one. It counts as pending there as well, so that
    all three parties agree on the round of a value.
    """

    __slots__ = ("_make", "_round", "_value", "party", "shape")

    def __init__(
        self,
        party: Party,
        shape: tuple[int, ...],
        make: Callable[[], Words] | None,
        arrival: int | None = None,
        value: Words | None = None,
    ) -> None:
        self.party = party
        self.shape = shape
        self._make = make
        self._round = party.round if arrival is None else arrival
        self._value = value

    @classmethod
    def early(cls, party: Party, words: Words) -> Later:
        """Words that this party holds, of a value whose other words are on their way to the other parties."""
        return cls(party, words.shape, None, None, words)

    @property
    def pending(self) -> bool:
        """Still on its way to one of the parties. All three get the same answer."""
        return self.party.round <= self._round

    @property
    def readable(self) -> bool:
        """Whether this party may take the words now."""
        return self._value is not None or not self.pending

    @property
    def arrival(self) -> int:
        """The round whose exchange brings these words."""
        return self._round

    def take(self) -> Words:
        if self._value is None:
            if self.pending or self._make is None:
                raise ProtocolError(
                    "words were read in the round in which they are sent", "yield once before reading them"
                )
            self._value = self._make()
            self._make = None
        return self._value


Maybe: TypeAlias = "Words | Later"


def taken(words: Maybe) -> Words:
    """The words, which must have arrived."""
    return words.take() if isinstance(words, Later) else words


def lazily(function: Callable[..., Words], *words: Maybe, shape: tuple[int, ...] | None = None) -> Maybe:
    """A local function of words that may still be on their way: evaluated now, or when they have arrived.

    shape: of the result, where the caller knows it; otherwise a trial on zeros finds it.
    """
    for word in words:
        if isinstance(word, Later):
            break
    else:
        return function(*words)
    late = [w for w in words if isinstance(w, Later) and w.pending]
    if not late:
        return function(*[taken(w) for w in words])
    arrival = max([w.arrival for w in late])
    if all(w.readable for w in late):
        value = function(*[taken(w) for w in words])
        return Later(late[0].party, value.shape, None, arrival, value)
    if shape is None:
        shape = function(*(nothing(w.shape, WIDEST) for w in words)).shape
    return Later(late[0].party, shape, lambda: function(*(taken(w) for w in words)), arrival)


class Arriving:
    """Buffers that a peer sends in one round, one after the other."""

    __slots__ = ("_buffers", "_party", "_peer", "sizes")

    def __init__(self, party: Party, peer: int, sizes: tuple[int, ...]) -> None:
        self._party, self._peer, self.sizes = party, peer, sizes
        self._buffers: list[Any] | None = None

    @property
    def there(self) -> bool:
        return self._buffers is not None

    def bring(self, buffers: list[Any]) -> None:
        self._buffers = buffers

    def take(self) -> list[Any]:
        """The buffers, once: bytes of these sizes."""
        if self._buffers is None:
            self._party._fetch(self._peer, self)
        buffers, self._buffers = self._buffers, None
        assert buffers is not None
        return buffers


class Party:
    """One party, as a protocol uses it: its index, its PRF keys, and its messages to and from the others."""

    def __init__(
        self,
        link: Link,
        keys: PartyKeys,
        session: bytes = bytes(16),
        on_round: Callable[[], None] | None = None,
    ) -> None:
        self.index = link.party
        self.link = link
        self.keys = keys
        self.session = session
        self.round = 0
        self.step = 0
        self.label = ""
        self.queued = 0  # bytes of the words of all rounds, the open one included
        self.waited = 0.0  # seconds spent in receiving, most of them in wait
        self.reading: Any = None  # the weights that this run streams, read ahead (forms/reading.py)
        self._outgoing: dict[int, list[Any]] = {}
        self._expected: dict[int, list[Arriving]] = {}  # in the open round, by peer
        # messages that are not read yet, by peer: their tags, and what each brings
        self._announced: dict[int, deque[tuple[Tag, list[Arriving]]]] = {
            p: deque() for p in range(3) if p != self.index
        }
        self.turn = 0  # the last pivot in turn
        self._on_round = on_round

    def role(self, pivot: int) -> int:
        """PIVOT, U or V: this party's place in a protocol led by `pivot`."""
        return (self.index - pivot) % 3

    def next_pivot(self) -> int:
        """The next pivot in turn, the same at all three parties."""
        self.turn = (self.turn + 1) % 3
        return self.turn

    def draw(self, key: int, shape: tuple[int, ...], bits: int) -> Words:
        """The next PRF words under K_key (key mod 3), which its two holders derive alike."""
        return self.keys.draw(key % 3, shape, bits)

    def draw_all(self, key: int, places: Places) -> None:
        """Overwrite arrays with what a draw of each would yield, one after the other."""
        self.keys.draw_all(key % 3, places)

    def alone(self, draw: Callable[[], Words]) -> Words:
        """Words that this party draws anew in each run, from no key: nobody replays them (mpc/replay/)."""
        return draw()

    def draw_planes(self, key: int, planes: int, elements: int) -> Words:
        """The next PRF bits under K_key, eight elements a byte: (planes, ceil(elements / 8))."""
        return self.keys.draw(key % 3, (planes, -(-elements // 8)), 8)

    def send(self, peer: int, words: Words, bits: int) -> None:
        """Queue words of Z_2^bits for the exchange that ends this round. The caller must not change them."""
        packed = ring.pack(words, bits)
        self.queued += packed.nbytes
        self._outgoing.setdefault(peer % 3, []).append(packed)

    def tell(self, pivot: int, words: Words, bits: int) -> None:
        """`send` to both twins of the pivot, which this party is."""
        packed = ring.pack(words, bits)
        for twin in (U, V):
            self.queued += packed.nbytes
            self._outgoing.setdefault((pivot + twin) % 3, []).append(packed)

    def send_all(self, peer: int, packed: bytes, sizes: Sequence[int]) -> None:
        """`send` words that are packed already: buffers of these sizes, which lie one after the other."""
        self.queued += len(packed)
        view, first, buffers = memoryview(packed), 0, self._outgoing.setdefault(peer % 3, [])
        for size in sizes:
            buffers.append(view[first : first + size])
            first += size

    def expect(self, peer: int, shape: tuple[int, ...], bits: int) -> Later:
        """Announce words of Z_2^bits that `peer` sends in this round."""
        arriving = self.expect_all(peer, (bytes_of(shape, bits),))
        return Later(self, shape, lambda: ring.unpack(arriving.take()[0], bits, shape))

    def expect_all(self, peer: int, sizes: tuple[int, ...]) -> Arriving:
        """Announce buffers that `peer` sends in this round one after the other, of so many bytes each."""
        peer %= 3
        arriving = Arriving(self, peer, sizes)
        self._expected.setdefault(peer, []).append(arriving)
        return arriving

    def run(self, protocol: Protocol[T]) -> T:
        """Run one protocol to its end, with an exchange at every yield."""
        try:
            with np.errstate(over="ignore"):  # words wrap; numpy warns if one stands alone
                while True:
                    next(protocol)
                    self.exchange()
        except StopIteration as stop:
            if self._outgoing or self._expected:
                raise ProtocolError(
                    "a protocol ended with words not yet exchanged", "yield after the last send"
                ) from None
            result: T = stop.value
            return result

    def exchange(self) -> None:
        """End the round: send the queued messages. The announced ones can be read from now on."""
        tag = Tag(self.session, self.step, self.round, self.label)
        for peer, slots in self._expected.items():
            self._announced[peer].append((tag, slots))
        self._expected = {}
        for peer, buffers in self._outgoing.items():
            self.link.send(peer, tag, together(buffers))
        self._outgoing = {}
        self.round += 1
        if self._on_round is not None:
            self._on_round()

    def _fetch(self, peer: int, wanted: Arriving) -> None:
        """Receive from the peer, round by round, until the wanted buffers have arrived."""
        announced = self._announced[peer]
        while not wanted.there:
            tag, due = announced[0]
            began = perf_counter()
            buffers = self.link.receive(peer, tag)
            self.waited += perf_counter() - began
            announced.popleft()
            parts = apart(buffers, [one.sizes for one in due])
            if parts is None:
                raise ProtocolError(
                    f"party {peer} sent {sum(map(len, buffers))} bytes in round {tag.round},"
                    f" {sum([sum(one.sizes) for one in due])} were announced",
                    "the three parties must run the same version with the same plan",
                )
            for one, its in zip(due, parts, strict=True):
                one.bring(its)


def parallel(protocols: Iterable[Protocol[T]]) -> Protocol[list[T]]:
    """Run protocols side by side: their rounds coincide, their messages travel together."""
    running = list(enumerate(protocols))
    if len(running) == 1:
        return [(yield from running[0][1])]
    results: list[T] = [None] * len(running)  # type: ignore[list-item]
    while running:
        going = []
        for one in running:
            try:
                next(one[1])
            except StopIteration as stop:
                results[one[0]] = stop.value
            else:
                going.append(one)
        running = going
        if running:
            yield
    return results
