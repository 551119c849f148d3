"""Plans made from one with other rotary tables, biases or windows are those made anew."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from onnxpuma.errors import UnsupportedModelError
from onnxpuma.mpc.cost import Network
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.lanes.lanes import in_lanes, lanes_of
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.plan import Plan
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.plan.walk import walk
from tests.plan.test_growing import blueprint_of, noting, planned, told

FAR = Network(bandwidth=2e7, latency=0.02)
HALF = 2


def blueprint(text: str, public: tuple[str, ...], opset: int = 24) -> Blueprint:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    return prepare_model(ir.from_proto(model), Policy(public_inputs=public))[0]


@pytest.fixture(scope="module")
def rotates() -> Blueprint:
    """Turns a secret value and a public one by the same tables."""
    return blueprint(
        """g (float[1, n, 8] x, float[1, n, 8] t, float[1, n, h] cos, float[1, n, h] sin)
            => (float[1, n, 8] y)
        {
            a = RotaryEmbedding <num_heads = 2> (x, cos, sin)
            b = RotaryEmbedding <num_heads = 2> (t, cos, sin)
            c = Mul(a, b)
            y = Softmax <axis = -1> (c)
        }""",
        ("t", "cos", "sin"),
    )


def turned(by: Blueprint, cos: np.ndarray, sin: np.ndarray, recall: Recall | None = None) -> Plan:
    length = cos.shape[1]
    t = np.linspace(-1, 1, 8 * length, dtype=np.float32).reshape(1, length, 8)
    values = {"t": t, "cos": cos, "sin": sin}
    shapes = {"x": (1, length, 8)} | {name: value.shape for name, value in values.items()}
    return compile_plan(by, shapes, values, recall=recall, at_client=False)


def tables(angle: float, length: int = 1) -> tuple[np.ndarray, np.ndarray]:
    angles = np.arange(1, HALF * length + 1).reshape(1, length, HALF) * angle
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def odd(*numbers: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.array(numbers, np.float32).reshape(2, 1, 1, -1)
    return cos, sin


def test_odd_tables(rotates: Blueprint) -> None:
    recall = Recall()
    turns = [
        tables(0.3),
        tables(0.7),  # planned alike
        odd(1, 1, 0, 0),  # without fraction bits
        odd(0.5, 0.5, 0.25, 0.5),
        odd(0.75, 0.5, 0.25, 0.25),  # planned alike
        odd(3, 0.5, 0.25, 0.5),  # larger than a rotation's
        odd(4, 0.5, 0.25, 0.5),
        odd(0, 0, 0, 0),
        odd(1e-6, 0, 0, 0),
        odd(1.4, 0, 1.4, 0),  # longer than one
        odd(1.3, 0, 1.3, 0),
        tables(0.3, 2),
        tables(0.4, 2),
        tables(0.5),
    ]
    for cos, sin in turns:
        assert told(turned(rotates, cos, sin, recall)) == told(turned(rotates, cos, sin)), (cos, sin)


def test_a_plan_after_a_refused_one(rotates: Blueprint) -> None:
    recall = Recall()
    turned(rotates, *tables(0.3), recall)
    for angle in (0.4, 0.5):
        with pytest.raises(UnsupportedModelError):
            turned(rotates, *odd(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), recall)  # wider than a head
        assert told(turned(rotates, *tables(angle), recall)) == told(turned(rotates, *tables(angle)))


def test_a_public_value_is_turned_by_its_own_tables(rotates: Blueprint) -> None:
    """It is a number, not a step: other tables make another one."""
    recall = Recall()
    first, second = (turned(rotates, *tables(angle), recall) for angle in (0.3, 0.7))
    assert not np.array_equal(first.known["b"], second.known["b"])
    assert np.array_equal(second.known["b"], turned(rotates, *tables(0.7)).known["b"])


def test_an_array_that_its_caller_fills_anew(rotates: Blueprint) -> None:
    recall, (cos, sin) = Recall(), tables(0.3)
    first = turned(rotates, cos, sin, recall)
    was = first.known["cos"].copy()
    cos[:], sin[:] = tables(0.7)
    assert np.array_equal(first.known["cos"], was)
    assert told(turned(rotates, cos, sin, recall)) == told(turned(rotates, cos, sin))


def test_what_is_seen_of_tables_is_kept_for_two_plans(rotates: Blueprint) -> None:
    recall, counts = Recall(), []
    for turn in range(12):
        turned(rotates, *tables(0.3 + 0.01 * turn), recall)
        counts.append(len(recall.tables._seen) + len(recall.tables._before))
    assert max(counts) == counts[3] <= 4


def test_a_plan_in_lanes_reads_its_own_tables() -> None:
    recall, llama = Recall(), blueprint_of("llama")
    for past in (64, 65, 66):
        again = planned(llama, past, 64, network=FAR, recall=recall)
        anew = planned(llama, past, 64, network=FAR)
        assert told(again) == told(anew)
        assert lanes_of(in_lanes(again)) == lanes_of(in_lanes(anew)) == 2
        assert told(in_lanes(again)) == told(in_lanes(anew))


ATTENDS = """g (float[1, 1, 8] x, float[1, 2, p, 4] past, float[1, 1, h] cos, float[1, 1, h] sin,
    float[1, 2, 1, all] bias) => (float[1, 1, 8] y, float[1, 2, n, 4] now, float[1, 2, n, 4] more)
{
    q = RotaryEmbedding <num_heads = 2> (x, cos, sin)
    a, now, more = Attention <q_num_heads = 2, kv_num_heads = 2, is_causal = 1 WINDOW>
        (q, q, x, bias, past, past)
    b = Add(a, x)
    r = RotaryEmbedding <num_heads = 2> (b, cos, sin)
    y, k, v = Attention <q_num_heads = 2, kv_num_heads = 2, is_causal = 1> (r, r, b, bias, past, past)
}"""


def attended(by: Blueprint, past: int, bias: np.ndarray, recall: Recall | None = None) -> Plan:
    cos, sin = tables(0.1 * (past + 1))
    values: Mapping[str, np.ndarray] = {"cos": cos, "sin": sin, "bias": bias}
    shapes = {"x": (1, 1, 8), "past": (1, 2, past, 4)} | {name: v.shape for name, v in values.items()}
    return compile_plan(by, shapes, values, recall=recall)


def test_biases_that_grow_with_the_distance() -> None:
    by, recall = blueprint(ATTENDS.replace("WINDOW", ""), ("cos", "sin", "bias")), Recall()
    for past, slope in ((6, 0.5), (7, 0.5), (8, 0.5), (9, 4.0), (10, 4.0), (10, 0.0), (11, 0.0), (30, 4.0)):
        bias = -slope * np.arange(past + 1, dtype=np.float32)[::-1] * np.array([[1], [0.25]], np.float32)
        bias = bias.reshape(1, 2, 1, -1)
        assert told(attended(by, past, bias, recall)) == told(attended(by, past, bias)), (past, slope)


def test_layers_that_see_a_window_beside_layers_that_see_all() -> None:
    window = ", left_window_size = 3, right_window_size = 0"
    by, recall = blueprint(ATTENDS.replace(" WINDOW", window), ("cos", "sin", "bias"), 25), Recall()
    for past in (1, 2, 3, 4, 5, 20):
        bias = np.zeros((1, 2, 1, past + 1), np.float32)
        again = attended(by, past, bias, recall)
        assert told(again) == told(attended(by, past, bias))


def test_only_tables_that_are_planned_alike_are_taken_over(
    rotates: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[str] = []
    monkeypatch.setattr("onnxpuma.plan.walk.walk.visit", noting(visited, walk.visit))
    recall = Recall()
    counts = []
    for cos, sin in (tables(0.3), tables(0.7), odd(1, 1, 0, 0)):
        visited.clear()
        turned(rotates, cos, sin, recall)
        counts.append(visited.count("RotaryEmbedding"))
    assert counts == [2, 1, 2]  # the public one is computed in each
