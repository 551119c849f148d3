"""Masks, fillers and sentinels of every kind: public ones are exact, secret ones far enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpuma.check.single import plain
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.local.memory import MemoryModel

LOWEST = float(np.finfo(np.float32).min)
BOTH = pytest.mark.parametrize("public", [True, False], ids=["public", "secret"])
KEEP = np.array([[True, False, True, True], [True, True, False, False], [False, False, True, True]])


def model_of(text: str, constants: dict[str, Any], opset: int = 20) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> g {text}')
    arrays = {n: np.asarray(v, np.float32 if isinstance(v, float) else None) for n, v in constants.items()}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in arrays.items())
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    return model


def check(
    text: str,
    feed: dict[str, np.ndarray],
    public: Sequence[str] | bool = (),
    within: float = 1e-4,
    hide: Sequence[str] = (),
    shown: Sequence[str] = (),
    **constants: Any,
) -> MemoryModel:
    """Compare outputs on shares with those in the clear; infinity becomes at least 2^13."""
    names = [n for n in feed if n.startswith("keep")] if public is True else list(public or ())
    model = model_of(text, constants)
    hidden = [name for name in feed if name not in names]
    runner = MemoryModel(
        model, public=shown, public_inputs=names, secret_inputs=hidden, at_client=False, hide=hide
    )
    done = runner.run(feed)
    assert done.cost == done.plan.cost
    for got, want in zip(done.outputs.values(), plain(model, feed), strict=True):
        real = np.isfinite(want)
        size = max(1.0, float(np.abs(want[real]).max(initial=0.0)))
        assert np.abs(got[real].astype(np.float64) - want[real]).max(initial=0.0) <= within * size
        far = np.isinf(want)
        assert np.all(np.sign(got[far]) == np.sign(want[far]))
        assert np.all(np.abs(got[far]) >= 2.0**13)
    return runner


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3, (3, 4)).astype(np.float32)


HEAD = "(float[3, 4] x, bool[3, 4] keep) => (float[?, ?] y)"
LOWS = [-1e4, -65504.0, -1e9, LOWEST, -np.inf]


@BOTH
@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize(
    "after",
    [
        "s = Reshape(m, shape) y = Softmax(s)",
        "s = Transpose <perm = [1, 0]> (m) y = Softmax <axis = 0> (s)",
        "s = Concat <axis = 1> (m, x) y = Softmax(s)",
        "t = ReduceMax <keepdims = 1> (m, last) s = Sub(m, t) y = Softmax(s)",
        "t = ReduceMax <keepdims = 1> (m, last) s = Sub(m, t) e = Exp(s) n = ReduceSum(e, last)"
        " y = Div(e, n)",
        "s = Mul(m, quarter) y = Softmax(s)",
        "s = Add(m, x) y = Softmax(s)",
    ],
    ids=["reshape", "transpose", "concat", "minus max", "by hand", "scale", "add"],
)
def test_between_a_filler_and_its_softmax(x: np.ndarray, low: float, after: str, public: bool) -> None:
    constants = {"shape": np.array([1, 3, 4]), "last": np.array([-1]), "quarter": 0.25}
    used = {n: v for n, v in constants.items() if n in after}
    head = HEAD.replace("?, ?", "?, ?, ?") if "shape" in after else HEAD
    check(f"{head} {{ m = Where(keep, x, low) {after} }}", {"x": x, "keep": KEEP}, public, low=low, **used)


@BOTH
@pytest.mark.parametrize("low", LOWS)
def test_three_masks_each_an_addition(x: np.ndarray, low: float, public: bool) -> None:
    text = """(float[3, 4] x, bool[3, 4] keep, bool[3, 4] keep2, bool[3, 4] keep3) => (float[3, 4] y) {
        a = Where(keep, zero, low) b = Where(keep2, zero, low) c = Where(keep3, zero, low)
        s = Add(x, a) t = Add(s, b) u = Add(t, c) y = Softmax(u) }"""
    masks = {"keep": KEEP, "keep2": KEEP | (np.arange(4) < 2), "keep3": KEEP | (np.arange(4) > 1)}
    check(text, {"x": x, **masks}, public, low=low, zero=0.0)


@pytest.mark.parametrize("low", LOWS)
@pytest.mark.parametrize("how", ["Where(keep, x, low)", "Add(x, a)"])
def test_a_row_that_is_masked_whole(x: np.ndarray, low: float, how: str) -> None:
    """With a finite filler, the results of single precision: equal weights, or those of the scores."""
    keep = KEEP & (np.arange(3)[:, None] != 1)
    nodes = f"a = Where(keep, zero, low) m = {how} p = Softmax(m) n = IsNaN(p) y = Where(n, zero, p)"
    within = 1e-4 if low < -1e9 else 2e-2  # single precision rounds the scores beside the filler
    check(f"{HEAD} {{ {nodes} }}", {"x": x, "keep": keep}, True, within, low=low, zero=0.0)


@BOTH
@pytest.mark.parametrize("guard", [True, False], ids=["guarded", "bare"])
@pytest.mark.parametrize("shown", [True, False], ids=["shown", "fused"])
def test_an_attention_with_rows_that_are_masked_whole(guard: bool, shown: bool, public: bool) -> None:
    rng = np.random.default_rng(3)
    feed = {name: rng.normal(size=(2, 2, 4, 8)).astype(np.float32) for name in "qkv"}
    feed["keep"] = rng.random((2, 1, 4, 4)) < 0.6
    feed["keep"][..., 1, :] = False
    text = f"""(float[2, 2, 4, 8] q, float[2, 2, 4, 8] k, float[2, 2, 4, 8] v, bool[2, 1, 4, 4] keep)
        => (float[2, 2, 4, 8] y{", float[2, 2, 4, 4] g" if shown else ""}) {{
        t = Transpose <perm = [0, 1, 3, 2]> (k) a = MatMul(q, t) s = Mul(a, scale)
        m = Where(keep, s, low) p = Softmax(m) n = IsNaN(p) g = Where(n, zero, p)
        y = MatMul({"g" if guard else "p"}, v) }}"""
    low = -np.inf if guard else -1e9
    check(text, feed, public, low=low, zero=0.0, scale=0.125, within=4e-4)


@BOTH
@pytest.mark.parametrize("low", [-1e9, LOWEST])
def test_a_mask_scaled_together_with_products(x: np.ndarray, low: float, public: bool) -> None:
    """The product to which it is added was planned before the mask, whose scale leaves no room."""
    text = f"""{HEAD} {{ h = MatMul(x, w) a = Where(keep, zero, low) u = Add(h, a) m = Mul(u, half)
        y = Softmax(m) }}"""
    check(text, {"x": x, "keep": KEEP}, public, low=low, zero=0.0, half=0.5, w=np.eye(4, dtype=np.float32))


@BOTH
@pytest.mark.parametrize("high", [1e9, np.inf])
def test_what_is_far_above_takes_all(x: np.ndarray, high: float, public: bool) -> None:
    keep = np.ones((3, 4), bool)
    keep[[0, 1, 2], [2, 0, 3]] = False
    text = f"{HEAD} {{ m = Where(keep, x, high) y = Softmax(m) }}"
    if np.isfinite(high):  # with infinity the result in the clear is NaN
        check(text, {"x": x, "keep": keep}, public, high=high)
    text = f"{HEAD.replace('?, ?', '3, 1')} {{ m = Where(keep, x, high) y = ReduceMax (m, last) }}"
    check(text, {"x": x, "keep": keep}, public, high=high, last=np.array([-1]))


@pytest.mark.parametrize("keys", [300, 1500])
def test_a_long_slope(keys: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (3, keys)).astype(np.float32)
    slopes = np.array([[0.7], [0.3], [0.05]], np.float32) * (np.arange(keys, dtype=np.float32) - keys)
    head = f"(float[3, {keys}] x, float[3, {keys}] keep) => (float[3, {keys}] y)"
    text = f"{head} {{ s = Add(x, keep) y = Softmax(s) }}"
    check(text, {"x": scores, "keep": slopes}, True)


@pytest.mark.parametrize("low", [-1e9, LOWEST, -np.inf])
def test_a_mask_of_numbers_is_given_in_secret(low: float) -> None:
    feed = {
        "x": np.array([[0, -10, 600, 3], [-700, 1, 300, 3]], np.float32),
        "m": np.array([[0, 0, low, 0], [low, 0, low, 0]], np.float32),
    }
    text = "(float[2, 4] x, float[2, 4] m) => (float[2, 4] y) { s = Add(x, m) y = Softmax(s) }"
    check(text, feed)
    check(text, feed, ["m"])


@pytest.mark.parametrize("low", [-1e9, -np.inf])
def test_a_mask_beside_a_bias_of_weights(x: np.ndarray, low: float) -> None:
    bias = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
    text = f"""{HEAD} {{ a = Where(keep, zero, low) b = Add(a, bias) s = Add(x, b) y = Softmax(s) }}"""
    for public in (True, False):
        check(text, {"x": x, "keep": KEEP}, public, low=low, zero=0.0, bias=bias)


@BOTH
@pytest.mark.parametrize("length", [5, 1100])
@pytest.mark.parametrize("low", [-1e4, -1e9, -np.inf])
def test_suppressed_tokens_lose_whatever_the_logits_are(length: int, low: float, public: bool) -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(-1000, 5, (2, length)).astype(np.float32)
    keep = np.ones(length, bool)
    keep[logits.argmax(axis=-1)] = False
    text = f"""(float[2, {length}] x, bool[{length}] keep) => (int64[2] y) {{
        m = Where(keep, x, low) y = ArgMax <axis = -1, keepdims = 0> (m) }}"""
    check(text, {"x": logits, "keep": keep}, public, low=low)


@pytest.mark.parametrize("low", [-1e4, -1e9, LOWEST])
@pytest.mark.parametrize("kind", ["int64", "float"])
def test_a_mask_that_is_a_product(x: np.ndarray, low: float, kind: str) -> None:
    """Secret zeros and ones, of any type, times a large negative number."""
    text = f"""(float[3, 4] x, {kind}[3, 4] m) => (float[3, 4] y, int64[3] best) {{
        f = Cast <to = 1> (m) d = Sub(one, f) a = Mul(d, low) s = Add(x, a)
        y = Softmax(s) best = ArgMax <axis = 1, keepdims = 0> (s) }}"""
    mask = KEEP.astype(np.int64 if kind == "int64" else np.float32)
    check(text, {"x": x, "m": mask}, low=low, one=1.0)


@pytest.mark.parametrize("low", [-1e9, -np.inf])
def test_the_largest_that_is_kept(x: np.ndarray, low: float) -> None:
    """A maximum drops the values that a secret mask moves far out, and its result can be used as usual."""
    text = f"""{HEAD} {{ m = Where(keep, x, low) t = ReduceMax <keepdims = 1> (m, last) y = Gelu(t) }}"""
    check(text, {"x": x, "keep": KEEP}, low=low, last=np.array([-1]), within=3e-3)


def test_suppression_by_scattered_infinity() -> None:
    logits = np.random.default_rng(5).normal(-1000, 5, (1, 6)).astype(np.float32)
    text = """(float[1, 6] x) => (int64[1] y, float[1, 6] p) {
        m = ScatterElements <axis = 1> (x, ids, low)
        y = ArgMax <axis = -1, keepdims = 0> (m) p = Softmax(m) }"""
    check(
        text, {"x": logits}, shown=["low"], ids=np.array([[0, 3]]), low=np.full((1, 2), -np.inf, np.float32)
    )


@BOTH
@pytest.mark.parametrize("high", [1e9, -LOWEST, np.inf])
@pytest.mark.parametrize(
    "end",
    [
        "y = ReduceMin <keepdims = 0> (m, last)",
        "i = ArgMin <axis = 1, keepdims = 0> (m) y = Cast <to = 1> (i)",
        "v, i = TopK <axis = 1, largest = 0> (m, two) y = ReduceMax <keepdims = 0> (v, last)",
        "v, i = TopK <axis = 1, largest = 0> (m, two) j = ReduceMax <keepdims = 0> (i, last)"
        " y = Cast <to = 1> (j)",
    ],
    ids=["ReduceMin", "ArgMin", "TopK", "places"],
)
def test_sentinels_that_mean_not_this_one(x: np.ndarray, high: float, end: str, public: bool) -> None:
    used = {n: np.array([v]) for n, v in (("last", 1), ("two", 2)) if n in end}
    text = f"{HEAD.replace('?, ?', '3')} {{ m = Where(keep, x, high) {end} }}"
    check(text, {"x": x, "keep": KEEP}, public, high=high, **used)


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Sigmoid(m)", "y = Exp(m)", "y = Relu(m)", "y = Tanh(m)", "y = Clip(m, least, most)",
        "y = Max(m, low)", "y = Min(m, most)", "b = Less(m, least) y = Cast <to = 1> (b)",
        "a = Softmax(x) y = Max(m, a)", "y = Neg(m)", "y = Abs(m)", "y = LeakyRelu(m)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("low", [-1e4, -65504.0, LOWEST, -np.inf])
def test_single_elements_that_are_publicly_far(x: np.ndarray, nodes: str, low: float) -> None:
    used = {n: v for n, v in {"least": -2.0, "most": 1.5}.items() if n in nodes}
    text = f"{HEAD} {{ m = Where(keep, x, low) {nodes} }}"
    check(text, {"x": x, "keep": KEEP}, True, within=3e-3, low=low, shown=[*used], **used)


def test_windows_padded_with_infinity() -> None:
    image = np.random.default_rng(6).normal(-5, 1, (1, 1, 4, 4)).astype(np.float32)
    text = """(float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) {
        p = Pad(x, pads, low) y = MaxPool <kernel_shape = [3, 3]> (p) }"""
    check(text, {"x": image}, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), low=-np.inf)


@pytest.mark.parametrize("origin", [1.5e8, -3e9, 2.5e11])
def test_large_numbers_are_numbers(origin: float) -> None:
    """In real units: a large number may be subtracted if the rest is small."""
    text = "(float[1, 3] x) => (float[1, 3] y) { a = Sub(x, c) y = Div(a, s) }"
    x = np.array([[1e5, -2e5, 5e4]], np.float32)
    check(text, {"x": x}, c=origin, s=abs(origin) / 1.5, shown=["*"], within=1e-2)


@pytest.mark.parametrize("low", [-1e9, LOWEST, -np.inf])
@pytest.mark.parametrize("ids", ["public", "secret"])
def test_masked_places_of_a_table(low: float, ids: str) -> None:
    rng = np.random.default_rng(7)
    table = rng.normal(size=9).astype(np.float32)
    table[[0, 4]] = low
    text = """(float[3, 4] x, int64[3, 4] ids) => (float[3, 4] y) {
        b = Gather(table, ids) s = Add(x, b) y = Softmax(s) }"""
    feed = {
        "x": rng.normal(size=(3, 4)).astype(np.float32),
        "ids": rng.permuted(np.tile(np.arange(4), (3, 1)), axis=1),
    }
    runner = check(text, feed, ["ids"] if ids == "public" else [], table=table)
    weights = [name for name in runner.blueprint.weights if name.startswith("table")]
    assert sorted(weights) == ["table_kept", "table_masked"]


@pytest.mark.parametrize(
    ("nodes", "public"),
    [
        ("y = LayerNormalization(m, ones)", True),
        ("y = LayerNormalization(m, ones)", False),
        ("y = Sin(m)", False),
        ("t = Transpose(x) y = MatMul(m, t)", True),
    ],
)
def test_what_cannot_read_a_far_number_is_named(x: np.ndarray, nodes: str, public: bool) -> None:
    text = f"{HEAD} {{ m = Where(keep, x, low) {nodes} }}"
    constants = {"ones": np.ones(4, np.float32)} if "ones" in nodes else {}
    with pytest.raises(UnsupportedModelError, match=r"further (out )?than it can read: .*mask"):
        check(text, {"x": x, "keep": KEEP}, public, low=-np.inf, **constants)
