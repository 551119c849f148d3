"""Normalisations: tiny variances, outliers, constant rows, every axis, small and large epsilons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpuma.check.single import Comparison, compare, plain
from onnxpuma.errors import UnsupportedModelError
from onnxpuma.graph.model import Node
from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated, Shares, Sum3
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.simulate import shared_reals, simulate
from onnxpuma.ops.bounds import Bound
from onnxpuma.ops.normalised_rows import beside_roots, normalised, normalised_cost
from onnxpuma.ops.registry import Call, Operand
from onnxpuma.ops.rows import Centring, Rows
from onnxpuma.roles.local.memory import MemoryModel

Check = Callable[[Comparison, float], None]


def reals(*shape: int, mean: float = 0, scale: float = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, shape).astype(np.float32)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1e-2])
@pytest.mark.parametrize("public", [[], ["scale"]])
def test_rows(check: Check, op: str, epsilon: float, public: list[str]) -> None:
    inputs = {"x": reals(4, 9, 32, mean=1, scale=2), "scale": reals(32, mean=1, scale=0.3, seed=1)}
    if op == "LayerNormalization":
        inputs["bias"] = reals(32, seed=2)
    check(compare(op, inputs, public=public, epsilon=epsilon), 1e-4)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_axes(check: Check, op: str, axis: int) -> None:
    x = reals(3, 4, 5)
    check(compare(op, {"x": x, "scale": reals(*x.shape[axis:], seed=1)}, axis=axis), 1e-4)


def test_more_rows_than_one_pivot_leads(check: Check) -> None:
    check(compare("LayerNormalization", {"x": reals(130, 20), "scale": np.ones(20, np.float32)}), 1e-4)


def test_a_tiny_variance(check: Check) -> None:
    x = reals(6, 64, mean=0.5, scale=0.02)
    check(compare("LayerNormalization", {"x": x, "scale": np.ones(64, np.float32)}, epsilon=1e-12), 2e-3)


def test_large_outliers(check: Check) -> None:
    x = reals(4, 256, scale=2)
    x[:, 7] = 3000
    check(compare("LayerNormalization", {"x": x, "scale": np.ones(256, np.float32)}), 1e-4)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("largest", [4095.0, 6000.0, 2e4, 2e5, 1e6])
def test_a_row_of_any_norm_beside_small_ones(check: Check, op: str, largest: float) -> None:
    """As in language models: one row has a huge element; the others are a thousandth of it."""
    x = reals(120, 64, scale=0.3)
    x[::7, 5] = largest
    inputs = {"x": x, "scale": np.ones(64, np.float32)}
    check(compare(op, inputs, ["scale"]), 1e-4 if largest < 5e3 else 5e-4 if largest < 3e4 else 3e-3)
    check(compare(op, inputs), 1e-4 if largest < 5e3 else 5e-4 if largest < 3e4 else 3e-3)


def test_images_of_large_norm(check: Check) -> None:
    inputs = {"x": reals(1, 4, 64, 64, scale=90), "scale": reals(4, seed=1), "bias": reals(4, seed=2)}
    check(compare("GroupNormalization", inputs, ["scale"], num_groups=2), 2e-4)
    check(compare("GroupNormalization", inputs, num_groups=2), 2e-4)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
def test_constant_rows_come_out_near_zero(epsilon: float) -> None:
    x = np.full((3, 48), 2.7, np.float32)
    done = compare("LayerNormalization", {"x": x, "scale": np.ones(48, np.float32)}, epsilon=epsilon)
    assert np.abs(done.got).max() <= (5e-3 if epsilon == 1e-5 else 0.1)


def test_mean_and_deviation(check: Check) -> None:
    inputs = {"x": reals(4, 9, scale=3), "scale": reals(9, seed=1), "bias": reals(9, seed=2)}
    check(compare("LayerNormalization", inputs, outputs=3), 1e-4)
    check(compare("LayerNormalization", inputs, outputs=2), 1e-4)


@pytest.mark.parametrize("public", [[], ["scale", "bias"]])
def test_instance_and_group_normalisation(check: Check, public: list[str]) -> None:
    inputs = {"x": reals(2, 4, 6, 5, mean=1, scale=3), "scale": reals(4, seed=1), "bias": reals(4, seed=2)}
    check(compare("InstanceNormalization", inputs, public=public), 1e-4)
    for groups in (1, 2, 4):
        check(compare("GroupNormalization", inputs, public=public, num_groups=groups), 1e-4)


@pytest.mark.parametrize("public", [[], ["scale", "bias", "mean", "variance"]])
def test_batch_normalisation(check: Check, public: list[str]) -> None:
    parts = {n: reals(4, seed=i) for i, n in enumerate(("scale", "bias", "mean", "variance"))}
    parts["variance"] = np.abs(parts["variance"]) + 0.05
    check(
        compare("BatchNormalization", {"x": reals(2, 4, 6, 5, mean=1, scale=3), **parts}, public=public), 1e-4
    )
    check(compare("BatchNormalization", {"x": reals(7, 4), **parts}, public=public), 1e-4)


def test_training_is_refused() -> None:
    parts = {n: np.ones(4, np.float32) for n in ("scale", "bias", "mean", "variance")}
    with pytest.raises(UnsupportedModelError, match="training mode"):
        compare("BatchNormalization", {"x": reals(2, 4, 3), **parts}, outputs=3, training_mode=1)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-5])
@pytest.mark.parametrize(("deviation", "mean"), [(1e-4, 0.0), (1e-3, 0.0), (1e-3, 7.0), (300.0, 1e5)])
def test_rows_of_any_deviation(op: str, epsilon: float, deviation: float, mean: float) -> None:
    x = reals(5, 24, mean=mean if op[0] == "L" else 0.0, scale=deviation)
    for public in ([], ["scale"]):
        done = compare(op, {"x": x, "scale": np.ones(24, np.float32)}, public, epsilon=epsilon)
        allowed = 2e-2 if deviation == 1e-4 else 4e-3 if deviation == 1e-3 else 1e-4
        assert done.error <= allowed * np.abs(done.want).max()


@pytest.mark.parametrize("public", [[], ["scale"]])
@pytest.mark.parametrize("largest", [60.0, 700.0, 1e5])
@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_a_large_scale(check: Check, op: str, largest: float, public: list[str]) -> None:
    x, scale = reals(3, 200), np.full(200, 3, np.float32)
    x[:, 7], scale[7] = (300, -2000, 40), largest
    check(compare(op, {"x": x, "scale": scale}, public), 1e-4 * largest)


@pytest.mark.parametrize("centring", [Centring.MEAN, Centring.NONE])
@pytest.mark.parametrize("largest", [0.01, 1.0, 9.0, 700.0, 1e5])
def test_a_secret_scale_whose_size_is_known(centring: Centring, largest: float) -> None:
    """It is multiplied before the root, with as many digits as fit."""
    x = reals(6, 40, scale=2) * np.array([1e-3, 1, 1, 30, 1000, 0], np.float32)[:, None]
    scale = np.random.default_rng(3).uniform(-largest, largest, 40)
    rows = Rows(x.shape, 1, centring, 1e-6, scale=largest)
    operand = Operand("scale", (40,), np.dtype(np.float32), weight=True, bound=Bound(-largest, largest))
    call = Call(Node("n", "RMSNormalization", "", 23, (), ()), (None, operand), 24, ())

    def program(party: Party, value: Replicated, factor: Replicated) -> Protocol[Replicated]:
        return (yield from normalised(party, value, rows, factor, None)).value

    run = simulate(program, shared_reals(x), shared_reals(scale))
    assert run.cost == normalised_cost(rows, call)
    less = x - x.mean(axis=1, keepdims=True) if rows.centred else x
    want = less / np.sqrt((less.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-6) * scale
    error = np.abs(run.value() - want).max(axis=1)  # looser for the smallest row and the zero row
    assert error.max() <= 5e-3 * max(largest, 1.0)
    assert error[1:-1].max() <= 4e-5 * max(largest, 1.0)


@pytest.mark.parametrize("way", [Way.KEYED, Way.MASKED])
@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(("norm", "number", "made"), [(1000.0, 6, 45), (1000.0, 100, 50), (1e5, 6, 45)])
def test_rows_times_their_roots_before_these_are_replicated(
    way: Way, public: bool, norm: float, number: int, made: int
) -> None:
    """In a round less, as exact as afterwards: tiny rows, and rows at the end of the range."""
    x = reals(number, 64).astype(np.float64)
    size = np.geomspace(0.2, 0.9 * norm, number)
    x = np.round(x / np.linalg.norm(x, axis=1, keepdims=True) * size[:, None] * 2.0**18) / 2.0**18
    scale = np.full(64, 0.75) if public else np.random.default_rng(3).uniform(0.1, 2.0, 64)
    after = Rows(x.shape, 1, Centring.NONE, 1e-6, norm, 2.0, way=way)
    known = scale if public else None
    operand = Operand("scale", (64,), np.dtype(np.float32), known, weight=True, bound=Bound(0.1, 2.0))
    given = Operand("x", x.shape, np.dtype(np.float32))
    call = Call(Node("n", "RMSNormalization", "", 23, (), ()), (given, operand), 24, ())
    beside = beside_roots(after, call, Format(made, 18))
    assert beside is not None
    want = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6) * scale
    for rows in (after, beside):

        def program(
            party: Party, value: Replicated, factor: Replicated, rows: Rows = rows
        ) -> Protocol[Replicated]:
            by = scale if public else factor
            return (yield from normalised(party, value, rows, by, None, made=Format(made, 18))).value

        run = simulate(program, shared_reals(x), shared_reals(scale))
        assert run.cost == normalised_cost(rows, call, made)
        assert np.abs(run.value() - want).max() <= 2e-4
    assert normalised_cost(after, call, made).rounds - run.cost.rounds == 1


def test_no_ring_is_wide_enough_for_a_result_of_all_bits() -> None:
    operand = Operand("scale", (64,), np.dtype(np.float32), weight=True, bound=Bound(0.1, 2.0))
    given = Operand("x", (6, 64), np.dtype(np.float32))
    call = Call(Node("n", "RMSNormalization", "", 23, (), ()), (given, operand), 24, ())
    rows = Rows((6, 64), 1, Centring.NONE, 1e-6, 1e5, 2.0, way=Way.KEYED)
    assert beside_roots(rows, call, RESTING) is None


WAYS = [Centring.TERMS, Centring.EXACT, Centring.MEAN]


def centred_by(
    centring: Centring, x: np.ndarray, scale: np.ndarray, norm: float, public: bool, epsilon: float = 1e-6
) -> np.ndarray:
    """The normalised rows of x; their declared cost equals the counted one."""
    count, largest = x.shape[-1], float(np.abs(scale).max())
    rows = Rows(x.shape, x.ndim - 1, centring, epsilon, norm, largest, 0.5)
    kind = np.dtype(np.float32)
    product = Operand("x", x.shape, kind, form=Sum3, format=RESTING.finer(18))
    known = scale if public else None
    factor = Operand("scale", (count,), kind, known, weight=True, bound=Bound(-largest, largest))
    call = Call(Node("n", "LayerNormalization", "", 23, (), ()), (product, factor), 24, ())

    def program(party: Party, value: Replicated, by: Replicated) -> Protocol[Replicated]:
        given: Shares = value
        if centring is Centring.TERMS:
            given = value.as_sum().times_integers(1 << 18, 18)
        bias = np.full(count, 0.5)
        return (yield from normalised(party, given, rows, scale if public else by, bias)).value

    run = simulate(program, shared_reals(x), shared_reals(scale))
    assert run.cost == normalised_cost(rows, call)
    return run.value()


@pytest.mark.parametrize("centring", WAYS)
@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize(("count", "mean"), [(1, 3.0), (2, -40.0), (64, 3000.0), (100, 0.0), (768, -40.0)])
def test_each_way_to_centre(centring: Centring, public: bool, count: int, mean: float) -> None:
    """With large means, small deviations, a constant row, and a row at the end of the range."""
    rng = np.random.default_rng(count)
    deviations = np.array([1e-2, 0.3, 1.0, 1.0, 3.0, 0.0])
    x = np.round((rng.normal(size=(6, count)) * deviations[:, None] + mean) * 2.0**18) / 2.0**18
    norm = float(np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=1).max()) * (1 + 2.0**-8) + 2.0**-8
    scale = np.full(count, 1.0) if public else rng.uniform(0.5, 1.5, count)
    less = x - x.mean(axis=1, keepdims=True)
    want = less / np.sqrt((less**2).mean(axis=1, keepdims=True) + 1e-6) * scale + 0.5
    error = np.abs(centred_by(centring, x, scale, norm, public) - want).max(axis=1)
    usual = less.std(axis=1) > 0.1
    assert error.max(where=usual, initial=0.0) <= 6e-5
    assert error.max() <= 7e-3  # 1.5 units, where epsilon alone is under the root


@pytest.mark.parametrize(("centring", "norm"), [(Centring.TERMS, 8e4), (Centring.EXACT, 3e4)])
@pytest.mark.parametrize("over", [0.9, 0.1, 0.001])
def test_rows_of_the_largest_norm_that_centring_leaves_room_for(
    centring: Centring, norm: float, over: float
) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(5, 768))
    x *= norm * over * np.array([1, 1, 0.1, 1e-3, 1])[:, None] / np.linalg.norm(x, axis=1, keepdims=True)
    x[0, 1:] *= 1e-3
    x += 100.0
    less = x - x.mean(axis=1, keepdims=True)
    want = less / np.sqrt((less**2).mean(axis=1, keepdims=True) + 1e-6) + 0.5
    error = np.abs(centred_by(centring, x, np.ones(768), norm, True) - want)
    assert error.max() <= 2e-4 * np.abs(want).max()


@pytest.mark.parametrize("scale", [0.1, 0.005, 0.0005])
def test_a_bias_that_is_larger_than_the_scale(scale: float) -> None:
    """The digits of a product with a small scale leave room for the bias."""
    rng = np.random.default_rng(4)
    weights = {"s": (scale * rng.normal(size=5)).astype(np.float32), "b": np.full(5, -20, np.float32)}
    graph = onnx.parser.parse_graph(
        "g (float[3, 5] x) => (float[3, 5] y) { y = LayerNormalization(x, s, b) }"
    )
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    graph.node[0].name = "norm"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
    x = rng.normal(size=(3, 5)).astype(np.float32)
    done = MemoryModel(model, at_client=False).run({"x": x})
    assert np.abs(done.outputs["y"] - plain(model, {"x": x})[0]).max() < 1e-4


@pytest.mark.parametrize("way", [Way.KEYED, Way.MASKED])
@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize("centring", WAYS)
def test_centred_rows_times_their_roots_before_these_are_replicated(
    centring: Centring, public: bool, way: Way
) -> None:
    """In a round less, as exact as afterwards, however the mean is subtracted."""
    x = np.round(reals(6, 64, mean=20, scale=3).astype(np.float64) * 2.0**18) / 2.0**18
    scale = np.full(64, 0.75) if public else np.random.default_rng(3).uniform(0.1, 2.0, 64)
    kind, made = np.dtype(np.float32), Format(45, 18)
    product = Operand("x", x.shape, kind, form=Sum3, format=RESTING.finer(18))
    operand = Operand("scale", (64,), kind, scale if public else None, weight=True, bound=Bound(0.1, 2.0))
    call = Call(Node("n", "LayerNormalization", "", 23, (), ()), (product, operand), 24, ())
    after = Rows(x.shape, 1, centring, 1e-6, 100.0, 2.0, way=way)
    beside = beside_roots(after, call, made)
    assert beside is not None
    less, rounds = x - x.mean(axis=1, keepdims=True), []
    want = less / np.sqrt((less**2).mean(axis=1, keepdims=True) + 1e-6) * scale
    for rows in (after, beside):

        def program(
            party: Party, value: Replicated, by: Replicated, rows: Rows = rows
        ) -> Protocol[Replicated]:
            given: Shares = value
            if centring is Centring.TERMS:
                given = value.as_sum().times_integers(1 << 18, 18)
            factor = scale if public else by
            return (yield from normalised(party, given, rows, factor, None, made=made)).value

        run = simulate(program, shared_reals(x), shared_reals(scale))
        assert run.cost == normalised_cost(rows, call, made.bits)
        assert np.abs(run.value() - want).max() <= 1e-4
        rounds.append(run.cost.rounds)
    assert rounds[0] - rounds[1] == 1


@pytest.mark.parametrize(("bias", "outputs", "possible"), [
    (False, ("y",), True), (False, ("y", ""), True), (True, ("y",), False), (False, ("y", "mean"), False),
    (False, ("y", "", "root"), False),
])  # fmt: skip
def test_a_bias_or_a_mean_that_is_read_waits_for_the_root(
    bias: bool, outputs: tuple[str, ...], possible: bool
) -> None:
    kind = np.dtype(np.float32)
    x, scale = Operand("x", (6, 64), kind), Operand("scale", (64,), kind, np.ones(64))
    operands = (x, scale, *([Operand("bias", (64,), kind, np.ones(64))] if bias else []))
    call = Call(Node("n", "LayerNormalization", "", 23, (), outputs), operands, 24, ())
    rows = Rows((6, 64), 1, Centring.MEAN, 1e-6, 100.0, 2.0, way=Way.KEYED)
    assert (beside_roots(rows, call, Format(45, 18)) is not None) == possible
