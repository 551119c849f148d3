"""A generated token on shares: the id of the largest logit, suppressed ids, hidden logits, the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError, InputError, PlanError
from onnxpuma.plan.blueprint import POLICY, Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Selection
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.feed import check_feed, check_outputs
from onnxpuma.roles.request.message import public_part, read_public_part
from onnxpuma.transport.client_port import Request
from onnxpuma.transport.link import as_bytes

WORDS, WIDTH = 40, 8
DERIVED_INPUTS = ("suppressed_ids", "sampling", "logit_shift", "repeated_ids")
DERIVED_OUTPUTS = ("next_token", "next_tokens", "sampled_token", "shifted_token", "penalised_token")


def decoder() -> onnx.ModelProto:
    """A block over embeddings and a cache, as an exporter writes it; outputs logits and the grown cache."""
    rng = np.random.default_rng(3)
    sizes = {
        "table": (WORDS, WIDTH), "wk": (WIDTH, WIDTH), "g": (WIDTH,), "w1": (WIDTH, 12), "w2": (12, WIDTH),
        "head": (WIDTH, WORDS),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["e"]),
        helper.make_node("MatMul", ["e", "wk"], ["k"]),
        helper.make_node("Concat", ["past_key_values", "k"], ["present"], axis=1),
        helper.make_node("ReduceSum", ["present", "one"], ["context"], keepdims=1),
        helper.make_node("Add", ["e", "context"], ["x"]),
        helper.make_node("LayerNormalization", ["x", "g"], ["n"]),
        helper.make_node("MatMul", ["n", "w1"], ["u"]),
        helper.make_node("Gelu", ["u"], ["a"]),
        helper.make_node("MatMul", ["a", "w2"], ["d"]),
        helper.make_node("Add", ["x", "d"], ["h"]),
        helper.make_node("MatMul", ["h", "head"], ["logits"]),
    ]
    weights = [numpy_helper.from_array(rng.normal(0, 1, s).astype(np.float32), n) for n, s in sizes.items()]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
        helper.make_tensor_value_info("past_key_values", TensorProto.FLOAT, ["batch", "past", WIDTH]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", WORDS]),
        helper.make_tensor_value_info("present", TensorProto.FLOAT, ["batch", "total", WIDTH]),
    ]
    one = numpy_helper.from_array(np.array([1]), "one")
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, [*weights, one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def prompt(batch: int = 2, length: int = 3, past: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(length)
    ids = rng.integers(0, WORDS, (batch, length))
    return {"input_ids": ids, "past_key_values": rng.normal(0, 1, (batch, past, WIDTH)).astype(np.float32)}


def last_logits(feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(decoder().SerializeToString())
    found: np.ndarray = session.run(["logits"], feed)[0][:, -1]
    return found


def best(logits: np.ndarray, suppressed: list[int]) -> np.ndarray:
    left = logits.copy()
    left[:, suppressed] = -np.inf
    return left.argmax(axis=-1)[:, None]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("decoder") / "model.onnx"
    onnx.save(decoder(), found)
    return found


@pytest.fixture(scope="module")
def blueprint(path: Path) -> Blueprint:
    return prepare(path)[0]


@pytest.mark.parametrize(("length", "past"), [(1, 4), (3, 2), (5, 0)])
def test_tokens_are_those_of_the_plain_model(length: int, past: int) -> None:
    model, feed = MemoryModel(decoder()), prompt(2, length, past)
    logits = last_logits(feed)
    order = np.argsort(-logits[0])
    for suppressed in ([], [int(order[0])], order[:30].tolist()):
        given = {**feed, "suppressed_ids": np.array(suppressed, np.int64)} if suppressed else feed
        done = model.run(given, ["next_token"])
        assert done.cost == done.plan.cost
        assert (done.outputs["next_token"].dtype, done.outputs["next_token"].shape) == (np.int64, (2, 1))
        assert np.array_equal(done.outputs["next_token"], best(logits, suppressed))


@pytest.mark.parametrize(("length", "past"), [(1, 4), (4, 2), (5, 0)])
def test_the_token_after_every_position(length: int, past: int) -> None:
    model, feed = MemoryModel(decoder()), prompt(2, length, past)
    session = onnxruntime.InferenceSession(decoder().SerializeToString())
    logits = session.run(["logits"], feed)[0]
    worst = int(logits[0, 0].argmax())
    for suppressed in ([], [worst]):
        given = {**feed, "suppressed_ids": np.array(suppressed, np.int64)}
        done = model.run(given, ["next_tokens"])
        assert done.cost == done.plan.cost
        left = logits.copy()
        left[..., suppressed] = -np.inf
        assert done.outputs["next_tokens"].dtype == np.int64
        assert np.array_equal(done.outputs["next_tokens"], left.argmax(axis=-1))


def test_by_default_the_models_own_outputs(blueprint: Blueprint) -> None:
    done = MemoryModel(decoder()).run(prompt())
    assert list(done.outputs) == ["logits", "present"]
    assert check_outputs(blueprint, None)[0] == ("logits", "present")
    assert not any(step.operator.name == "ArgMax" for step in done.plan.steps)


def test_one_row_of_the_prompt_goes_through_the_block(blueprint: Blueprint) -> None:
    shapes = {name: value.shape for name, value in prompt(1, 20).items()}
    token = compile_plan(blueprint, shapes, None, Selection(("next_token",), ("present",)))
    rows = [step.call.outputs[0].shape for step in token.steps if step.operator.name == "Gelu"]
    assert rows == [(1, 1, 12)]
    logits = compile_plan(blueprint, shapes, None, Selection(("logits",), ("present",)))
    assert [s.call.outputs[0].shape for s in logits.steps if s.operator.name == "Gelu"] == [(1, 20, 12)]
    assert token.cost.bytes < logits.cost.bytes


def test_what_is_derived_is_written_down(blueprint: Blueprint, tmp_path: Path) -> None:
    assert blueprint.derived_inputs == DERIVED_INPUTS
    assert blueprint.derived_outputs == DERIVED_OUTPUTS
    spec = blueprint.inputs["suppressed_ids"]
    assert (spec.secret, spec.vocabulary, spec.dtype) == (False, WORDS, np.int64)
    assert spec.default is not None
    assert spec.default.shape == (0,)
    blueprint.save(tmp_path)
    assert Blueprint.read(tmp_path).digest == blueprint.digest
    policy = json.loads((tmp_path / POLICY).read_text())
    assert policy["derived"]["inputs"] == list(DERIVED_INPUTS)
    assert policy["derived"]["outputs"] == list(DERIVED_OUTPUTS)
    for change in ({"vocabulary": None}, {"hidden": ["present"]}, {"vocabulary": WORDS - 1}):
        changed = {**policy, "derived": {**policy["derived"], **change}}
        (tmp_path / POLICY).write_text(json.dumps(changed))
        with pytest.raises(PlanError, match="does not match its digest"):
            Blueprint.read(tmp_path)


def test_feeds_with_and_without_suppressed_ids(blueprint: Blueprint) -> None:
    feed = prompt()
    assert check_feed(blueprint, feed)["suppressed_ids"].shape == (0,)
    for empty in ([], np.zeros(0, np.int64)):
        assert check_feed(blueprint, {**feed, "suppressed_ids": empty})["suppressed_ids"].dtype == np.int64
    assert list(check_feed(blueprint, {**feed, "suppressed_ids": [3, 1]})["suppressed_ids"]) == [3, 1]
    for wrong, match in (([WORDS], "holds the id 40"), ([-1], "holds the id -1"), ([[1]], "has shape")):
        with pytest.raises(InputError, match=match):
            check_feed(blueprint, {**feed, "suppressed_ids": wrong})
    with pytest.raises(InputError, match="of type float64"):
        check_feed(blueprint, {**feed, "suppressed_ids": np.zeros(0)})


def test_no_pattern_makes_the_suppressed_ids_secret(path: Path) -> None:
    assert prepare(path, Policy(secret_inputs=["*"]))[0].public_inputs == DERIVED_INPUTS[:2]


def test_hiding_the_logits_or_the_token(path: Path) -> None:
    hidden, _ = prepare(path, Policy(hide=["log*"]))
    assert list(hidden.outputs) == ["present", *DERIVED_OUTPUTS]
    assert hidden.hidden == ("logits",)
    assert hidden.digest != prepare(path)[0].digest
    with pytest.raises(InputError, match="no output 'logits'"):
        check_outputs(hidden, ["logits"])
    without, _ = prepare(path, Policy(hide=["next_token"]))
    assert (list(without.outputs), list(without.inputs)) == (["logits", "present"], list(prompt()))
    assert without.derived_outputs == ()
    assert without.hidden == DERIVED_OUTPUTS
    single, _ = prepare(path, Policy(hide=["next_tokens"]))
    assert single.derived_outputs == tuple(name for name in DERIVED_OUTPUTS if name != "next_tokens")
    assert single.derived_inputs == DERIVED_INPUTS
    greedy, _ = prepare(path, Policy(hide=["s*_token", "penalised_token"]))
    assert greedy.derived_inputs == DERIVED_INPUTS[:1]
    unbiased, _ = prepare(path, Policy(hide=["shifted_token", "penalised_token"]))
    assert unbiased.derived_inputs == DERIVED_INPUTS[:2]
    alone, _ = prepare(path, Policy(hide=["logits", "present"]))
    assert check_outputs(alone, None)[0] == ("next_token",)
    with pytest.raises(ConfigError, match="leaves no output"):
        prepare(path, Policy(hide=["*"]))
    with pytest.raises(ConfigError, match="no output matches 'logit'"):
        prepare(path, Policy(hide=["logit"]))


def test_outputs_that_are_kept_and_not_opened(path: Path, blueprint: Blueprint) -> None:
    closed, _ = prepare(path, Policy(keep_only=["pres*"]))
    assert (closed.closed, closed.own_outputs) == (("present",), ["logits"])
    assert closed.digest != blueprint.digest
    assert check_outputs(closed, ["next_token"], ["present"]) == (("next_token",), ("present",))
    with pytest.raises(InputError, match="'present' stays at the servers"):
        check_outputs(closed, ["present"])
    with pytest.raises(InputError, match="takes only values kept at the servers"):
        check_feed(closed, prompt())
    feed = check_feed(closed, prompt(past=0))
    plan = compile_plan(closed, {name: value.shape for name, value in feed.items()})
    body, public = public_part(closed, plan, feed, Selection(("present",)))
    body.id = bytes(16)
    with pytest.raises(InputError, match="'present' stays at the servers"):  # whatever the client checked
        read_public_part(Request("client", body, [as_bytes(b) for b in public], [], b"", (0, 0)), closed)
    with pytest.raises(ConfigError, match="no output could be opened"):
        prepare(path, Policy(hide=["logits", "next_token"], keep_only=["present"]))
    with pytest.raises(ConfigError, match="no output matches 'past'"):
        prepare(path, Policy(keep_only=["past"]))


def test_hidden_logits_at_three_servers(path: Path, tmp_path: Path, in_threads: Any) -> None:
    """An empty array of suppressed ids crosses the wire like any other."""
    share_model(path, tmp_path, hide=["logits"], keep_only=["present"])
    feed = prompt(past=0)
    logits = last_logits(feed)
    with in_threads(tmp_path) as servers, servers.client() as client:
        first = client.run(feed, ["next_token"]).outputs["next_token"]
        assert np.array_equal(first, best(logits, []))
        suppressed = np.unique(first)
        second = client.run({**feed, "suppressed_ids": suppressed}, ["next_token"])
        assert np.array_equal(second.outputs["next_token"], best(logits, suppressed.tolist()))
        assert list(client.run(feed).outputs) == ["next_token"]
        for wrong in ("logits", "present"):
            with pytest.raises(InputError, match=wrong):
                client.run(feed, [wrong])


def test_a_text_of_which_ids_alone_are_opened(path: Path, tmp_path: Path, in_threads: Any) -> None:
    share_model(path, tmp_path, hide=["logits"], keep_only=["present"])
    feed = prompt(1, 4, 0)
    plain = dict(feed)
    with in_threads(tmp_path) as servers, servers.client() as client:
        for _ in range(4):
            done = client.run(feed, ["next_token"], keep=["present"])
            token, cache = done.outputs["next_token"], done.kept["present"]
            assert np.array_equal(token, best(last_logits(plain), []))
            feed = {"input_ids": token, "past_key_values": cache}
            grown = onnxruntime.InferenceSession(decoder().SerializeToString()).run(["present"], plain)[0]
            plain = {"input_ids": token, "past_key_values": grown}
