"""The border of a model: outputs that are inputs, and the types, sizes and names that models use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from onnxpuma.check.single import plain
from onnxpuma.errors import ConfigError, InputError, UnsupportedModelError
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.roles.request.feed import check_feed

X = np.random.default_rng(3).normal(size=(2, 4)).astype(np.float32)


def model_of(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> {text}')


def agrees(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], *, at_client: bool = False) -> None:
    """On shares and in the clear the outputs have the same names, order and values."""
    want = plain(model, feed)
    outputs = MemoryModel(model, at_client=at_client).run(feed).outputs
    assert list(outputs) == [output.name for output in model.graph.output]
    for got, expected in zip(outputs.values(), want, strict=True):
        if expected.dtype == object:
            assert got.tolist() == expected.tolist()
        else:
            np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("at_client", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "g (float[n, 4] x) => (float[n, 4] y, float[n, 4] x) { y = Tanh(x) }",
        "g (float[n, 4] x) => (float[n, 4] x, float[n, 4] y) { y = Identity(x) }",
        "g (float[n, 4] x) => (float[n, 4] x) { }",
        "g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z, float[n, 4] x) { y = Tanh(x)  z = Tanh(x) }",
    ],
)
def test_an_input_that_is_an_output_too(text: str, at_client: bool) -> None:
    agrees(model_of(text), {"x": X}, at_client=at_client)


def test_public_ids_that_are_handed_on() -> None:
    text = """g (float[n, 4] x, int64[n] position_ids) => (int64[n] position_ids, float[n, 4] y)
              { y = Tanh(x) }"""
    agrees(model_of(text), {"x": X, "position_ids": np.arange(2)})


TEXT = """g (float[n, 4] x, string[2] q) => (float[n, 4] z, string[2] t)
    <string[2] s = {"a", "b"}>
    {
        e = Equal(q, s)
        f = Cast<to = 1>(e)
        total = ReduceSum<keepdims = 0>(f)
        y = Tanh(x)
        z = Add(y, total)
        t = Identity(q)
    }"""


def test_text_stays_with_the_client() -> None:
    agrees(model_of(TEXT, 19), {"x": X, "q": np.array(["a", "c"], dtype=object)})


def test_text_beside_something_secret_is_refused() -> None:
    text = """g (float[n, 4] x) => (string[n, 4] z) <float zero = {0}, string a = {"a"}, string b = {"b"}>
              { y = Tanh(x)  low = Less(y, zero)  z = Where(low, a, b) }"""
    with pytest.raises(UnsupportedModelError, match=r"Where.*text"):
        MemoryModel(model_of(text), at_client=False).run({"x": X})


def test_public_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="'q' is text"):
        MemoryModel(model_of(TEXT, 19), public_inputs=["q"])


def test_outputs_without_a_type_or_a_shape() -> None:
    model = model_of("g (float[n, 4] x) => (y, z) { y = Tanh(x)  z = Shape(x) }")
    agrees(model, {"x": X})


ADAPTER = """g (float[n, 4] x, float[4, 2] a, float[2, 3] b) => (float[n, 3] y)
    <float[4, 3] w = {1, -2, 3, 0.5, 1, 2, -1, 1, 0.25, 2, 1, -1},
     float[4, 2] a = {0, 0, 0, 0, 0, 0, 0, 0}, float[2, 3] b = {0, 0, 0, 0, 0, 0}>
    { h = MatMul(x, w)  t = MatMul(x, a)  u = MatMul(t, b)  y = Add(h, u) }"""
FACTORS = {"a": np.arange(8, dtype=np.float32).reshape(4, 2) / 4, "b": np.ones((2, 3), np.float32)}


@pytest.mark.parametrize(
    "patterns", [{"secret_inputs": ["a", "b"]}, {"secret_inputs": ["b"], "public_inputs": ["a"]}]
)
def test_a_factor_that_comes_with_each_request(patterns: dict[str, list[str]]) -> None:
    model, feed = model_of(ADAPTER), {"x": X, **FACTORS}
    want = plain(model, feed)
    runner = MemoryModel(model, at_client=False, **patterns)
    assert {"a", "b"}.isdisjoint(runner.blueprint.weights)
    np.testing.assert_allclose(runner.run(feed).outputs["y"], want[0], atol=1e-3)


def test_a_factor_that_stays_a_weight() -> None:
    runner = MemoryModel(model_of(ADAPTER))
    with pytest.raises(InputError, match="unknown: a, b") as caught:
        runner.plan({"x": X, **FACTORS})
    assert "--secret-input a" in caught.value.hint
    with pytest.raises(InputError, match="no input 'a'") as caught:
        check_feed(runner.blueprint, {"x": X, **FACTORS})
    assert "--secret-input a" in caught.value.hint


@pytest.mark.parametrize("at_client", [True, False])
@pytest.mark.parametrize(
    "loop",
    [
        """y = Loop(trips, going, x) <body = b (int64 i, bool c, float[n, 4] s) => (bool d, float[n, 4] t)
           { d = Identity(c)  t = Tanh(s) }>""",
        """y = If(going) <then_branch = t () => (float[n, 4] a) { a = Tanh(x) },
                          else_branch = e () => (float[n, 4] b) { b = Identity(x) }>""",
    ],
    ids=["Loop", "If"],
)
def test_control_that_the_client_could_run(loop: str, at_client: bool) -> None:
    text = f"g (float[n, 4] x, bool going, int64 trips) => (float[n, 4] y) {{ {loop} }}"
    feed = {"x": X, "going": np.array(True), "trips": np.array(2)}
    want = plain(model_of(text), feed)
    runner = MemoryModel(model_of(text), public_inputs=["going", "trips"], at_client=at_client)
    np.testing.assert_allclose(runner.run(feed).outputs["y"], want[0], atol=2e-3)


def test_a_number_alone() -> None:
    agrees(model_of("g (float x) => (float y) { y = Tanh(x) }"), {"x": np.array(0.3, np.float32)})


def test_a_model_that_takes_nothing() -> None:
    agrees(model_of("g () => (float[2] y) <float[2] w = {0.5, 0.7}> { y = Tanh(w) }"), {})
