"""Shapes and indices that fit a model's declarations but not its operators are refused before a run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxpuma.errors import InputError, OnnxpumaError, UnsupportedModelError
from onnxpuma.roles.local.memory import MemoryModel

X = np.ones((2, 5), np.float32)
IMAGE = np.ones((1, 4, 5, 5), np.float32)
KERNEL = "<float[1,3,2,2] w = {1,2,3,4,5,6,7,8,1,2,3,4}>"
SIX = np.ones((3, 5), np.float32)
MISFITS = {
    "product": (
        "(float[n,m] x) => (float[n,2] y) <float[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }", {}, "MatMul",
    ),
    "update": (
        "(float[n,m] x, float[1,m] b) => (float[n,m] y) <int64[1,1] i = {2}> { y = ScatterND(x, i, b) }",
        {"b": SIX[:1]},
        "index 2 is beyond",
    ),
    "sum": ("(float[n,m] x, float[k] b) => (float[n,m] y) { y = Add(x, b) }", {"b": SIX[0, :3]}, "Add"),
    "shape": ("(float[n,m] x) => (float[a,b] y) <int64[2] s = {3,-1}> { y = Reshape(x, s) }", {}, "Reshape"),
    "ends": (
        "(float[n,m] x, float[k,l] b) => (float[n,c] y) { y = Concat <axis=1> (x, b) }", {"b": SIX}, "Concat",
    ),
    "channels": (f"(float[n,c,h,w] x) => (float[n,d,a,b] y) {KERNEL} {{ y = Conv(x, w) }}", {}, "4 channels"),
    "channels back": (
        f"(float[n,c,h,w] x) => (float[n,d,a,b] y) {KERNEL} {{ y = ConvTranspose(x, w) }}", {}, "4 channels",
    ),
    "best of few": (
        "(float[n,m] x) => (float[n,k] v, int64[n,k] i) <int64[1] k = {9}> { v, i = TopK(x, k) }", {}, "TopK",
    ),
    "row": ("(float[n,m] x) => (float[m] y) <int64 i = {7}> { y = Gather(x, i) }", {}, "index 7 is beyond"),
    "element": (
        "(float[n,m] x) => (float[1,1] y) <int64[1,1] i = {-3}> { y = GatherElements(x, i) }",
        {},
        "index -3 is beyond",
    ),
    "place": (
        "(float[n,m] x) => (float[1] y) <int64[1,2] i = {1, 5}> { y = GatherND(x, i) }",
        {},
        "index 5 is beyond",
    ),
    "axis of one": ("(float[n,m] x) => (float[a] y) <int64[1] a = {1}> { y = Squeeze(x, a) }", {}, "Squeeze"),
}  # fmt: skip


def _model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> g {text}')


@pytest.mark.parametrize("name", MISFITS)
def test_refused_by_the_name_of_the_node(name: str) -> None:
    text, more, said = MISFITS[name]
    feed = {"x": IMAGE if "channels" in name else X, **more}
    runner = MemoryModel(_model(text), secret_inputs=list(feed), at_client=False)
    with pytest.raises(OnnxpumaError, match=said):
        runner.plan(feed)


def test_one_symbol_stands_for_one_number() -> None:
    model = _model("(float[n,m] x, float[n,k] b) => (float[n,m] y) { y = Add(x, b) }")
    with pytest.raises(InputError, match="n = 2"):
        MemoryModel(model).plan({"x": X, "b": SIX})


TOO_SMALL = {
    "a window": "(float[n,c,t] x) => (float[n,d,u] y) <float[1,1,7] w = {1,2,3,4,5,6,7}> { y = Conv(x, w) }",
    "a window by less than a step": """(float[n,c,t] x) => (float[n,d,u] y) <float[1,1,6] w = {1,2,3,4,5,6}>
        { y = Conv <strides = [5]> (x, w) }""",
    "a window with gaps": """(float[n,c,t] x) => (float[n,d,u] y) <float[1,1,3] w = {1,2,3}>
        { y = Conv <strides = [5], dilations = [3], pads = [1, 0]> (x, w) }""",
    "a pool": "(float[n,c,t] x) => (float[n,c,u] y) { y = MaxPool <kernel_shape = [7]> (x) }",
    "a mean": "(float[n,c,t] x) => (float[n,c,u] y) { y = AveragePool <kernel_shape = [6]> (x) }",
    "after another": """(float[n,c,t] x) => (float[n,c,v] z)
        <float[1,1,3] w = {1,2,3}, float[1,1,4] v = {1,2,3,4}> { y = Conv(x, w)  z = Conv(y, v) }""",
}  # fmt: skip


@pytest.mark.parametrize("text", TOO_SMALL.values(), ids=TOO_SMALL)
def test_what_is_smaller_than_a_window(text: str) -> None:
    runner = MemoryModel(_model(text), at_client=False)
    with pytest.raises(UnsupportedModelError, match="too small for its window") as caught:
        runner.plan({"x": np.ones((1, 1, 5), np.float32)})
    assert "other sizes may fit" in caught.value.hint


@pytest.mark.parametrize("at_client", [True, False])
@pytest.mark.parametrize("batch", [2, 3])
def test_a_shape_made_for_one_batch(batch: int, at_client: bool) -> None:
    text = "(float[n,4] x) => (float[a,b] y) <int64[2] s = {1, 4}> { h = Reshape(x, s)  y = Tanh(h) }"
    runner = MemoryModel(_model(text), at_client=at_client)
    with pytest.raises(UnsupportedModelError, match=f"turns {batch}x4 into 1x4"):
        runner.plan({"x": np.ones((batch, 4), np.float32)})
    runner.plan({"x": np.ones((1, 4), np.float32)})


def test_a_batch_of_nothing() -> None:
    runner = MemoryModel(_model("(float[n,4] x) => (float[n,4] y) { y = Tanh(x) }"))
    with pytest.raises(InputError, match="which is empty") as caught:
        runner.plan({"x": np.ones((0, 4), np.float32)})
    assert "a batch of one" in caught.value.hint


def test_more_words_than_positions() -> None:
    text = """(int64[b,n] ids) => (float[b,n,2] y) <float[9,2] table = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9},
              float[3,2] places = {1,2,3,4,5,6}, int64 zero = {0}, int64 one = {1}>
              { words = Gather(table, ids)  s = Shape(ids)  length = Gather(s, one)
                positions = Range(zero, length, one)  at = Gather(places, positions)  y = Add(words, at) }"""
    runner = MemoryModel(_model(text), at_client=False)
    with pytest.raises(UnsupportedModelError, match=r"Gather.*idx=3") as caught:
        runner.plan({"ids": np.ones((1, 4), np.int64)})
    assert "longer than the model has positions" in caught.value.hint


def test_other_sizes_are_no_way_out_of_what_is_not_supported() -> None:
    text = (
        "(float[n,m] x) => (int64[n] y) <int64 k = {3}> { a = ArgMax <axis=1,keepdims=0> (x)  y = Mul(a, k) }"
    )
    with pytest.raises(UnsupportedModelError, match="secret integers") as caught:
        MemoryModel(_model(text), at_client=False).plan({"x": X})
    assert "other sizes" not in caught.value.hint
