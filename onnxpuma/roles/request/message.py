"""How a request is written down: the one place where client and servers agree about it.

Public part: a `Request` of the wire format, the digest of the client's plan as first public buffer, then the
arrays of the public inputs. Private part, for server i and each secret input of the plan: component i and
component i + 1, each in one buffer, a seed of 16 bytes (components 0 and 1) or words (component 2); for ids
the keys for components i and i + 1, each in three buffers (dpf.py). What two servers hold alike they
compare before they compute (opening.py).

An input that the servers hold already (request/kept.py) is named by its handle and takes no buffer.

A request without a model digest asks for the blueprint, or lets go of what is kept, and nothing else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxpuma import __version__
from onnxpuma.errors import InputError, PlanError
from onnxpuma.mpc import ring
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Form, Replicated
from onnxpuma.mpc.prf import KEY_BYTES, AesStream, fresh_key
from onnxpuma.mpc.protocols.dpf import Keys, SecretIds, depth_of, share_ids
from onnxpuma.mpc.ring.words import Words, encode
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, SecretInput, Selection
from onnxpuma.roles.request.feed import check_filling, check_opened
from onnxpuma.roles.request.kept import HANDLE_BYTES, Kept, KeptShares
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.link import PARTIES, Buffer, as_bytes

BITS = 64
CODE_BYTES = 32


@dataclass(frozen=True)
class Asked:
    """The public part of a request, read and checked.

    held: (handle, name of the kept output) by input. handle: under which to keep what the selection keeps.
    release: (handle, name) to forget afterwards.
    """

    shapes: dict[str, tuple[int, ...]]
    public: dict[str, np.ndarray]
    selection: Selection
    plan_digest: str
    held: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    handle: bytes = b""
    release: tuple[tuple[bytes, str], ...] = ()


def public_part(
    blueprint: Blueprint,
    plan: Plan,
    feed: Mapping[str, np.ndarray | Kept],
    selection: Selection,
    handle: bytes = b"",
    release: Iterable[Kept] = (),
) -> tuple[wire_pb2.Request, list[Buffer]]:
    """What all three servers are told: shapes, public arrays, wanted outputs, digests, handles."""
    body = wire_pb2.Request(
        model_digest=bytes.fromhex(blueprint.digest),
        version=__version__,
        outputs=selection.opened,
        keep=selection.kept,
        handle=handle,
        release=held_entries(release),
    )
    buffers: list[Buffer] = [bytes.fromhex(plan.digest)]
    for name, spec in blueprint.inputs.items():
        value = feed[name]
        entry = body.inputs.add(name=name, dtype=spec.dtype.name, shape=value.shape, secret=spec.secret)
        if isinstance(value, Kept):
            entry.held.CopyFrom(*held_entries([value]))
        elif not spec.secret:
            entry.buffers = 1
            buffers.append(np.ascontiguousarray(value))
    return body, buffers


def held_entries(kept: Iterable[Kept]) -> list[wire_pb2.Held]:
    """These values as a request names them."""
    return [wire_pb2.Held(handle=value.handle, name=value.name) for value in kept]


def read_public_part(request: Request, blueprint: Blueprint) -> Asked:
    """Read what `public_part` wrote.

    Raises PlanError for another model or version, InputError for inputs and outputs that are not the model's,
    and for handles that are none.
    """
    body = request.body
    if body.version != __version__:
        raise PlanError(
            f"the client has onnxpuma {body.version}, the servers have {__version__}",
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
    if (body.keep and len(body.handle) != HANDLE_BYTES) or not (body.keep or body.outputs):
        raise InputError("the request wants no output, or to keep one without a handle", MADE_HERE)
    selection = Selection(tuple(body.outputs), tuple(body.keep), tuple(held))
    release = tuple((entry.handle, entry.name) for entry in body.release)
    return Asked(shapes, public, selection, plan_digest, held, body.handle, release)


def check_held(blueprint: Blueprint, asked: Asked, held: Mapping[str, KeptShares]) -> None:
    """InputError unless each input is filled as the model's owner lets it be (feed.check_filling)."""
    for name, spec in blueprint.inputs.items():
        kept = held.get(name)
        if kept is not None:
            check_filling(spec, 1, kept.output.name, kept.output.closed)
        else:
            check_filling(spec, math.prod(asked.shapes.get(name, (0,))))


def deal(plan: Plan, values: Mapping[str, np.ndarray]) -> list[list[Buffer]]:
    """Share the secret inputs: the private buffers of the three servers.

    values: what `Plan.client_values` returned, checked (feed.check_values). The buffers of any one server
    are independent of the values.
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
        words = encode(entry.saturated(value), entry.fraction, BITS)
        for seed in seeds:
            words -= AesStream(seed).draw(words.shape, BITS)
        components: list[Buffer] = [*seeds, words]
        for party in range(PARTIES):
            private[party] += [components[party], components[(party + 1) % PARTIES]]
    return private


def received(plan: Plan, party: int, private: Sequence[memoryview]) -> dict[str, Form]:
    """The shares of the plan's secret inputs, from the private buffers of `party`; check them first."""
    inputs: dict[str, Form] = {}
    buffers = iter(private)
    for entry in plan.inputs:
        if entry.depth:
            own, following = (_keys(holder, entry, buffers) for holder in range(2))
            inputs[entry.operand] = SecretIds(entry.shape, entry.depth, own, following)
        else:
            first, second = (_component((party + i) % PARTIES, entry, next(buffers)) for i in range(2))
            inputs[entry.operand] = Replicated(party, first, second, Format(BITS, entry.fraction))
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
    """SHA-256 over what this party holds of one component of all secret inputs, CODE_BYTES long: the same at
    its other holder if the client gave both the same. For that holder alone: who lacks the component, and
    knows the two others, could try inputs against it.

    private: the buffers of `party`, checked. component: party or party + 1. binding: what the code is for. Of
    ids it covers what the two keys of a pair have in common; protocols/sketch.py compares the rest.
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
    """Bytes of the private buffers that `party` gets for this input."""
    count = int(np.prod(entry.shape, dtype=np.int64))
    if entry.depth:
        return 2 * [count * 16, count * depth_of(entry.depth) * 16, count * 16]
    return [KEY_BYTES if (party + i) % PARTIES < 2 else count * BITS // 8 for i in range(2)]


def _component(component: int, entry: SecretInput, buffer: memoryview) -> Words:
    if component < 2:
        return AesStream(bytes(buffer)).draw(entry.shape, BITS)
    return ring.unpack(buffer, BITS, entry.shape)


def _keys(holder: int, entry: SecretInput, buffers: Iterator[memoryview]) -> Keys:
    seed = np.frombuffer(next(buffers), np.uint64).reshape(-1, 2)
    corrections = np.frombuffer(next(buffers), np.uint64).reshape(len(seed), depth_of(entry.depth), 2)
    leaves = np.frombuffer(next(buffers), np.uint32).reshape(len(seed), -1)
    return Keys(holder, seed, corrections, leaves)


MADE_HERE = "make requests with the Client of this package, in the same version"
