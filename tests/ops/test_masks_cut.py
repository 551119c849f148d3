"""Masks that are clipped, doubled or scaled, lone fillers of any size, and scores beside a mask."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpuma.check.single import plain
from onnxpuma.roles.local.memory import MemoryModel, MemoryRun

KEEP = np.array([[True, False, True, True], [True, True, False, False], [False, False, True, True]])
X = np.random.default_rng(1).normal(0, 3, (3, 4)).astype(np.float32)
WAYS = {
    "doubled, cut by Max": "a = Where(keep, zero, low) b = Add(a, a) c = Max(b, low) m = Add(x, c)",
    "doubled, cut by Clip": "a = Where(keep, zero, low) b = Add(a, a) c = Clip(b, low, zero) m = Add(x, c)",
    "a difference, scaled": "f = Cast <to = 1> (keep) d = Sub(f, one) a = Mul(d, high) m = Add(x, a)",
    "chosen, scaled": "f = Where(keep, zero, one) a = Mul(f, low) m = Add(x, a)",
    "chosen": "m = Where(keep, x, low)",
}
ENDS = {
    "softmax": "y = Softmax(m)",
    "largest": "i = ArgMax <axis = 1> (m) y = Cast <to = 1> (i)",
    "sum": "y = ReduceLogSumExp (m, last)",
    "logarithm": "s = LogSoftmax(m) y = ReduceMax (s, last)",
}


def ran(text: str, x: np.ndarray, public: bool, **constants: float | np.ndarray) -> tuple[MemoryRun, float]:
    """A run's outcome, and its distance from the result in the clear."""
    head = "(float[3, 4] x, bool[3, 4] keep) => (float[?, ?] y)"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> g {head} {{ {text} }}')
    used = {n: np.asarray(v, np.float32 if isinstance(v, float) else None) for n, v in constants.items()}
    names = {n for node in model.graph.node for n in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in used.items() if n in names)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    feed, shown = {"x": x, "keep": KEEP}, ["keep"] if public else []
    secret = [name for name in feed if name not in shown]
    done = MemoryModel(model, public_inputs=shown, secret_inputs=secret, at_client=False).run(feed)
    assert done.cost == done.plan.cost
    want = plain(model, feed)[0]
    return done, float(np.abs(done.outputs["y"] - want).max()) / max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize(("low", "public"), [(-12345.0, False), (-1e6, False), (-1e9, False), (-1e9, True)])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_masked_is_left_out(way: str, end: str, low: float, public: bool) -> None:
    constants = {"low": low, "high": -low, "zero": 0.0, "one": 1.0, "last": np.array([-1])}
    if end == "logarithm" and low == -12345.0:
        return  # such a number can be read from the result, so it is a weight
    done, error = ran(f"{WAYS[way]} {ENDS[end]}", X, public, **constants)
    assert done.reliable
    assert error <= 2e-4


@pytest.mark.parametrize("scale", [20.0, 5000.0])
def test_scores_out_of_range_beside_a_secret_mask_are_told(scale: float) -> None:
    """After the mask nobody could tell them from masked scores."""
    done, error = ran("h = MatMul(x, w) m = Where(keep, h, low) y = Softmax(m)", X * scale, False,
                      w=np.eye(4, dtype=np.float32) * 1.25, low=-1e9)  # fmt: skip
    assert done.reliable is (scale < 1000)
    assert error <= 2e-4 or not done.reliable
