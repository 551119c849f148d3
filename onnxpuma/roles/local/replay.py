"""A run as a function: every message that three servers sent each other, computed again in memory.

The shares of the weights, the request with the buffers of each server, the randomness that each server
contributed, and the plan determine every message, bit for bit, on any machine and kernel. So a run can be
repeated, and whoever sent something else departed from the program.

Whoever can replay a run sees every value in it: this is for the owner of the model, on inputs of his own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from onnxpuma.errors import LockstepError
from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.forms import Sum3
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.mpc.sharing import outgoing
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.request.message import Asked, received
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.opening import LABEL, Side, open_session
from onnxpuma.roles.server.receipt import chain_key
from onnxpuma.roles.server.store import KeptShares
from onnxpuma.transport.chained import Passed, WrappedLink
from onnxpuma.transport.link import PARTIES, Buffer, Link, Tag, Traffic, as_bytes
from onnxpuma.transport.memory import memory_links
from onnxpuma.transport.request import Request

Way = tuple[int, int]  # sender, receiver


class Message(NamedTuple):
    """One message of words."""

    tag: Tag
    buffers: tuple[memoryview, ...]


@dataclass(frozen=True)
class Recorded:
    """What determines a run, besides the plan and the weights: of all three parties, by party."""

    session: bytes
    requests: tuple[Request, Request, Request] = field(repr=False)  # as each received it
    asked: Asked = field(repr=False)
    coins: tuple[bytes, bytes, bytes] = field(repr=False)
    # For the keys that it shares with the party before it and the party after it.
    parts: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    identities: tuple[str, str, str]  # their public keys
    client_key: str  # public
    held: tuple[Mapping[str, KeptShares], ...] = field(
        default=({}, {}, {}), repr=False
    )  # kept values it takes
    label: str = LABEL  # of the opening

    def job(self, party: int, plan: Plan) -> Job:
        """The job as `party` had it."""
        given = self.requests[party]
        request = Request(
            given.client, given.body, given.public, list(given.private), given.route, given.connection
        )
        job = Job(request, self.asked, self.held[party], self.client_key)
        job.plan, job.session, job.coins = plan, self.session, self.coins
        return job


@dataclass
class Replayed:
    """The messages of a run by sender and receiver, and what each party had at its end, by party."""

    messages: dict[Way, list[Message]] = field(default_factory=dict, repr=False)
    keys: dict[int, PartyKeys] = field(default_factory=dict, repr=False)
    terms: dict[int, dict[str, Sum3]] = field(default_factory=dict, repr=False)

    def chain(self, sender: int, receiver: int) -> bytes:
        """The chain that both would sign (transport/chained.py)."""
        passed = Passed()
        for message in self.messages[sender, receiver]:
            passed.take(message.tag, message.buffers)
        keys = self.keys[sender] if sender in self.keys else self.keys[receiver]
        return passed.chain(chain_key(keys, sender, receiver))

    def first_difference(self, other: Replayed) -> tuple[Way, Message] | None:
        """The first of these messages that the other run does not have, or has with other bytes, and its way.

        Later differences may follow from it. None if all are the same.
        """
        found = []
        for way, mine in self.messages.items():
            for place, (one, two) in enumerate(zip_longest(mine, other.messages.get(way, []))):
                if one is not None and one != two:
                    found.append((place > 0, one.tag.round, way, one))
                    break
        return min(found, key=lambda entry: entry[:3])[2:] if found else None


class _Recording(WrappedLink):
    """A link that keeps what it sends."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.sent: list[tuple[int, Message]] = []

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        self.sent.append((peer, Message(tag, tuple(as_bytes(buffer) for buffer in buffers))))
        super().send(peer, tag, buffers)


class _Playback(Link):
    """The link of one party to two that are not there: it receives what was recorded."""

    def __init__(self, party: int, messages: Mapping[Way, Sequence[Message]]) -> None:
        self.party, self.traffic, self.timeout = party, Traffic(), 0.0
        self._coming: dict[int, Iterator[Message]] = {
            sender: iter(sent) for (sender, receiver), sent in messages.items() if receiver == party
        }

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        """Nobody is there to receive."""

    def receive(self, peer: int, tag: Tag) -> list[memoryview]:
        message = next(self._coming[peer], None)
        if message is None or message.tag != tag:
            found = "nothing" if message is None else str(message.tag)
            raise LockstepError(
                f"the record has {found} of party {peer}, party {self.party} is at {tag}",
                "the record belongs to another run, or its plan or version differs",
            )
        return list(message.buffers)

    def abort(self, session: bytes, message: str) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing is open."""


def replay(
    recorded: Recorded, plan: Plan, interpreters: Sequence[Interpreter], timeout: float = 600.0
) -> Replayed:
    """Run all three parties again, a thread each. interpreters: by party, with its shares of the weights.

    Raises what the run of a server raises. Cost: the computation of three servers, and memory for all
    messages.
    """
    links = memory_links(timeout=timeout)
    result, errors = Replayed(), list[BaseException]()

    def work(party: int) -> None:
        try:
            _run(recorded, plan, interpreters[party], links[party], result)
        except BaseException as error:
            errors.append(error)
            links[party].abort(recorded.session, str(error))

    threads = [threading.Thread(target=work, args=(party,), daemon=True) for party in range(PARTIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return result


def replay_party(
    recorded: Recorded,
    plan: Plan,
    interpreter: Interpreter,
    party: int,
    messages: Mapping[Way, Sequence[Message]],
) -> Replayed:
    """Run one party again, with the messages that it received. Raises LockstepError when these do not fit."""
    result = Replayed()
    _run(recorded, plan, interpreter, _Playback(party, messages), result)
    return result


def _run(recorded: Recorded, plan: Plan, interpreter: Interpreter, link: Link, result: Replayed) -> None:
    me, recording = link.party, _Recording(link)
    job = recorded.job(me, plan)
    inputs = received(plan, me, job.request.private)
    parts = iter(recorded.parts[me])
    batch, sides = Batch(recorded.session, [job]), [Side(job, inputs)]
    keys = open_session(recording, batch, sides, recorded.identities, recorded.label, lambda: next(parts))
    party = Party(recording, keys, recorded.session)
    inputs.update((entry.name, job.held[entry.name].words) for entry in plan.held)
    shares, _ = interpreter.run(plan, party, inputs)
    result.keys[me] = keys
    result.terms[me] = {o.name: outgoing(party, shares[o.name], o.format) for o in plan.opened}
    for peer in range(PARTIES):
        if peer != me:
            result.messages[me, peer] = [message for to, message in recording.sent if to == peer]
