"""Which inputs continue from closed outputs, judged by names, shapes, the encoder's states, and the owner."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import ValueType
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.closed import STATES, resumed_inputs
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model, resuming

CACHE = ("batch", 4, "past", 16)


def kind(*shape: int | str, dtype: str = "f4") -> ValueType:
    return ValueType(np.dtype(dtype), shape)


def pairs(name: str, *outputs: str) -> tuple[str, ...]:
    found = resumed_inputs({name: kind(*CACHE)}, [(output, kind(*CACHE)) for output in outputs])
    return found.get(name, ())


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_values.11.decoder.value", "present.11.decoder.value"),
        ("past_key_values_3_key", "present_key_values_3_key"),
        ("past_key_values", "present_key_values"),
        ("past_key_values", "present"),
        ("past.0.encoder.key", "present.0.encoder.key"),
        ("past", "present"),
        ("past_0", "present_0"),
        ("pastKey0", "presentKey0"),
        ("past_key_self_2", "present_key_self_2"),
        ("prev_h", "next_h"),
        ("state", "new_state"),
        ("memory", "updated_memory"),
        ("hidden_in", "hidden_out"),
        ("input_state", "output_state"),
        ("h_in", "h_out"),
        ("kv_cache", "kv_cache_out"),
        ("past input.1", "present output.1"),
        ("hidden_states", "hidden_states"),
        ("summary", "summary"),
    ],
)
def test_names_that_belong_together(name: str, output: str) -> None:
    assert pairs(name, "logits", output, "other.0.key") == (output,)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("past_key_values.0.key", "present.0.value"),
        ("past_key_values.0.key", "present.1.key"),
        ("past_key_values.0.encoder.key", "present.0.decoder.key"),
        ("input", "output"),
        ("x", "y"),
        ("x", "hidden"),
        ("input_features", "output_features"),
        ("past", "logits"),
        ("pixel_values", "present"),
        ("", ""),
    ],
)
def test_names_that_do_not(name: str, output: str) -> None:
    assert pairs(name or "a", output or "b") == ()


def test_types_and_shapes_must_fit() -> None:
    inputs = {"past": kind(*CACHE)}
    for other in (kind("batch", 4, "past", 8), kind("batch", 4), kind(*CACHE, dtype="i8")):
        assert resumed_inputs(inputs, [("present", other)]) == {}
    for fitting in (kind("b", 4, "all", 16), kind("b", "heads", "all", "d"), ValueType(np.dtype("f4"), None)):
        assert resumed_inputs(inputs, [("present", fitting)]) == {"past": ("present",)}


def test_an_encoders_states_go_to_its_decoder() -> None:
    made = kind("batch", "sequence", 16)
    inputs = {STATES: kind("batch", "encoder", 16), "other": made}
    closed = [("last_hidden_state", made), ("y", made)]
    assert resumed_inputs(inputs, closed, states=["last_hidden_state"]) == {STATES: ("last_hidden_state",)}
    assert resumed_inputs(inputs, closed) == {}


def test_the_owner_names_what_no_rule_knows() -> None:
    made = kind(1, 8)
    inputs = {"h0": made, "c0": made, "x": made}
    closed = [("hn", made), ("cn", made), ("n", kind(dtype="i8"))]
    assert resumed_inputs(inputs, closed, ["hn", "cn"]) == {}
    assert resumed_inputs(inputs, closed, ["hn", "h0", "c*"]) == {"h0": ("hn", "cn"), "c0": ("hn", "cn")}


# ---- of models ------------------------------------------------------------------------------------------


def model(inputs: dict[str, tuple[int | str, ...]], outputs: dict[str, str]) -> ir.Model:
    """A model whose every output is the negative of an input."""
    shapes = {**inputs, **{output: inputs[source] for output, source in outputs.items()}}
    infos = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()}
    nodes = [helper.make_node("Neg", [source], [output]) for output, source in outputs.items()]
    graph = helper.make_graph(nodes, "g", [infos[n] for n in inputs], [infos[n] for n in outputs])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def test_the_blueprint_lists_them_and_the_digest_covers_them() -> None:
    def made(**changes: Any) -> Blueprint:
        return prepare_model(
            model({"x": (1, 4), "h": (1, 4)}, {"y": "x", "g": "h"}), Policy(**changes), rewrite=False
        )[0]

    outputs_alone, with_input = made(keep_only=["g"]), made(keep_only=["g", "h"])
    assert outputs_alone.resumed == {}
    assert with_input.resumed == {"h": ("g",)}
    assert with_input.inputs["h"].sources == ("g",)
    assert outputs_alone.digest != with_input.digest
    with pytest.raises(ConfigError, match="'h' has no output to continue"):
        made(keep_only=["h"])
    with pytest.raises(ConfigError, match="no output matches 'z'"):
        made(keep_only=["g", "z"])
    assert made(keep_only=["g"], public_inputs=["h"]).resumed == {}


def test_outputs_of_one_graph_close_inputs_of_another() -> None:
    graphs = {
        "encoder_model": model({"features": ("n", 4)}, {"encoded": "features"}),
        "decoder_model": model({STATES: ("n", 4)}, {"logits": STATES, "present.0.key": STATES}),
        "decoder_with_past_model": model(
            {"past_key_values.0.key": ("n", 4), "x": ("n", 4)}, {"logits": "past_key_values.0.key"}
        ),
    }
    patterns = ["present*", "encoded"]
    made = {
        name: prepare_model(graph, Policy(keep_only=patterns), rewrite=False, unmatched=set())[0]
        for name, graph in graphs.items()
    }
    joined = resuming(made, patterns)
    assert [graph.resumed for graph in joined.values()] == [
        {},
        {STATES: ("encoded",)},
        {"past_key_values.0.key": ("present.0.key",)},
    ]
    assert joined["decoder_with_past_model"].digest != made["decoder_with_past_model"].digest
