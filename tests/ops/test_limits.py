"""The declared ranges are true: operators are right just inside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxpuma.check.single import Comparison, compare
from onnxpuma.ops.limits import Limit
from onnxpuma.ops.registry import operators

RNG = np.random.default_rng(5)
INSIDE = 0.999


def limits_of(done: Comparison) -> tuple[Limit, ...]:
    step = done.outcome.plan.steps[-1]
    return step.operator.limits(step.call)


def bound(op: str, inputs: dict[str, Any], public: tuple[str, ...], **attributes: Any) -> float:
    """The end of the first declared range."""
    return limits_of(compare(op, inputs, public, **attributes))[0].below


def right(done: Comparison, tolerance: float = 3e-6) -> bool:
    """Check that nothing is out of range, and that the error is small beside the result."""
    step = done.outcome.plan.steps[-1]
    operands = [i for i in step.call.inputs if i is not None]
    assert operands
    largest = max(1.0, float(np.abs(done.want.astype(np.float64)).max()))
    allowed = max(step.operator.tolerance, tolerance * largest)
    return done.error <= allowed


ONE_OPERAND: dict[str, dict[str, Any]] = {
    **{op: {} for op in ("Abs", "Sign", "Relu", "LeakyRelu", "HardSigmoid", "HardSwish", "Elu")},
    **{op: {} for op in ("Gelu", "Erf", "Tanh", "Sigmoid", "Softplus", "Mish", "Swish")},
    **{op: {"axis": 1} for op in ("ArgMax", "ArgMin")},
    "Celu": {"alpha": 2.0},
    "ReduceMax": {},
    "ReduceMin": {},
    "ReduceL1": {},
}


@pytest.mark.parametrize("op", ONE_OPERAND)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_one_operand(op: str, sign: float) -> None:
    x = RNG.uniform(-1, 1, (6, 16)).astype(np.float32)
    below = bound(op, {"x": x}, (), **ONE_OPERAND[op])
    x[::2] *= np.float32(INSIDE * below)
    x[:, 0] = sign * INSIDE * below
    x[:, 1] = -x[:, 0]
    if op == "ReduceL1":
        x[1:], x[:, 2:] = 0, 0
    assert right(compare(op, {"x": x}, **ONE_OPERAND[op]))


@pytest.mark.parametrize("op", ["Max", "Min", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_of_two_operands(op: str) -> None:
    x, y = (RNG.uniform(-1, 1, (4, 16)).astype(np.float32) for _ in range(2))
    below = bound(op, {"x": x, "y": y}, ())
    x[:, :8] = np.tile([1, -1], 4) * INSIDE * below
    y[:, :8] = np.repeat([1, -1], 4) * INSIDE * below * 0.9999
    assert right(compare(op, {"x": x, "y": y}))


@pytest.mark.parametrize(
    ("op", "low", "high"),
    [
        ("Sqrt", 2.0**-18, 2.0**28),
        ("Exp", -25.0, 29.8),
        ("Log", 2.0**-18, 2.0**28),
        ("Reciprocal", 2.0**-13, 2.0**24),
    ],
)
def test_of_positive_operands(op: str, low: float, high: float) -> None:
    x = np.array([[low, high * INSIDE], [low * 4 if low > 0 else 0, high / 3]], np.float32)
    done = compare(op, {"x": x})
    call = done.outcome.plan.steps[-1].call
    for limit in limits_of(done):
        nearest = high * INSIDE if limit.below < np.inf else low
        assert limit.measured(call, [x], [done.want]) == (pytest.approx(nearest), True)
    assert right(done, 1e-4)


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Mul", "Einsum"])
def test_products(op: str) -> None:
    attributes = {"equation": "ij,jk->ik"} if op == "Einsum" else {}
    a, b = (RNG.uniform(0.9, 1, (8, 8)).astype(np.float32) for _ in range(2))
    below = bound(op, {"a": a, "b": b}, (), **attributes)
    largest = compare(op, {"a": a, "b": b}, **attributes).want.max()
    root = np.float32(np.sqrt(INSIDE * below / largest))
    assert right(compare(op, {"a": a * root, "b": -b * root}, **attributes), 1e-6)


@pytest.mark.parametrize(("op", "axes"), [("ReduceMean", True), ("GlobalAveragePool", False)])
def test_means(op: str, axes: bool) -> None:
    x = np.full((2, 3, 8, 7), INSIDE * 2.0**25 / (56 if not axes else 7), np.float32)
    inputs = {"x": x, **({"axes": np.array([-1])} if axes else {})}
    assert limits_of(compare(op, inputs))[0].below == 2.0**25
    assert right(compare(op, inputs))
    assert right(compare(op, {**inputs, "x": -x}))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools(op: str) -> None:
    x = RNG.uniform(-1, 1, (1, 2, 8, 8)).astype(np.float32)
    below = bound(op, {"x": x}, (), kernel_shape=[2, 2])
    x[0, 0] = np.sign(x[0, 0]) * INSIDE * below
    assert right(compare(op, {"x": x}, kernel_shape=[2, 2]))


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_results_of_normalisations(op: str) -> None:
    """A row with one huge element and a large scale: results reach 4096."""
    x = np.zeros((3, 64), np.float32)
    x[:, 5] = [1.0, 300.0, 30_000.0]
    scale = np.full(64, INSIDE * 4096 / (8.0 if op == "RMSNormalization" else 7.94), np.float32)
    assert right(compare(op, {"x": x, "scale": scale}), 3e-4)


@pytest.mark.parametrize("op", ["Softmax", "Attention"])
def test_scores_far_apart(op: str) -> None:
    if op == "Softmax":
        x = RNG.uniform(-1, 1, (20, 12)).astype(np.float32) * np.float32(4094)
        x[:, 0], x[:, 1] = 4094.9, -4094.9
        done = compare(op, {"x": x})
        assert limits_of(done)[0].below == 8190
    else:
        q = RNG.normal(size=(1, 2, 6, 16)).astype(np.float32)
        k = RNG.normal(size=(1, 2, 8, 16)).astype(np.float32)
        scores = q @ k.swapaxes(-1, -2) / 4
        spread = (scores.max(axis=-1) - scores.min(axis=-1)).max()
        q *= np.float32(8150 / spread)
        done = compare(op, {"q": q, "k": k, "v": RNG.normal(size=k.shape).astype(np.float32)})
        assert limits_of(done)[1].below == 8190
    assert right(done, 2e-3)


def test_every_operator_that_is_wrong_somewhere_says_where() -> None:
    """Operators that only move or add words have no range; all others declare one."""
    free = {
        "Add", "And", "Cast", "CastLike", "Compress", "Concat", "CumSum", "DepthToSpace", "Dropout",
        "Equal", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "IsInf",
        "Neg", "Not", "Or", "Pad", "ReduceLogSum", "ReduceSum", "Reshape", "Resize", "ReverseSequence",
        "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Sum", "Tile",
        "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
    }  # fmt: skip
    bare = {name for name, entry in operators().items() if entry.limits.__name__ == "no_limit"}
    assert bare <= free
