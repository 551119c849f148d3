"""Requests, answers and menus of arbitrary content: whatever does not fit is refused before it costs much."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from onnxpuma.config import KeptConfig, LimitConfig
from onnxpuma.errors import OnnxpumaError
from onnxpuma.mpc.forms import Sum3
from onnxpuma.observe import RunReport
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.request.answer import open_result, result
from onnxpuma.roles.request.message import deal_inputs, public_part
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.server.reception import Reception, Served
from onnxpuma.roles.server.store import Store
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport import wire, wire_pb2
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.curve import generate
from onnxpuma.transport.link import as_bytes
from tests.fuzz import FEW, MANY, damaged, thorough

Feed = dict[str, np.ndarray]
LIMITS = LimitConfig(elements=10_000, request_megabytes=50, traffic_megabytes=50, planning=5.0)
EXAMPLES = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def blueprint(model_dir: Path) -> Blueprint:
    return Blueprint.read(model_dir)


@pytest.fixture(scope="module")
def plan(blueprint: Blueprint, feed: Feed) -> Plan:
    return compile_plan(
        blueprint,
        {name: value.shape for name, value in feed.items()},
        {"attention_mask": feed["attention_mask"]},
        Selection(("y",)),
    )


def request_frames(blueprint: Blueprint, plan: Plan, feed: Feed, party: int) -> list[bytes]:
    """The frames of a whole request to `party`."""
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    body.id, body.public_buffers = os.urandom(16), len(public)
    private = deal_inputs(plan, plan.client_values(feed))[party]
    buffers = [as_bytes(buffer) for buffer in (*public, *private)]
    head = wire.encode_client(body, [len(buffer) for buffer in buffers])
    return [head, *(bytes(frame) for frame in wire.split(buffers))]


@EXAMPLES
def test_damaged_requests_are_refused(blueprint: Blueprint, plan: Plan, feed: Feed, examples: int) -> None:
    served = Served(Plans(blueprint), SimpleNamespace())  # type: ignore[arg-type]
    config: Any = SimpleNamespace(limits=LIMITS, clients={}, kept=KeptConfig(), signers=None)
    reception = Reception(1, {"": {bytes.fromhex(blueprint.digest): served}}, Store(KeptConfig()), config)
    taken = []

    def take_in(frames: list[bytes]) -> None:
        message = wire.decode_client(frames[0])
        wire.frames_of(message.sizes)
        buffers = wire.join(message.sizes, [memoryview(frame) for frame in frames[1:]])
        body = message.request
        public, private = buffers[: body.public_buffers], buffers[body.public_buffers :]
        job = reception.take_in(Request("client", body, public, private, b"", (0, 0)), [])
        reception.plan(job)
        taken.append(job)

    whole = request_frames(blueprint, plan, feed, 1)
    take_in(whole)
    assert taken

    @thorough(examples)
    @given(damaged([whole]))
    def every(frames: list[bytes]) -> None:
        start = time.monotonic()
        with suppress(OnnxpumaError):
            take_in(frames)
        assert time.monotonic() - start < 8

    every()


@EXAMPLES
def test_damaged_answers_are_refused(plan: Plan, examples: int) -> None:
    def answer(party: int) -> list[bytes]:
        terms = {
            output.name: Sum3(
                party,
                np.full(output.shape, not output.verdict, np.uint64),
                output.format.modulo(64),
            )
            for output in plan.opened
        }
        body, buffers = result(plan, terms, RunReport(party=party, seconds=1.5, rounds=7))
        views = [as_bytes(buffer) for buffer in buffers]
        head = wire.encode_server(bytes(16), body, [len(view) for view in views])
        return [head, *(bytes(frame) for frame in wire.split(views))]

    def read(frames: list[bytes]) -> Answer:
        message = wire.decode_server(frames[0])
        return Answer(message.result, wire.join(message.sizes, [memoryview(frame) for frame in frames[1:]]))

    others = [read(answer(party)) for party in (0, 2)]
    assert open_result(plan, [others[0], read(answer(1)), others[1]])

    @thorough(examples)
    @given(damaged([answer(1)]))
    def every(frames: list[bytes]) -> None:
        with suppress(OnnxpumaError):
            open_result(plan, [others[0], read(frames), others[1]])

    every()


def test_damaged_menus_are_refused(model_dir: Path) -> None:
    menu = SharedModel.read(model_dir).menu()

    @thorough(FEW // 2)
    @given(damaged([menu]))
    def every(files: list[bytes]) -> None:
        with suppress(OnnxpumaError):
            SharedModel.from_menu(files)

    every()


@pytest.mark.parametrize("count", [300, pytest.param(40_000, marks=pytest.mark.slow)], ids=["few", "many"])
def test_servers_answer_on_after_damaged_messages(
    hall: Any, model_dir: Path, blueprint: Blueprint, plan: Plan, feed: Feed, count: int
) -> None:
    """A listed client sends mutated messages to running servers, and one peer to another."""
    import random
    from dataclasses import replace

    import zmq

    from onnxpuma.roles.client.client import Client

    bad = generate()
    config = replace(hall.config, clients={**hall.config.clients, "bad": bad.public}, limits=LIMITS)
    threads = [hall.start(party, model_dir, config=config) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    whole = [request_frames(blueprint, plan, feed, party) for party in range(3)]
    chance = random.Random(7)
    sockets = []
    for party in range(3):
        dealer = zmq.Context.instance().socket(zmq.DEALER)
        dealer.linger = 0
        dealer.curve_publickey, dealer.curve_secretkey = bad.public.encode(), bad.secret.encode()
        dealer.curve_serverkey = config.parties[party].public_key.encode()
        dealer.connect(config.parties[party].client_address)
        sockets.append(dealer)
    with Client(config, hall.client_keys) as client:
        want = client.run(feed, ["y"]).outputs["y"]
        for number in range(count):
            seed = chance.getrandbits(32)
            fresh = os.urandom(16)
            for party, dealer in enumerate(sockets):
                change = random.Random(seed if number % 2 else chance.getrandbits(32))
                head = wire_pb2.ClientMessage.FromString(whole[party][0])
                head.request.id = fresh
                frames = [head.SerializeToString(), *whole[party][1:]]
                dealer.send_multipart(shuffled(frames, change))
                while dealer.poll(0):
                    dealer.recv_multipart()
            if number % max(1, count // 8) == 0:
                got = client.run(feed, ["y"], timeout=60).outputs["y"]
                assert np.abs(got - want).max() < 1e-3
        got = client.run(feed, ["y"], timeout=60).outputs["y"]
        assert np.abs(got - want).max() < 1e-3
    for dealer in sockets:
        dealer.close()
    assert all(thread.is_alive() for thread in threads)


def shuffled(frames: list[bytes], chance: Any) -> list[bytes]:
    """The frames with one to three changes to single bytes, lengths, or whole frames."""
    made = list(frames)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(made)) if chance.random() < 0.5 else 0
        frame = bytearray(made[place])
        spot = chance.randrange(max(1, len(frame)))
        how = chance.randrange(5)
        if how == 0 and frame:
            frame[spot] ^= 1 << chance.randrange(8)
        elif how == 1 and frame:
            frame[spot] = chance.choice((0, 0x7F, 0x80, 0xFF))
        elif how == 2:
            del frame[spot : spot + chance.randint(1, 12)]
        elif how == 3:
            frame[spot:spot] = chance.randbytes(chance.randint(1, 8))
        else:
            made.insert(place, chance.randbytes(8))
            continue
        made[place] = bytes(frame)
    return made
