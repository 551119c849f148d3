"""Servers that depart from the program, each in one way. `applied` says that the chance for it has come."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from onnxpuma.errors import RequestTimeoutError
from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.party import Party, U, V
from onnxpuma.mpc.protocols import truncate
from onnxpuma.transport.chained import WrappedLink
from onnxpuma.transport.link import Buffer, Link, Tag, as_bytes

Words = Any


class Honest:
    """A server that does what the program says: the others change one thing of it."""

    completes = True  # the run ends with an answer

    def __init__(self, party: int) -> None:
        self.party, self.applied = party, False

    def link(self, link: Link) -> Link:
        return link

    def link_of_another(self, link: Link) -> Link:
        """The link of a server beside it."""
        return link

    def interpreter(self, weights: Mapping[str, Any]) -> Interpreter:
        return Interpreter(weights)

    @contextmanager
    def active(self) -> Iterator[None]:
        yield


# ---- in what it computes --------------------------------------------------------------------------------


class _Hooked(Interpreter):
    """Calls `before` on the party of each run, and `after` on its shares of the outputs."""

    def __init__(self, weights: Mapping[str, Any], deviation: Computes) -> None:
        super().__init__(weights)
        self._deviation = deviation

    def run(self, plan: Any, party: Party, *rest: Any, **more: Any) -> Any:
        self._deviation.before(party)
        shares, report = super().run(plan, party, *rest, **more)
        return self._deviation.after(plan, party, shares), report


class Computes(Honest):
    def interpreter(self, weights: Mapping[str, Any]) -> Interpreter:
        return _Hooked(weights, self)

    def before(self, party: Party) -> None: ...

    def after(self, plan: Any, party: Party, shares: dict[str, Any]) -> dict[str, Any]:
        return shares


class AddsToATerm(Computes):
    """All its messages are right, and it adds a constant to its term of the output."""

    def after(self, plan: Any, party: Party, shares: dict[str, Any]) -> dict[str, Any]:
        output = next(o for o in plan.opened if not o.verdict)
        term = shares[output.name].as_sum()
        words = term.words + term.words.dtype.type(3 << term.fraction)
        self.applied = True
        return {**shares, output.name: Sum3(party.index, words, term.format)}


class Sends(Computes):
    """Changes the first words that a function, or one that it calls, sends."""

    def __init__(
        self, party: int, function: str, change: Callable[[Words, int], Words], skip: int = 0
    ) -> None:
        super().__init__(party)
        self.function, self.change, self.skip = function, change, skip

    def before(self, party: Party) -> None:
        send = party.send

        def hooked(peer: int, words: Words, bits: int) -> None:
            if not self.applied and words.size and _within(self.function):
                self.skip -= 1
                if self.skip < 0:
                    words, self.applied = self.change(words.copy(), bits), True
            send(peer, words, bits)

        send_by(party, hooked)


def send_by(party: Party, hooked: Callable[[int, Words, int], None]) -> None:
    """Let all that this party sends pass through `hooked`."""

    def tell(pivot: int, words: Words, bits: int) -> None:
        for twin in (U, V):
            hooked(pivot + twin, words, bits)

    party.send = hooked  # type: ignore[method-assign]
    party.tell = tell  # type: ignore[method-assign]


def _within(function: str) -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def one_more(words: Words, bits: int) -> Words:
    """The first word, one unit larger."""
    words.reshape(-1)[0] += 1
    return words


def flipped(words: Words, bits: int) -> Words:
    """One bit of the first word, flipped."""
    words.reshape(-1)[0] ^= 1
    return words


class OtherWeights(Honest):
    """One word of one component of one weight differs."""

    def interpreter(self, weights: Mapping[str, Any]) -> Interpreter:
        name = next(
            n for n, share in weights.items() if isinstance(share, Replicated) and len(share.shape) == 2
        )
        share = weights[name]
        first = share.first.copy()
        first.reshape(-1)[0] += 1 << share.format.fraction
        self.applied = True
        changed = Replicated(share.party, first, share.second, share.format)
        return Interpreter({**weights, name: changed})


class SkipsATruncation(Honest):
    """Takes a product for one that is truncated already, once."""

    @contextmanager
    def active(self) -> Iterator[None]:
        real = truncate.split

        def split(party: Party, z: Any, pivot: int, format: Format) -> Any:
            skipped = party.index == self.party and isinstance(z, Sum3) and z.fraction > format.fraction
            if skipped and not self.applied:
                z, self.applied = Sum3(z.party, z.words, Format(z.bits, format.fraction)), True
            return real(party, z, pivot, format)

        truncate.split = split  # type: ignore[assignment]
        try:
            yield
        finally:
            truncate.split = real


# ---- in what it sends -----------------------------------------------------------------------------------


class _Other(WrappedLink):
    """Sends what the deviation makes of each message."""

    def __init__(self, link: Link, deviation: Relays) -> None:
        super().__init__(link)
        self._deviation = deviation

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        made = self._deviation.made(peer, tag, [as_bytes(buffer) for buffer in buffers])
        if made is not None:
            super().send(peer, *made)


class Relays(Honest, ABC):
    """Changes a message below its own record of what it sent."""

    def __init__(self, party: int) -> None:
        super().__init__(party)
        self.old: list[tuple[int, Tag, list[memoryview]]] = []

    def link(self, link: Link) -> Link:
        return _Other(link, self)

    @abstractmethod
    def made(self, peer: int, tag: Tag, buffers: list[memoryview]) -> tuple[Tag, Sequence[Buffer]] | None:
        """What it sends in place of a message; None: nothing."""


class _Patient(WrappedLink):
    """Gives up a peer only when that one withholds its messages, however slow the machine is."""

    def __init__(self, link: Link, deviation: Withholds) -> None:
        super().__init__(link)
        self._deviation = deviation

    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        while True:
            try:
                return super().receive(peer, tag)
            except RequestTimeoutError:
                if peer == self._deviation.party and self._deviation.applied:
                    raise


class Withholds(Relays):
    """Sends nothing from some message on.

    It, who waits for it, and who waits for either would all give up after the same time: whose error comes
    first would be left to chance. So only who waits for it gives up.
    """

    completes = False

    def link(self, link: Link) -> Link:
        return super().link(_Patient(link, self))

    def link_of_another(self, link: Link) -> Link:
        return _Patient(link, self)

    def made(self, peer: int, tag: Tag, buffers: list[memoryview]) -> tuple[Tag, Sequence[Buffer]] | None:
        self.applied = self.applied or tag.round == 5
        return None if self.applied else (tag, buffers)


class Stale(Relays):
    """Sends the message of an earlier round in place of one, tag and all."""

    completes = False

    def made(self, peer: int, tag: Tag, buffers: list[memoryview]) -> tuple[Tag, Sequence[Buffer]] | None:
        self.old.append((peer, tag, buffers))
        earlier = [one for one in self.old[:-1] if one[0] == peer and one[1].round == tag.round - 1]
        if not self.applied and tag.round >= 4 and earlier:
            self.applied = True
            return earlier[-1][1:]
        return tag, buffers


class LiesToANeighbour(Relays):
    """Tells a neighbour another chain of what it sent than that of what passed."""

    completes = False

    def made(self, peer: int, tag: Tag, buffers: list[memoryview]) -> tuple[Tag, Sequence[Buffer]] | None:
        if tag.label == "receipts" and not self.applied:
            self.applied = True
            return tag, [bytes(32), *buffers[1:]]
        return tag, buffers


class Repeats(Computes):
    """Sends the words of an earlier message again, where a message of the same size is due."""

    def before(self, party: Party) -> None:
        send, old = party.send, dict[tuple[int, Any, int], Words]()

        def hooked(peer: int, words: Words, bits: int) -> None:
            key = (peer % 3, words.shape, bits)
            if not self.applied and key in old and words.size and not np.array_equal(old[key], words):
                words, self.applied = old[key], True
            old.setdefault(key, words)
            send(peer, words, bits)

        send_by(party, hooked)
