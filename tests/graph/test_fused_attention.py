"""onnxruntime's attention operators become the standard's, with every form of mask and cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from onnxpuma.graph.canonicalise import canonicalise
from onnxpuma.graph.load import load
from onnxpuma.graph.model import to_graph

F, I32, I64 = np.float32, np.int32, np.int64
B, S, N, H, P = 2, 5, 4, 6, 3  # batch, sequence, heads, size of a head, length of the cache
PADDED = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], I32)
WITH_CACHE = np.concatenate([np.ones((B, P), I32), PADDED], axis=1)


def info(name: str, a: np.ndarray, fixed: int) -> onnx.ValueInfoProto:
    """A type with symbols for all but the last `fixed` axes."""
    shape = [f"{name}{k}" if k < a.ndim - fixed else d for k, d in enumerate(a.shape)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), shape)


def build(
    op: str,
    inputs: dict[str, Any],
    weights: dict[str, np.ndarray],
    outputs: tuple[str, ...],
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one onnxruntime node; an input that is None and not in `weights` is absent."""
    feeds = {n: a for n, a in inputs.items() if a is not None}
    names = [n if n in feeds or n in weights else "" for n in inputs]
    node = helper.make_node(op, names, outputs, name="node", domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [info(n, a, 1 if a.ndim == 3 else 0) for n, a in feeds.items()],
        [onnx.ValueInfoProto(name=o) for o in outputs if o],
        [onnx.numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    for o in graph.output:
        o.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8), feeds


@pytest.fixture
def normal(random: np.random.Generator) -> Any:
    return lambda *shape: random.normal(size=shape).astype(F)


PROJECTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "scaled": ({}, {"scale": 0.3}),
    "causal": ({}, {"unidirectional": 1}),
    "mask": ({"mask": PADDED}, {}),
    "mask of pairs": ({"mask": np.tile(np.tri(S, dtype=I32), (B, 1, 1))}, {}),
    "lengths": ({"mask": np.array([3, 5], I32)}, {}),
    "ends and starts": ({"mask": np.array([5, 4, 2, 0], I32)}, {}),
    "lengths and sums": ({"mask": np.array([3, 5, 0, 5, 10, 0, 3, 8], I32)}, {}),
    "causal and mask": ({"mask": PADDED}, {"unidirectional": 1}),
    "bias": ({"added": (B, N, S, S)}, {}),
    "bias and mask": ({"added": (1, N, S, S), "mask": PADDED}, {}),
    "cache": ({"past": (2, B, N, P, H)}, {}),
    "causal and cache": ({"past": (2, B, N, P, H)}, {"unidirectional": 1}),
    "causal, cache and mask": ({"past": (2, B, N, P, H), "mask": WITH_CACHE}, {"unidirectional": 1}),
}


@pytest.mark.parametrize("case", PROJECTED)
def test_with_projection(rewritten: Any, normal: Any, case: str) -> None:
    inputs, attributes = PROJECTED[case]
    given = {n: normal(*a) if isinstance(a, tuple) else a for n, a in inputs.items()}
    named = {"x": normal(B, S, 8), "w": None, "b": None}
    named |= {n: given.get(n) for n in ("mask", "past", "added")}
    weights = {"w": normal(8, 3 * N * H), "b": normal(3 * N * H)}
    outputs = ("y", "present") if "past" in given else ("y",)
    model, feeds = build("Attention", named, weights, outputs, num_heads=N, **attributes)
    graph, report = rewritten(model, feeds, atol=1e-4)
    assert report.after["Attention"] == report.after["MatMul"] == 1
    assert report.missed == {}
    attention = next(n for n in graph.nodes if n.op == "Attention")
    assert ("mask" in case or "lengths" in case or "ends" in case) <= (len(attention.inputs) == 4)


def test_values_of_another_size(rewritten: Any, normal: Any) -> None:
    weights = {"w": normal(8, 2 * N * H + N * 3), "b": normal(2 * N * H + N * 3)}
    sizes = [N * H, N * H, N * 3]
    inputs = {"x": normal(B, S, 8), "w": None, "b": None}
    model, feeds = build("Attention", inputs, weights, ("y",), num_heads=N, qkv_hidden_sizes=sizes)
    graph, _ = rewritten(model, feeds)
    assert graph.nodes[-1].attributes["q_num_heads"] == N


THREE = dict.fromkeys("qkv", (B, S, N * H))
OF_ENCODER = {"q": (B, S, N * H), "k": (B, N, 7, H), "v": (B, N, 7, H)}
CACHE = {"past_key": (B, N, P, H), "past_value": (B, N, P, H)}
MULTI_HEAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": (THREE, {}),
    "scaled": (THREE, {"scale": 0.3}),
    "causal": (THREE, {"unidirectional": 1}),
    "keys of an encoder": (OF_ENCODER, {}),
    "other keys": ({"q": (B, S, N * H), "k": (B, 7, N * H), "v": (B, 7, N * H)}, {}),
    "mask": ({**THREE, "mask": PADDED}, {}),
    "lengths": ({**THREE, "mask": np.array([3, 5], I32)}, {}),
    "bias": ({**THREE, "added": (B, N, S, S)}, {}),
    "cache": ({**THREE, **CACHE}, {}),
    "cache and mask": ({**THREE, **CACHE, "mask": WITH_CACHE}, {}),
    "causal and cache": ({**THREE, **CACHE}, {"unidirectional": 1}),
}


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("case", MULTI_HEAD)
def test_multi_head(rewritten: Any, normal: Any, case: str, projected: bool) -> None:
    shapes, attributes = MULTI_HEAD[case]
    given = {n: normal(*a) if isinstance(a, tuple) else a for n, a in shapes.items()}
    names = ("q", "k", "v", "bias", "mask", "added", "past_key", "past_value")
    inputs = {n: given.get(n) for n in names}
    weights = {"bias": normal(3 * N * H)} if projected else {}
    outputs = ("y", "present_key", "present_value") if "past_key" in given else ("y",)
    model, feeds = build("MultiHeadAttention", inputs, weights, outputs, num_heads=N, **attributes)
    _, report = rewritten(model, feeds, atol=1e-4)
    assert report.after["Attention"] == 1
    assert report.missed == {}


@pytest.mark.parametrize("packed", [("q", "k", "v"), ("k", "v")])
def test_multi_head_packed(normal: Any, run_model: Any, packed: tuple[str, ...]) -> None:
    """onnxruntime runs packed tensors only on other devices, so they are compared with separate ones."""
    three = {n: normal(B, S, N * H) for n in "qkv"}
    apart, feeds = build("MultiHeadAttention", three, {}, ("y",), num_heads=N)
    together = np.stack([three[n].reshape(B, S, N, H) for n in packed], axis=3)
    given = {packed[0]: together, **({} if len(packed) == 3 else {"q": three["q"]})}
    proto, packed_feeds = build(
        "MultiHeadAttention", {n: given.get(n) for n in "qk"}, {}, ("y",), num_heads=N
    )
    model = ir.from_proto(proto)
    assert canonicalise(model).after["Attention"] == 1
    found = run_model(ir.to_proto(model), packed_feeds)
    np.testing.assert_allclose(found[0], run_model(apart, feeds)[0], atol=1e-5)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("axes", [3, 4])
@pytest.mark.parametrize("offset", [False, True])
def test_rotary(rewritten: Any, normal: Any, random: Any, interleaved: int, axes: int, offset: bool) -> None:
    x = normal(B, S, N * H) if axes == 3 else normal(B, N, S, H)
    angles = random.uniform(-3, 3, (20, H // 2)).astype(F)
    positions = np.array([4], I64) if offset else random.integers(0, 20, (B, S))
    inputs = {"x": x, "positions": positions, "cos": None, "sin": None}
    weights = {"cos": np.cos(angles), "sin": np.sin(angles)}
    model, feeds = build("RotaryEmbedding", inputs, weights, ("y",), interleaved=interleaved)
    graph, report = rewritten(model, feeds)
    assert report.after["RotaryEmbedding"] == 1
    assert len(graph.nodes[-1].inputs) == 3


KV = 2
GROUPED: dict[str, tuple[str, int, dict[str, Any]]] = {
    "prompt": ("separate", 0, {}),
    "prompt packed": ("packed", 0, {}),
    "prompt rotated": ("packed", 0, {"do_rotary": 1}),
    "prompt rotated interleaved": ("separate", 0, {"do_rotary": 1, "rotary_interleaved": 1}),
    "prompt rotated in part": ("separate", 0, {"do_rotary": 1, "turned": 16}),
    "cache rotated in part": ("packed", P, {"do_rotary": 1, "turned": 16, "rotary_interleaved": 1}),
    "cache": ("separate", P, {}),
    "cache rotated": ("packed", P, {"do_rotary": 1}),
    "window": ("separate", P, {"local_window_size": 2}),
    "prompt window": ("separate", 0, {"local_window_size": 3}),
    "scaled": ("separate", P, {"scale": 0.3}),
    "softcap": ("separate", 0, {"softcap": 2.0}),
}


@pytest.mark.parametrize("case", GROUPED)
def test_group_query(rewritten: Any, normal: Any, random: Any, case: str) -> None:
    kind, past, attributes = GROUPED[case]
    new = 1 if past else S
    size = 32 if "turned" in attributes else 16
    packed = kind == "packed"
    inputs = {
        "q": normal(B, new, (N + 2 * KV if packed else N) * size),
        "k": None if packed else normal(B, new, KV * size),
        "v": None if packed else normal(B, new, KV * size),
        "past_key": normal(B, KV, past, size),
        "past_value": normal(B, KV, past, size),
        "last": np.full(B, past + new - 1, I32),
        "total": np.array(past + new, I32),
    }
    weights = {}
    if "do_rotary" in attributes:
        turned = attributes.get("turned", size)
        angles = random.uniform(-3, 3, (32, turned // 2)).astype(F)
        attributes = {name: value for name, value in attributes.items() if name != "turned"}
        inputs |= {"cos": None, "sin": None}
        weights = {"cos": np.cos(angles), "sin": np.sin(angles)}
    outputs = ("y", "present_key", "present_value")
    heads = {"num_heads": N, "kv_num_heads": KV}
    model, feeds = build("GroupQueryAttention", inputs, weights, outputs, **heads, **attributes)
    graph, report = rewritten(model, feeds, atol=1e-4)
    assert report.missed == {}
    assert report.after["Attention"] == 1
    assert report.after.get("RotaryEmbedding", 0) == (2 if "do_rotary" in attributes else 0)
    assert graph.nodes


@pytest.mark.parametrize(("room", "lasts"), [(4, (2, 4)), (4, (1, 2)), (6, (5, 3)), (6, (6, 0))])
@pytest.mark.parametrize("attributes", [{}, {"local_window_size": 2}, {"causal": 0}], ids=str)
def test_caches_of_unequal_length(
    normal: Any, run_model: Any, room: int, lasts: tuple[int, int], attributes: dict[str, int]
) -> None:
    """New keys follow the valid old ones; the rest of the cache is not read."""
    inputs = {
        "q": normal(B, 1, N * 16),
        "k": normal(B, 1, KV * 16),
        "v": normal(B, 1, KV * 16),
        "past_key": normal(B, KV, room, 16),
        "past_value": normal(B, KV, room, 16),
        "last": np.array(lasts, I32),
        "total": np.array(max(lasts) + 1, I32),
    }
    heads = {"num_heads": N, "kv_num_heads": KV, **attributes}
    before, feeds = build("GroupQueryAttention", inputs, {}, ("y", "present_key", "present_value"), **heads)
    model = ir.from_proto(before)
    canonicalise(model)
    found, was = run_model(ir.to_proto(model), feeds), run_model(before, feeds)
    np.testing.assert_allclose(found[0], was[0], atol=1e-5)
    for now, then in zip(found[1:], was[1:], strict=True):
        assert now.shape == then.shape
        for row, last in enumerate(lasts):
            np.testing.assert_array_equal(now[row, :, : last + 1], then[row, :, : last + 1])


def test_what_is_left_alone_and_why(normal: Any) -> None:
    three = {"q": normal(B, S, N * H), "k": normal(B, S, N * H), "v": normal(B, S, N * H)}
    model, _ = build("MultiHeadAttention", three, {}, ("y", "", "", "weights"), num_heads=N)
    assert canonicalise(ir.from_proto(model)).missed == {"node": "its output 3 is read"}
    shared = {"past_present_share_buffer": 1}
    inputs = {"x": normal(B, S, 8), "w": None, "b": None}
    weights = {"w": normal(8, 3 * N * H), "b": normal(3 * N * H)}
    model, _ = build("Attention", inputs, weights, ("y",), num_heads=N, **shared)
    reason = "rotation or a shared cache inside Attention is not supported"
    assert canonicalise(ir.from_proto(model)).missed == {"node": reason}


@pytest.mark.parametrize("past", [0, P])
def test_masks_that_onnxruntime_reads_on_other_devices_alone(normal: Any, run_model: Any, past: int) -> None:
    """A square of the longest length, and lengths before running sums, act like the equivalent masks."""
    square = np.tri(9, dtype=I32)[None, None] * np.ones((B, 1, 1, 1), I32)
    rows = square[:, 0, past : past + S, : past + S]
    lengths = np.array([past + 3, past + 5], I32)
    sums = np.array([0, 5, 10, 0, past + 3, 2 * past + 8], I32)
    same = [(square, rows), (np.concatenate([lengths, sums]), lengths)]
    inputs = {"x": normal(B, S, 8), "w": None, "b": None}
    given = {"past": normal(2, B, N, past, H)} if past else {"past": None}
    weights = {"w": normal(8, 3 * N * H), "b": normal(3 * N * H)}
    for masks in same:
        results = []
        for mask in masks:
            named = {**inputs, "mask": mask, **given}
            before, feeds = build("Attention", named, weights, ("y",), num_heads=N)
            model = ir.from_proto(before)
            assert canonicalise(model).missed == {}
            results.append(run_model(ir.to_proto(model), feeds)[0])
        np.testing.assert_allclose(*results, atol=1e-6)


@pytest.mark.parametrize(("batch", "new", "past"), [(1, 5, 0), (2, 5, 0), (2, 1, 4), (1, 3, 4)])
def test_a_decoder_of_the_genai_builder(
    run_model: Any, normal: Any, random: Any, batch: int, new: int, past: int
) -> None:
    """Rotation, cache and grouped heads in one operator, with lengths computed from the mask."""
    path = Path(__file__).parent / "data" / "genai" / "llama.onnx"
    model = load(path)
    report = canonicalise(model)
    counts = to_graph(model).histogram()
    expected = {"Attention": 1, "RMSNormalization": 3, "RotaryEmbedding": 2, "Swish": 1}
    assert {op: counts[op] for op in expected} == expected
    assert report.missed == {}
    feeds = {
        "input_ids": random.integers(0, 20, (batch, new)),
        "attention_mask": np.ones((batch, past + new), I64),
        "past_key_values.0.key": normal(batch, 1, past, 16),
        "past_key_values.0.value": normal(batch, 1, past, 16),
    }
    found, was = run_model(ir.to_proto(model), feeds), run_model(onnx.load(path), feeds)
    for a, b in zip(found, was, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_prompts_of_unequal_length(run_model: Any, random: Any) -> None:
    """Padding on the right does not change the positions before it."""
    path = Path(__file__).parent / "data" / "genai" / "llama.onnx"
    model = load(path)
    canonicalise(model)
    empty = np.zeros((2, 1, 0, 16), F)
    feeds = {
        "input_ids": random.integers(0, 20, (2, 5)),
        "attention_mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], I64),
        "past_key_values.0.key": empty,
        "past_key_values.0.value": empty,
    }
    found, was = run_model(ir.to_proto(model), feeds)[0], run_model(onnx.load(path), feeds)[0]
    np.testing.assert_allclose(found[0, :3], was[0, :3], atol=1e-5)
    np.testing.assert_allclose(found[1], was[1], atol=1e-5)
