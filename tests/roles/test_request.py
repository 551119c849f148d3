"""Requests written and read: shares add up, and unfitting ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxpuma.errors import InputError, PlanError, TransportError
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated, Sum3
from onnxpuma.mpc.protocols.dpf import SecretIds, evaluate
from onnxpuma.mpc.ring.words import decode
from onnxpuma.observe import RunReport
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.roles.request.answer import open_result, result
from onnxpuma.roles.request.message import check_private, deal_inputs, public_part, read_public_part, received
from onnxpuma.roles.request.plans import Plans
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import Buffer, as_bytes

Feed = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def blueprint(model_dir: Path) -> Blueprint:
    return Blueprint.read(model_dir)


@pytest.fixture
def plan(blueprint: Blueprint, feed: Feed) -> Plan:
    shapes = {name: array.shape for name, array in feed.items()}
    return Plans(blueprint).get(shapes, {"attention_mask": feed["attention_mask"]})


def arrived(body: wire_pb2.Request, public: list[Buffer]) -> Request:
    body.id = bytes(16)
    return Request("client", body, [as_bytes(b) for b in public], [], b"", (0, 0))


def test_the_public_part_says_shapes_and_public_arrays_alone(
    blueprint: Blueprint, plan: Plan, feed: Feed
) -> None:
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    asked = read_public_part(arrived(body, public), blueprint)
    assert asked.shapes == {"ids": (2, 3), "attention_mask": (2, 3), "x": (2, 8)}
    assert list(asked.public) == ["attention_mask"]
    assert np.array_equal(asked.public["attention_mask"], feed["attention_mask"])
    assert asked.selection == Selection(("y",))
    assert asked.plan_digest == plan.digest
    everything = body.SerializeToString() + b"".join(bytes(as_bytes(b)) for b in public)
    for name in ("ids", "x"):
        assert feed[name].tobytes() not in everything


def test_another_version_or_model_is_refused(blueprint: Blueprint, plan: Plan, feed: Feed) -> None:
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    body.version = "0.0"
    with pytest.raises(PlanError, match=r"requests of onnxpuma 0\.0"):
        read_public_part(arrived(body, public), blueprint)
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    body.model_digest = bytes(32)
    with pytest.raises(PlanError, match=r"00000000.* is not the one served here"):
        read_public_part(arrived(body, public), blueprint)


def test_public_buffers_beyond_the_inputs_are_refused(blueprint: Blueprint, plan: Plan, feed: Feed) -> None:
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    with pytest.raises(InputError, match="public buffers that belong to no input"):
        read_public_part(arrived(body, [*public, b"more"]), blueprint)


def test_inputs_that_are_not_the_models_are_refused(blueprint: Blueprint, plan: Plan, feed: Feed) -> None:
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    body.inputs[0].name = "idz"
    with pytest.raises(InputError, match="'idz' is not the model's"):
        read_public_part(arrived(body, public), blueprint)
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    body.inputs[0].secret = False
    with pytest.raises(InputError, match="'ids' is not the model's"):
        read_public_part(arrived(body, public), blueprint)
    body, public = public_part(blueprint, plan, feed, Selection(("z",)))
    with pytest.raises(InputError, match="no output 'z'"):
        read_public_part(arrived(body, public), blueprint)
    body, public = public_part(blueprint, plan, feed, Selection(("y",)))
    for wrong in ([public[0]], [public[0], b"short"]):
        with pytest.raises(InputError, match="does not have the bytes of its shape"):
            read_public_part(arrived(body, wrong), blueprint)


def test_shares_add_up(plan: Plan, feed: Feed) -> None:
    values = plan.client_values(feed)
    private = [[as_bytes(b) for b in buffers] for buffers in deal_inputs(plan, values)]
    held = []
    for party in range(3):
        check_private(plan, party, private[party])
        held.append(received(plan, party, private[party]))
    reals = [shares["x"] for shares in held]
    assert all(isinstance(r, Replicated) for r in reals)
    for party in range(3):
        assert np.array_equal(reals[party].second, reals[(party + 1) % 3].first)
    words = reals[0].first + reals[1].first + reals[2].first
    assert np.abs(decode(words, 18) - feed["x"]).max() <= 2**-19
    ids = [shares["ids as rows of 50"] for shares in held]
    for component in range(3):
        own, other = ids[component], ids[(component - 1) % 3]
        assert isinstance(own, SecretIds)
        assert isinstance(other, SecretIds)
        rows = evaluate(own.own, 50) + evaluate(other.following, 50)
        assert np.array_equal(rows.reshape(2, 3, 50).argmax(-1), feed["ids"])
        assert rows.sum() == 6


def test_party_0_is_sent_seeds_and_every_request_is_shared_anew(plan: Plan, feed: Feed) -> None:
    values = plan.client_values(feed)
    first, second = deal_inputs(plan, values), deal_inputs(plan, values)
    place = 6 if plan.inputs[0].depth else 0
    assert [len(as_bytes(b)) for b in first[0][place : place + 2]] == [16, 16]
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one, two, strict=True):
            assert bytes(as_bytes(a)) != bytes(as_bytes(b))


def test_private_buffers_that_do_not_fit(plan: Plan, feed: Feed) -> None:
    private = [[as_bytes(b) for b in buffers] for buffers in deal_inputs(plan, plan.client_values(feed))]
    with pytest.raises(InputError, match="was given 7 buffers of shares, the plan takes 8"):
        check_private(plan, 1, private[1][:-1])
    with pytest.raises(InputError, match="bytes as shares of 'x'"):
        check_private(plan, 0, private[2])
    private[1][0] = private[1][0][:-1]
    with pytest.raises(InputError, match="are due"):
        check_private(plan, 1, private[1])


def test_answers_are_opened_in_the_declared_type(plan: Plan) -> None:
    rng = np.random.default_rng(5)
    value = rng.normal(0, 1, (2, 8))
    words = np.rint(value * 2**18).astype(np.int64).view(np.uint64)
    parts = [rng.integers(0, 2**63, (2, 8)).astype(np.uint64) for _ in range(2)]
    parts.append(words - parts[0] - parts[1])
    answers, zero = [], np.zeros(1, np.uint64)
    for party in range(3):
        term = Sum3(party, parts[party], Format(64, 18))
        report = RunReport(party=party, seconds=1.5, rounds=7)
        assert plan.verdict is not None
        body, buffers = result(plan, {"y": term, plan.verdict.name: Sum3(party, zero, Format(64, 0))}, report)
        answers.append(Answer(body, [as_bytes(b) for b in buffers]))
    outputs, reports = open_result(plan, answers)
    assert list(outputs) == ["y", plan.verdict.name], "the client knows the length itself"
    assert outputs["y"].dtype == np.float32
    assert np.abs(outputs["y"] - value).max() < 2**-18
    assert [r.party for r in reports] == [0, 1, 2]
    answers[1].result.outputs[0].shape[0] = 3
    with pytest.raises(TransportError, match="server 1 answered a different request"):
        open_result(plan, answers)
    answers[1].result.outputs[0].shape[0] = 2
    answers[2].result.outputs[0].ring_bits = 63
    with pytest.raises(TransportError, match="do not fit together"):
        open_result(plan, answers)
    answers[2].result.outputs[0].ring_bits = 64
    answers[2].buffers[0] = answers[2].buffers[0][:-8]
    with pytest.raises(TransportError, match="do not fit together"):
        open_result(plan, answers)
