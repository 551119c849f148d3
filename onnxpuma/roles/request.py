"""How a request is written down: the one place where client and servers agree about it.

Public part: a `Request` of the wire format, the digest of the client's plan as first public buffer, then the
arrays of the public inputs. Private part, for server i and each secret input of the plan: component i and
component i + 1, each in one buffer, a seed of 16 bytes (components 0 and 1) or words (component 2); for ids
the keys for components i and i + 1, each in three buffers (mpc/dpf.py).

A request without a model digest asks for the blueprint, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxpuma import __version__
from onnxpuma.errors import InputError, PlanError
from onnxpuma.mpc import ring
from onnxpuma.mpc.dpf import Keys, SecretIds, depth_of, share_ids
from onnxpuma.mpc.prf import KEY_BYTES, AesStream, fresh_key
from onnxpuma.mpc.shares import Form, Replicated
from onnxpuma.mpc.words import Words, encode
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, SecretInput
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.link import PARTIES, Buffer

BITS = 64


@dataclass(frozen=True)
class Asked:
    """The public part of a request, read and checked."""

    shapes: dict[str, tuple[int, ...]]
    public: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    plan_digest: str


def public_part(
    blueprint: Blueprint, plan: Plan, feed: Mapping[str, np.ndarray], outputs: Sequence[str]
) -> tuple[wire_pb2.Request, list[Buffer]]:
    """What all three servers are told of a request: shapes, public arrays, wanted outputs, digests."""
    body = wire_pb2.Request(
        model_digest=bytes.fromhex(blueprint.digest), version=__version__, outputs=outputs
    )
    buffers: list[Buffer] = [bytes.fromhex(plan.digest)]
    for name, spec in blueprint.inputs.items():
        array = np.ascontiguousarray(feed[name])
        body.inputs.add(
            name=name,
            dtype=spec.dtype.name,
            shape=array.shape,
            secret=spec.secret,
            buffers=0 if spec.secret else 1,
        )
        if not spec.secret:
            buffers.append(array)
    return body, buffers


def read_public_part(request: Request, blueprint: Blueprint) -> Asked:
    """Read what `public_part` wrote.

    Raises PlanError for another model or version, InputError for inputs and outputs that are not the model's.
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
    buffers = iter(request.public)
    plan_digest = bytes(next(buffers, b"")).hex()
    for entry in body.inputs:
        spec = blueprint.inputs.get(entry.name)
        if spec is None or entry.secret != spec.secret or entry.dtype != spec.dtype.name:
            raise InputError(f"the request's input '{entry.name}' is not the model's", _MADE_HERE)
        shapes[entry.name] = tuple(entry.shape)
        if not spec.secret:
            try:
                array = np.frombuffer(next(buffers), spec.dtype).reshape(shapes[entry.name])
            except (StopIteration, ValueError) as error:
                raise InputError(
                    f"the request's public input '{entry.name}' does not have the bytes of its shape",
                    _MADE_HERE,
                ) from error
            public[entry.name] = array
    unknown = [name for name in body.outputs if name not in blueprint.outputs]
    if unknown:
        raise InputError(f"the model has no output '{unknown[0]}'", f"it has {', '.join(blueprint.outputs)}")
    return Asked(shapes, public, tuple(body.outputs) or tuple(blueprint.outputs), plan_digest)


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
        words = encode(value, entry.fraction, BITS)
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
            inputs[entry.operand] = Replicated(party, first, second, BITS, entry.fraction)
    return inputs


def check_private(plan: Plan, party: int, private: Sequence[memoryview]) -> None:
    """InputError unless the private buffers have the lengths that `received` expects."""
    due = [(entry.name, length) for entry in plan.inputs for length in _lengths(entry, party)]
    if len(private) != len(due):
        raise InputError(
            f"server {party} was given {len(private)} buffers of shares, the plan takes {len(due)}",
            _MADE_HERE,
        )
    for buffer, (name, length) in zip(private, due, strict=True):
        if len(buffer) != length:
            raise InputError(
                f"server {party} was given {len(buffer)} bytes as shares of '{name}', {length} are due",
                _MADE_HERE,
            )


def _lengths(entry: SecretInput, party: int) -> list[int]:
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


_MADE_HERE = "make requests with the Client of this package, in the same version"
