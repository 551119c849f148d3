"""A run as a function: every message that three servers sent each other, computed again in memory.

The shares of the weights, the requests with the buffers of each server, the randomness that each server
contributed, and the plans determine every message, bit for bit, on any machine and kernel. So a run can be
repeated, and whoever sent something else departed from the program.

Whoever can replay a run sees every value in it: this is for the owner of the model, on inputs of his own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from onnxpuma.errors import InputError, LockstepError, PlanError
from onnxpuma.graph.noising import is_noise
from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.prf import PartyKeys
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.together.join import Joints
from onnxpuma.roles.audit.evidence import Way
from onnxpuma.roles.request.message import Asked, received
from onnxpuma.roles.server.job import Batch, Job
from onnxpuma.roles.server.opening import LABEL, RUNS, Side, open_session
from onnxpuma.roles.server.receipt import chain_key
from onnxpuma.roles.server.run import Begun, Done, compute
from onnxpuma.roles.server.store import KeptShares
from onnxpuma.transport.chained import Passed, WrappedLink
from onnxpuma.transport.link import PARTIES, Buffer, Link, Tag, Traffic, as_bytes
from onnxpuma.transport.memory import memory_links, side_by_side
from onnxpuma.transport.request import Request

Held = Mapping[str, KeptShares]  # kept values that a request reads, whole, by input, as one party has them


class Message(NamedTuple):
    """One message of words."""

    tag: Tag
    buffers: tuple[memoryview, ...]


@dataclass(frozen=True)
class Asking:
    """One request of a run, by party."""

    plan: Plan
    requests: tuple[Request, Request, Request] = field(repr=False)  # as each received it
    asked: Asked = field(repr=False)
    coins: tuple[bytes, ...] = field(repr=False)
    client_key: str  # public
    held: tuple[Held, ...] = field(default=({}, {}, {}), repr=False)  # `Replayed.held` of the earlier runs

    def job(self, party: int, session: bytes) -> Job:
        """The job as `party` had it."""
        given = self.requests[party]
        request = Request(
            given.client, given.body, given.public, list(given.private), given.route, given.connection
        )
        job = Job(request, self.asked, self.held[party], self.client_key)
        job.plan, job.session, job.coins = self.plan, session, self.coins
        return job


@dataclass(frozen=True)
class Recorded:
    """What determines a run, besides the weights."""

    session: bytes
    askings: tuple[Asking, ...]  # the requests that ran together, in the run's order
    # By party, for the keys that it shares with the party before it and the party after it.
    parts: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    identities: tuple[str, str, str]  # their public keys
    label: str = LABEL  # of the opening


@dataclass
class Replayed:
    """What three servers, or one of them, did in a run."""

    tags: dict[Way, list[Tag]] = field(default_factory=dict, repr=False)  # of all messages, in order
    passed: dict[Way, Passed] = field(default_factory=dict, repr=False)  # their digests
    # The messages themselves, where they are to be kept.
    messages: dict[Way, list[Message]] = field(default_factory=dict, repr=False)
    keys: dict[int, PartyKeys] = field(default_factory=dict, repr=False)  # by party
    # By party, of each request: its answer and the shares that it keeps.
    done: dict[int, list[Done]] = field(default_factory=dict, repr=False)

    def chain(self, sender: int, receiver: int) -> bytes:
        """The chain that both would sign (transport/chained.py)."""
        keys = self.keys[sender] if sender in self.keys else self.keys[receiver]
        return self.passed[sender, receiver].chain(chain_key(keys, sender, receiver))

    def held(self, number: int, inputs: Mapping[str, str]) -> tuple[Held, ...]:
        """What a later request takes of request `number`, as `Asking` wants it. inputs: kept output by input.

        The values are whole; a request that takes a part of one says so itself (`Job.taken`).
        """
        return tuple(
            {name: self.done[party][number].kept[output] for name, output in inputs.items()}
            for party in range(PARTIES)
        )

    def first_difference(self, other: Replayed) -> tuple[Way, Message] | None:
        """The first of these messages that the other run does not have, or has with other bytes, and its way.

        Both must have kept their messages. Later differences may follow from it. None if all are the same.
        """
        found = []
        for way, mine in self.messages.items():
            for place, (one, two) in enumerate(zip_longest(mine, other.messages.get(way, []))):
                if one is not None and one != two:
                    found.append((place > 0, one.tag.round, way, one))
                    break
        return min(found, key=lambda entry: entry[:3])[2:] if found else None


class _Tracing(WrappedLink):
    """A link that traces what it sends."""

    def __init__(self, link: Link, traced: Replayed, keep: bool) -> None:
        super().__init__(link)
        self._traced, self._keep = traced, keep
        for peer in {*range(PARTIES)} - {link.party}:
            way = (link.party, peer)
            traced.tags[way], traced.passed[way], traced.messages[way] = [], Passed(), []

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        way = (self.party, peer)
        self._traced.tags[way].append(tag)
        views = [as_bytes(buffer) for buffer in buffers]
        self._traced.passed[way].take(tag, views)
        if self._keep:
            self._traced.messages[way].append(Message(tag, tuple(views)))
        super().send(peer, tag, views)


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

    def finish(self, session: bytes) -> None:
        """Nothing waits."""

    def abort(self, session: bytes, message: str) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing is open."""


def replay(
    recorded: Recorded, interpreters: Sequence[Interpreter], keep: bool = True, timeout: float = 600.0
) -> Replayed:
    """Run all three parties again, a thread each.

    interpreters: by party, with its shares of the weights. keep: the messages, and not their digests alone.
    Raises PlanError for a model with noise, InputError when the client gave two servers different shares,
    and what the run of a server raises. Cost: the computation of three servers, and memory for all messages
    if these are kept.
    """
    _check_repeatable(recorded)
    links = memory_links(timeout=timeout)
    result = Replayed()

    def work(party: int) -> None:
        _run(recorded, interpreters[party], links[party], result, keep)

    side_by_side(links, recorded.session, work)
    return result


def replay_party(
    recorded: Recorded, interpreter: Interpreter, party: int, messages: Mapping[Way, Sequence[Message]]
) -> Replayed:
    """Run one party again, with the messages that it received.

    Raises LockstepError when these do not fit, PlanError for a model with noise.
    """
    _check_repeatable(recorded)
    result = Replayed()
    _run(recorded, interpreter, _Playback(party, messages), result, True)
    return result


def _check_repeatable(recorded: Recorded) -> None:
    if any(is_noise(step.call.node) for asking in recorded.askings for step in asking.plan.steps):
        raise PlanError(
            "a run of a model with noise cannot be repeated: its noise follows from no key",
            "share the model without noise to have its servers audited",
        )


def _run(recorded: Recorded, interpreter: Interpreter, link: Link, result: Replayed, keep: bool) -> None:
    me, tracing = link.party, _Tracing(link, result, keep)
    jobs = [asking.job(me, recorded.session) for asking in recorded.askings]
    sides = [Side(job, received(job.plan, me, job.request.private)) for job in jobs]
    parts = iter(recorded.parts[me])
    batch = Batch(recorded.session, list(jobs))
    keys = open_session(tracing, batch, sides, recorded.identities, recorded.label, lambda: next(parts))
    for side in sides:
        if side.standing != RUNS:
            raise side.error or InputError("another party refuses a request of this run")
    begun = Begun(tracing, recorded.session, keys, None)
    begun.requests = [(job, side.inputs or {}) for job, side in zip(jobs, sides, strict=True)]
    result.keys[me] = keys
    result.done[me] = compute(begun, interpreter, Joints(), lambda: None, lambda *_: None)
