"""The wire form of a request, written and read in this one file.

Public part: a `Request` of the wire format, the digest of the client's plan as the first public buffer, then
the arrays of the public inputs. Private part, for server i and each secret input of the plan: components i
and i + 1, one buffer each, either a key of 16 bytes (components 0 and 1) or words (component 2); for ids the
DPF keys for components i and i + 1, three buffers each (dpf.py). Before they compute, the servers compare
the components that two of them hold (opening.py).

An input that the servers hold already is named by its handle (request/kept.py) and takes no buffer.

A request without a model digest asks for the blueprint or releases kept values, and does nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from onnxpuma.errors import InputError, PlanError
from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.prf import KEY_BYTES, fresh_key
from onnxpuma.mpc.protocols.dpf import Dealt, Keys, SecretIds, depth_of, share_ids
from onnxpuma.mpc.ring.words import Words
from onnxpuma.mpc.sharing import KEYED, component_stream, components_of, deal, held
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, SecretInput, Selection
from onnxpuma.roles.request.feed import check_kept, check_opened
from onnxpuma.roles.request.kept import HANDLE_BYTES, Kept
from onnxpuma.roles.request.network import heard, told
from onnxpuma.roles.request.view import View
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.link import PARTIES, Buffer, as_bytes
from onnxpuma.versions import REQUESTS

CODE_BYTES = 32


@dataclass(frozen=True)
class Asked:
    """The public part of a request, read and checked."""

    shapes: dict[str, tuple[int, ...]]  # by input
    public: dict[str, np.ndarray]  # the public inputs
    selection: Selection
    plan_digest: str  # of the plan that the client made; hex
    network: Network  # for which it made it
    held: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # input -> handle, kept output
    views: dict[str, View] = field(default_factory=dict)  # input -> what it takes of that
    handle: bytes = b""  # the servers keep the selected outputs under it
    release: tuple[tuple[bytes, str], ...] = ()  # (handle, kept output) to forget afterwards


def public_part(
    blueprint: Blueprint,
    plan: Plan,
    feed: Mapping[str, np.ndarray | Kept],
    selection: Selection,
    handle: bytes = b"",
    release: Iterable[Kept] = (),
) -> tuple[wire_pb2.Request, list[Buffer]]:
    """The part that all three servers receive: shapes, public arrays, wanted outputs, digests, handles."""
    body = wire_pb2.Request(
        model_digest=bytes.fromhex(blueprint.digest),
        version=REQUESTS,
        outputs=selection.opened,
        keep=selection.kept,
        handle=handle,
        release=held_entries(release),
        network=told(plan.network),
    )
    buffers: list[Buffer] = [bytes.fromhex(plan.digest)]
    for name, spec in blueprint.inputs.items():
        value = feed[name]
        entry = body.inputs.add(name=name, dtype=spec.dtype.name, shape=value.shape, secret=spec.secret)
        if isinstance(value, Kept):
            of = value.taken
            entry.held.CopyFrom(
                wire_pb2.Held(handle=value.handle, name=value.name, skip=of.skip, axis=of.axis)
            )
        elif not spec.secret:
            entry.buffers = 1
            buffers.append(np.ascontiguousarray(value))
    return body, buffers


def held_entries(kept: Iterable[Kept]) -> list[wire_pb2.Held]:
    """How a request names these values, each whole."""
    return [wire_pb2.Held(handle=value.handle, name=value.name) for value in kept]


def read_public_part(request: Request, blueprint: Blueprint) -> Asked:
    """Read what `public_part` wrote.

    Raises PlanError for another model or version, InputError for inputs and outputs that the model lacks and
    for malformed handles.
    """
    body = request.body
    if body.version != REQUESTS:
        raise PlanError(
            f"the client sends requests of onnxpuma {body.version}, the servers read those of {REQUESTS}",
            "install the same version everywhere",
        )
    if body.model_digest != bytes.fromhex(blueprint.digest):
        raise PlanError(
            f"the client's model ({body.model_digest.hex()[:8]}) is not the one served here"
            f" ({blueprint.digest[:8]})",
            "use the blueprint of these servers: `Client` fetches it when it is given none",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    public: dict[str, np.ndarray] = {}
    held: dict[str, tuple[bytes, str]] = {}
    views: dict[str, View] = {}
    buffers = iter(request.public)
    plan_digest = bytes(next(buffers, b"")).hex()
    for entry in body.inputs:
        spec = blueprint.inputs.get(entry.name)
        if spec is None or entry.secret != spec.secret or entry.dtype != spec.dtype.name:
            raise InputError(f"the request's input '{entry.name}' is not the model's", MADE_HERE)
        shapes[entry.name] = tuple(entry.shape)
        if entry.HasField("held"):
            if not spec.secret:
                raise InputError(f"the request's input '{entry.name}' is public", MADE_HERE)
            held[entry.name] = entry.held.handle, entry.held.name
            views[entry.name] = View(entry.held.skip, entry.held.axis)
        elif not spec.secret:
            try:
                array = np.frombuffer(next(buffers), spec.dtype).reshape(shapes[entry.name])
            except (StopIteration, ValueError) as error:
                raise InputError(
                    f"the request's public input '{entry.name}' does not have the bytes of its shape",
                    MADE_HERE,
                ) from error
            public[entry.name] = array
    if next(buffers, None) is not None:
        raise InputError("the request has public buffers that belong to no input", MADE_HERE)
    unknown = [name for name in (*body.outputs, *body.keep) if name not in blueprint.outputs]
    if unknown:
        raise InputError(f"the model has no output '{unknown[0]}'", f"it has {', '.join(blueprint.outputs)}")
    check_opened(blueprint, body.outputs)
    check_kept(blueprint, body.keep)
    if (body.keep and len(body.handle) != HANDLE_BYTES) or not (body.keep or body.outputs):
        raise InputError("the request asks for no output, or keeps one without a handle", MADE_HERE)
    selection = Selection(tuple(body.outputs), tuple(body.keep), tuple(held))
    release = tuple((entry.handle, entry.name) for entry in body.release)
    planned = heard(body.network, "the client")
    return Asked(shapes, public, selection, plan_digest, planned, held, views, body.handle, release)


def deal_inputs(plan: Plan, values: Mapping[str, np.ndarray]) -> list[list[Buffer]]:
    """Share the secret inputs: the private buffers of the three servers.

    values: from `Plan.client_values`, checked by feed.check_values. The buffers of any one server are
    independent of the values.
    """
    private: list[list[Buffer]] = [[] for _ in range(PARTIES)]
    for entry in plan.inputs:
        value = values[entry.name]
        if entry.depth:
            for party, ids in enumerate(share_ids(value, entry.depth)):
                for keys in (ids.own, ids.following):
                    private[party] += [keys.seed, keys.corrections, keys.leaves]
            continue
        seeds = (fresh_key(), fresh_key())
        words = entry.format.encode(entry.saturated(value))
        rest = ring.pack(deal(words, map(component_stream, seeds), entry.format.bits), entry.format.bits)
        components: list[Buffer] = [*seeds, rest]
        for party in range(PARTIES):
            private[party] += [components[component] for component in components_of(party)]
    return private


def received(plan: Plan, party: int, private: Sequence[memoryview]) -> dict[str, Dealt]:
    """Read the shares of the plan's secret inputs from the private buffers of `party`, once
    `check_private` has passed."""
    inputs: dict[str, Dealt] = {}
    buffers = iter(private)
    for entry in plan.inputs:
        if entry.depth:
            own, following = (_keys(holder, entry, buffers) for holder in range(2))
            inputs[entry.operand] = SecretIds(entry.shape, entry.depth, own, following)
        else:
            given = {component: next(buffers) for component in components_of(party)}
            keys = {component: bytes(given[component]) for component in given if component in KEYED}
            first, second = held(party, keys, partial(_words, entry, given), entry.shape, entry.format.bits)
            inputs[entry.operand] = Replicated(party, first, second, entry.format)
    return inputs


def check_private(plan: Plan, party: int, private: Sequence[memoryview]) -> None:
    """InputError unless the private buffers have the lengths that `received` expects."""
    due = [(entry.name, length) for entry in plan.inputs for length in buffer_lengths(entry, party)]
    if len(private) != len(due):
        raise InputError(
            f"server {party} was given {len(private)} buffers of shares, the plan takes {len(due)}",
            MADE_HERE,
        )
    for buffer, (name, length) in zip(private, due, strict=True):
        if len(buffer) != length:
            raise InputError(
                f"server {party} was given {len(buffer)} bytes as shares of '{name}', {length} are due",
                MADE_HERE,
            )


def component_code(
    plan: Plan, party: int, private: Sequence[memoryview], component: int, binding: Sequence[bytes]
) -> bytes:
    """SHA-256 over this party's buffers of one component of all secret inputs, CODE_BYTES long. The other
    holder computes the same code if the client sent both the same component.

    The code is for that holder alone: a server that lacks the component and knows the two others could test
    guesses of the inputs against it. private: the buffers of `party`, checked. component: party or party + 1.
    binding: ties the code to one use. Of ids it covers the parts that the two keys of a pair have in common;
    protocols/sketch.py compares the rest.
    """
    total = hashlib.sha256()
    place = 0 if component == party else 1
    buffers = iter(private)
    covered: list[Buffer] = [*binding, bytes([component])]
    for entry in plan.inputs:
        parts = [next(buffers) for _ in buffer_lengths(entry, party)]
        each = len(parts) // 2
        covered.append(entry.operand.encode())
        covered += parts[place * each + (1 if entry.depth else 0) : (place + 1) * each]
    for item in covered:
        total.update(len(item).to_bytes(8, "little"))
        total.update(as_bytes(item))
    return total.digest()


def buffer_lengths(entry: SecretInput, party: int) -> list[int]:
    """The lengths in bytes of the private buffers that `party` receives for this input."""
    count = int(np.prod(entry.shape, dtype=np.int64))
    if entry.depth:
        return 2 * [count * 16, count * depth_of(entry.depth) * 16, count * 16]
    return [KEY_BYTES if c in KEYED else entry.format.bytes(count) for c in components_of(party)]


def _words(entry: SecretInput, given: Mapping[int, memoryview]) -> Words:
    return ring.unpack(given[2], entry.format.bits, entry.shape)


def _keys(holder: int, entry: SecretInput, buffers: Iterator[memoryview]) -> Keys:
    seed, corrections, leaves = (next(buffers) for _ in range(3))
    return Keys.read(holder, seed, corrections, leaves, entry.depth)


MADE_HERE = "make requests with the Client of this package, in the same version"
