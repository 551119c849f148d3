"""Add, Sub, Sum, Neg, Mul, and products that stay untruncated until a node reads them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxpuma.check.single import OPSET, Comparison, compare, compare_model
from onnxpuma.errors import UnsupportedModelError

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
EDGES = np.array([0, UNIT, -UNIT, 1, -1, 0.5, 4095.5, -4095.5], np.float32)


def reals(*shape: int, scale: float = 3.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize("public", [[], ["a"], ["b"]])
def test_a_sum_is_exact_and_local(check: Check, op: str, public: list[str]) -> None:
    done = compare(op, {"a": reals(4, 1, 8), "b": EDGES}, public=public)
    check(done, 4e-4 * 2.0**-4)
    assert done.outcome.cost.bits == 0


def test_a_sum_reaches_the_largest_number(check: Check) -> None:
    big = np.array([2.0**40, -(2.0**40), 2.0**30], np.float32)
    check(compare("Add", {"a": big, "b": big}), 0)


def test_many_terms_secret_and_public(check: Check) -> None:
    terms = {"a": reals(3, 4), "b": reals(4, seed=1), "c": reals(3, 1, seed=2), "d": reals(1, seed=3)}
    check(compare("Sum", terms, public=["b", "d"]), 4 * UNIT)
    check(compare("Sum", {"a": terms["a"]}), UNIT)


def test_neg(check: Check) -> None:
    check(compare("Neg", {"x": np.concatenate([EDGES, reals(5)])}), UNIT)


@pytest.mark.parametrize("public", [[], ["a"], ["b"]])
@pytest.mark.parametrize("shapes", [((3, 5), (5,)), ((7,), ()), ((2, 1, 3), (4, 1)), ((50, 41), (50, 41))])
def test_a_product_is_within_two_units(
    check: Check, public: list[str], shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    a, b = (reals(*shape, seed=place) for place, shape in enumerate(shapes))
    reach = float(max(np.abs(a).max(), np.abs(b).max(), 1))
    check(compare("Mul", {"a": a, "b": b}, public=public), (2 + reach) * UNIT)


def test_products_at_the_edges(check: Check) -> None:
    check(compare("Mul", {"a": EDGES, "b": EDGES[::-1].copy()}), 2 * UNIT)
    check(
        compare("Mul", {"a": np.array([2.0**13, -(2.0**20)], np.float32), "b": np.full(2, 31, np.float32)}), 4
    )


def test_a_power_of_two_costs_no_precision(check: Check) -> None:
    check(compare("Mul", {"a": EDGES, "b": np.float32(4)}, public=["b"]), 0)


def test_division_by_a_public_number(check: Check) -> None:
    x, y = reals(6, 4), np.array([3, -0.125, 1e-3, 700], np.float32)
    done = compare("Div", {"x": x, "y": y}, public=["y"])
    scale = np.abs(done.got - done.want) * np.minimum(np.abs(y), 1)
    check(done, 1.0)
    assert scale.max() <= 3 * UNIT


def test_a_number_without_axes_is_taken_off(check: Check) -> None:
    for public in ("x", "y"):
        feed = {"x": reals(3) if public == "y" else np.float32(1.5), "y": np.float32(2.5)}
        check(compare("Sub", feed, public=[public]), UNIT)


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum"])
def test_public_terms_may_be_as_far_out_as_they_like(op: str) -> None:
    """They are kept beside the words, so the client gets the whole sum."""
    far = np.array([0, -np.inf, -3.4e38, -1e9, np.inf, 2.5e8], np.float32)
    done = compare(op, {"x": reals(2, 6, scale=1), "far": far}, public=["far"])
    assert done.outcome.cost == done.outcome.plan.cost
    np.testing.assert_allclose(done.got, done.want, rtol=1e-6, atol=UNIT)


def test_a_mask_of_ten_thousands_fits_softmax() -> None:
    scores, mask = reals(3, 5), np.array([0, -10000, 0, -10000, 0], np.float32)
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["s"], name="masked"),
        helper.make_node("Softmax", ["s"], ["y0"], name="softmax"),
    ]
    feed = {"x": scores, "mask": mask}
    declared = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in feed.items()]
    output = helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "masked", declared, [output]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
    )
    assert compare_model(model, feed, ["mask"]).error <= 1e-4


def test_what_fixed_point_cannot_hold_is_refused() -> None:
    x = reals(3)
    for op, value in (("Add", np.nan), ("Mul", np.nan), ("Mul", np.inf), ("Div", 0.0)):
        with pytest.raises(UnsupportedModelError, match="node"):
            compare(op, {"x": x, "y": np.array([1, value, 1], np.float32)}, public=["y"])


@pytest.mark.parametrize("last", ["Gelu", "Relu", "Softmax", "Neg", "Add", "Reshape", "LayerNormalization"])
def test_an_untruncated_product_goes_on_as_it_is(check: Check, last: str) -> None:
    """MatMul, Add and any consumer: either it reads the product, or the product is truncated before."""
    feed = {"x": reals(5, 6, scale=1), "w": reals(6, 8, scale=0.4, seed=1), "b": reals(8, seed=2)}
    extra = {"LayerNormalization": ["w8"], "Add": ["b"], "Reshape": ["shape"]}.get(last, [])
    if last == "LayerNormalization":
        feed["w8"] = reals(8, seed=3)
    if last == "Reshape":
        feed["shape"] = np.array([2, 20])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Add", ["p", "b"], ["s"], name="sum"),
        helper.make_node(last, ["s", *extra], ["y0"], name="last"),
    ]
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
    declared = [helper.make_tensor_value_info(n, kinds[v.dtype.kind], v.shape) for n, v in feed.items()]
    output = helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "chain", declared, [output]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
    )
    check(compare_model(model, feed, [n for n in feed if n == "shape"]), 2e-3)
