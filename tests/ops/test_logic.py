"""Comparisons of secret values, secret booleans, and choices by them: exact everywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxpuma.check.single import Comparison, compare, model_of, typed
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.roles.local.memory import MemoryModel

Check = Callable[[Comparison, float], None]
UNIT = 2.0**-18
ORDERS = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]
A = np.array([0, 0, UNIT, -UNIT, 1, 1, -5, 2.0**22, -(2.0**22), 3.5], np.float32)
B = np.array([0, UNIT, 0, 0, 1, -1, -5, -(2.0**22), 2.0**22, 3.5 + UNIT], np.float32)


def truths(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) > 0.5


@pytest.mark.parametrize("op", ORDERS)
@pytest.mark.parametrize("public", [[], ["a"], ["b"]])
def test_comparisons_are_exact_to_the_unit(check: Check, op: str, public: list[str]) -> None:
    check(compare(op, {"a": A, "b": B}, public=public), 0)


@pytest.mark.parametrize("op", ORDERS)
@pytest.mark.parametrize("public", ["a", "b"])
@pytest.mark.parametrize("small", [9.5e-7, -9.5e-7, 1e-30])
def test_zero_is_on_its_own_side_of_a_number_below_a_unit(
    check: Check, op: str, public: str, small: float
) -> None:
    values = np.array([0, UNIT, -UNIT, 1, -1], np.float32)
    feed = {"a": values, "b": values} | {public: np.full(5, small, np.float32)}
    check(compare(op, feed, public=[public]), 0)


@pytest.mark.parametrize("op", ORDERS)
def test_comparisons_of_integers_and_of_many(check: Check, op: str) -> None:
    rng = np.random.default_rng(1)
    i, j = rng.integers(-3, 3, (5, 4)), rng.integers(-3, 3, (4,))
    check(compare(op, {"secret_a": i, "secret_b": j}), 0)
    check(compare(op, {"secret_a": i, "b": j}), 0)
    x = np.round(rng.normal(0, 3, (45, 40))).astype(np.float32)
    check(compare(op, {"a": x, "b": x[::-1].copy()}), 0)


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
@pytest.mark.parametrize("second", ["secret_b", "b"])
def test_secret_booleans(check: Check, op: str, second: str) -> None:
    check(compare(op, {"secret_a": truths(3, 4), second: truths(4, seed=1)}), 0)


def test_not(check: Check) -> None:
    check(compare("Not", {"secret_a": truths(3, 4)}), 0)


@pytest.mark.parametrize("public", [[], ["a"], ["b"], ["a", "b"]])
@pytest.mark.parametrize("condition", ["secret_c", "c"])
def test_where(check: Check, public: list[str], condition: str) -> None:
    values = {condition: truths(3, 1), "a": A.reshape(1, -1), "b": B[:, None].T.copy()}
    if condition == "c" and len(public) == 2:
        return
    check(compare("Where", values, public=public), UNIT)


def test_where_keeps_what_only_looks_like_a_mask(check: Check) -> None:
    choice = np.array([0, -20000, 0, -10000] * 2 + [0, 5], np.float32)
    for condition in ("c", "secret_c"):
        check(compare("Where", {condition: truths(3, 10), "a": A, "b": choice}, public=["b"]), 2 * UNIT)


def test_where_leaves_out_what_a_mask_excludes() -> None:
    """With a public condition all numbers are exact; with a secret one, those below 2^40."""
    mask = truths(3, 10)
    for far in (-3.4e38, -np.inf, np.inf, 1e9, -1e9):
        for condition in ("c", "secret_c"):
            done = compare("Where", {condition: mask, "a": A, "b": np.float32(far)}, public=["c", "b"])
            assert done.got[mask] == pytest.approx(done.want[mask], abs=2 * UNIT)
            held = far if condition == "c" else np.sign(far) * min(abs(far), 2.0 ** (39 + np.isinf(far)))
            assert done.got[~mask] == pytest.approx(held, rel=1e-6)
    with pytest.raises(UnsupportedModelError, match="may choose a NaN"):
        compare("Where", {"secret_c": mask, "a": A, "b": np.float32(np.nan)}, public=["b"])


def test_sign(check: Check) -> None:
    check(compare("Sign", {"x": A}), 0)
    check(compare("Sign", {"secret_x": np.array([-4, 0, 9])}), 0)


def test_no_fixed_point_number_is_infinite(check: Check) -> None:
    check(compare("IsInf", {"x": A}), 0)


def test_every_fixed_point_number_is_one() -> None:
    """IsNaN is public and false."""
    made = MemoryModel(typed(model_of("IsNaN", {"x": A}), {"x": A}), at_client=False)
    assert not made.run({"x": A}).outputs["y0"].any()
    assert not made.plan({"x": A}).steps


@pytest.mark.parametrize("to", [1, 7, 9, 11])
@pytest.mark.parametrize("kind", ["bool", "int64", "float32"])
def test_casts(check: Check, to: int, kind: str) -> None:
    x = truths(3, 4) if kind == "bool" else np.array([0, 1, -3, 7], kind)
    check(compare("Cast", {"secret_x": x}, to=to), 0)


def test_cast_like(check: Check) -> None:
    check(compare("CastLike", {"secret_x": truths(4), "like": A}), 0)


def test_casts_that_would_wrap_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="would wrap"):
        compare("Cast", {"secret_x": np.array([300])}, to=2)


def test_numbers_that_a_softmax_could_not_tell_apart_are_refused() -> None:
    """Chosen in secret, all of them would be as far out as its masks; one of them may be."""
    far = np.array([1.2e5, 1.1e5, 9e4, 1.2e5], np.float32)
    for numbers, refused in ((far, True), (far[:1], False), (-far, False), (far / 100, False)):
        text = """<ir_version: 10, opset_import: ["" : 23]> g (float[2, 4] x, bool[2, 4] c) => (float[2, 4] y)
        { s = Where(c, x, far) y = Softmax(s) }"""
        model = onnx.parser.parse_model(text)
        model.graph.initializer.append(onnx.numpy_helper.from_array(numbers, "far"))
        runner = MemoryModel(model, public=["far"], secret_inputs=["c"], at_client=False)
        feed = {"x": np.zeros((2, 4), np.float32), "c": np.ones((2, 4), bool)}
        if refused:
            with pytest.raises(UnsupportedModelError, match=r"120000.*make the condition public"):
                runner.plan(feed)
        else:
            runner.plan(feed)
