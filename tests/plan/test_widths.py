"""Weights in as many bits as they need: the width of each, that nothing wraps in it, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError, PlanError, UnsupportedModelError
from onnxpuma.mpc.format import Format
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.policy_file import digest_of, read_policy, written
from onnxpuma.roles.local.memory import MemoryModel, interpreters_of

RNG = np.random.default_rng(4)
ROWS, WIDTH, WIDER, WORDS = 5, 32, 64, 40
X = RNG.normal(0, 1, (ROWS, WIDTH)).astype(np.float32)
node = helper.make_node


def drawn(rows: int, columns: int) -> np.ndarray:
    return RNG.normal(0, rows**-0.5, (rows, columns))


def layer() -> dict[str, np.ndarray]:
    return {
        "first": np.eye(WIDTH) + drawn(WIDTH, WIDTH) / 4,
        "scale": np.ones(WIDTH),
        "up": drawn(WIDTH, WIDER),
        "bias": RNG.normal(0, 0.1, WIDER),
        "down": drawn(WIDER, WIDTH),
    }


NODES = [
    node("MatMul", ["x", "first"], ["x0"]),
    node("RMSNormalization", ["x0", "scale"], ["n"], axis=-1),
    node("MatMul", ["n", "up"], ["a"]),
    node("Add", ["a", "bias"], ["b"]),
    node("Gelu", ["b"], ["c"]),
    node("MatMul", ["c", "down"], ["y"]),
]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    held: dict[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
    inputs: dict[str, tuple[int, tuple[int, ...]]] | None = None,
) -> onnx.ModelProto:
    inputs = inputs or {"x": (TensorProto.FLOAT, X.shape)}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [
            numpy_helper.from_array(v.astype(np.float32) if v.dtype.kind == "f" else v, n)
            for n, v in held.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def plain(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)[0])


def check(model: onnx.ModelProto, tolerance: float, x: np.ndarray = X, **wishes: object) -> MemoryModel:
    """Run on shares: close to onnxruntime, in range, and at the declared cost."""
    shared = MemoryModel(model, **wishes)  # type: ignore[arg-type]
    done = shared.run({"x": x})
    assert done.cost == done.plan.cost
    assert done.reliable
    assert np.abs(done.outputs["y"] - plain(model, {"x": x})).max() < tolerance
    return shared


def test_a_ring_behind_a_norm_follows_from_the_weight_alone() -> None:
    shared = check(model_of(NODES, layer()), 3e-3, ring="auto")
    blueprint = shared.blueprint
    assert blueprint.rings.keys() == {"up", "down"}  # nothing is known of what `first` multiplies
    assert set(blueprint.rings.values()) <= {40, 48}
    assert blueprint.format("up") == Format(blueprint.rings["up"], 18)
    assert all(15 <= bits <= 18 for bits in blueprint.reads.values())
    steps = {step.call.node.name or step.outputs[0]: step for step in shared.plan({"x": X}).steps}
    product = next(s for s in steps.values() if s.outputs == ("a",))
    assert product.call.given(1).format.bits == blueprint.rings["up"]
    assert product.call.outputs[0].format.bits <= blueprint.rings["up"]


def test_the_default_sends_no_more_and_takes_no_more_rounds() -> None:
    model = model_of(NODES, layer())
    wide, narrow = (MemoryModel(model, ring=ring).plan({"x": X}).cost for ring in (64, "auto"))
    assert narrow.bits <= wide.bits
    assert narrow.rounds <= wide.rounds


@pytest.mark.parametrize(("bits", "tolerance"), [(32, 3e-2), (40, 4e-3), (48, 2e-3), (64, 2e-3)])
def test_each_width(bits: int, tolerance: float) -> None:
    held = layer()
    held["up"] /= 8  # so that its products fit 32 bits
    shared = check(model_of(NODES, held), tolerance, rings={"up": bits})
    assert shared.blueprint.format("up").bits == bits


@pytest.mark.parametrize("bits", [32, 40, 48])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nothing_wraps_at_the_ends_of_the_bound(bits: int, sign: float) -> None:
    """Every row of the normalised factor is parallel to a column, so the product reaches Cauchy's bound."""
    held = {"first": np.eye(WIDTH), "scale": np.ones(WIDTH)}
    signs = RNG.choice([-1.0, 1.0], (WIDTH, 3))
    held["w"] = signs * (1.0 if bits > 32 else 0.03)
    nodes = [*NODES[:2], node("MatMul", ["n", "w"], ["y"])]
    x = (sign * signs.T).astype(np.float32)
    model = model_of(nodes, held, inputs={"x": (TensorProto.FLOAT, x.shape)})
    shared = MemoryModel(model, rings={"w": bits})
    done = shared.run({"x": x})
    assert done.reliable
    assert done.cost == done.plan.cost
    expected = plain(model, {"x": x})
    largest = np.abs(expected).max()
    step = next(s for s in done.plan.steps if s.outputs == ("y",))
    assert step.call.outputs[0].bound.size < 1.25 * largest  # the bound is met
    reads = shared.blueprint.reads["w"]
    error = 2.0 ** (1 - reads) * np.abs(held["w"]).sum(axis=0).max() + 2.0**-10 * largest
    assert np.abs(done.outputs["y"] - expected).max() < error


def test_a_weight_that_is_transposed_or_multiplies_in_a_gemm() -> None:
    held = layer()
    turned = {**held, "down": held["down"].T.copy()}
    nodes = [*NODES[:-1], node("Transpose", ["down"], ["t"]), node("MatMul", ["c", "t"], ["y"])]
    shared = check(model_of(nodes, turned), 3e-3, rings={"t": 48})
    assert shared.blueprint.rings == {"t": 48}
    held["z"] = RNG.normal(0, 1, WIDTH)
    gemm = [*NODES[:-1], node("Gemm", ["c", "down", "z"], ["y"], transB=1)]
    shared = check(model_of(gemm, {**turned, "z": held["z"]}), 3e-3, ring="auto")
    assert shared.blueprint.rings["down"] in (40, 48)


def test_a_large_model_gives_up_two_fraction_bits_of_a_weight_for_a_smaller_ring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a weight of fewer fraction bits than values have is not truncated where it is turned."""
    held = {**layer(), "down": 24 * drawn(WIDER, WIDTH).T.copy()}
    model = model_of(
        [*NODES[:-1], node("Transpose", ["down"], ["t"]), node("MatMul", ["c", "t"], ["y"])], held
    )
    usual = check(model, 0.1, ring="auto").blueprint
    monkeypatch.setattr("onnxpuma.plan.blueprint.LARGE", 1)
    shared = check(model, 0.1, ring="auto")
    assert usual.rings["t"] > shared.blueprint.rings["t"]
    assert (usual.format("t").fraction, shared.blueprint.format("t").fraction) == (18, 16)
    assert shared.blueprint.format("up").fraction == 18  # it fits without
    steps = shared.plan({"x": X}).steps
    assert not any(any(step.resolves) for step in steps if step.constant)


@pytest.mark.parametrize("fraction", [13, 16, 20])
def test_a_weight_at_any_scale_is_turned_in_place(fraction: int) -> None:
    rewritten = {"down": drawn(WIDER, WIDTH).T.copy(), **{k: v for k, v in layer().items() if k != "down"}}
    model = model_of(
        [*NODES[:-1], node("Transpose", ["down"], ["t"]), node("MatMul", ["c", "t"], ["y"])], rewritten
    )
    shared = MemoryModel(model, rewrite=False, rings={"down": 48})
    blueprint = replace(shared.blueprint, fractions={"down": fraction})
    steps = compile_plan(blueprint, {"x": X.shape}).steps
    turned = next(step for step in steps if step.outputs == ("t",))
    assert turned.constant
    assert not any(turned.resolves)
    assert turned.call.outputs[0].format == blueprint.format("down")


def test_a_table_that_is_only_looked_up_takes_32_bits() -> None:
    held = {"table": RNG.normal(0, 1, (WORDS, WIDTH)), "scale": np.ones(WIDTH), "up": drawn(WIDTH, WIDER)}
    nodes = [
        node("Gather", ["table", "ids"], ["x0"]),
        node("RMSNormalization", ["x0", "scale"], ["n"], axis=-1),
        node("MatMul", ["n", "up"], ["y"]),
    ]
    ids = np.array([3, 39, 0])
    model = model_of(nodes, held, inputs={"ids": (TensorProto.INT64, ids.shape)})
    shared = MemoryModel(model, ring="auto")
    assert shared.blueprint.rings["table"] == 32
    assert "table" not in shared.blueprint.reads
    done = shared.run({"ids": ids})
    assert done.cost == done.plan.cost
    assert np.abs(done.outputs["y"] - plain(model, {"ids": ids})).max() < 2e-3
    seen = MemoryModel(model, ring="auto", public_inputs=["ids"])  # its rows are cut out by public ids
    assert "table" not in seen.blueprint.rings


def test_a_table_that_also_multiplies_takes_the_ring_of_its_products() -> None:
    held = {"table": RNG.normal(0, 0.2, (WORDS, WIDTH)), "scale": np.ones(WIDTH)}
    nodes = [
        node("Gather", ["table", "ids"], ["x0"]),
        node("RMSNormalization", ["x0", "scale"], ["n"], axis=-1),
        node("Transpose", ["table"], ["t"]),
        node("MatMul", ["n", "t"], ["y"]),
    ]
    ids = np.array([3, 39, 0])
    model = model_of(nodes, held, inputs={"ids": (TensorProto.INT64, ids.shape)})
    shared = MemoryModel(model, ring="auto", rewrite=False)
    assert shared.blueprint.rings["table"] in (40, 48)
    done = shared.run({"ids": ids})
    assert np.abs(done.outputs["y"] - plain(model, {"ids": ids})).max() < 3e-3


def test_a_width_that_products_do_not_fit_is_refused_by_the_weight_s_name() -> None:
    with pytest.raises(ConfigError, match="'first' cannot be stored in 48 bits"):
        MemoryModel(model_of(NODES, layer()), rings={"first": 48})
    with pytest.raises(ConfigError, match="'down' cannot be stored in 32 bits: its products may reach"):
        MemoryModel(model_of(NODES, {**layer(), "down": drawn(WIDER, WIDTH) * 64}), rings={"down": 32})


def test_a_width_for_all_leaves_more_where_it_must() -> None:
    shared = check(model_of(NODES, layer()), 4e-3, ring=40)
    assert "first" not in shared.blueprint.rings
    assert shared.blueprint.rings["up"] == 40
    assert shared.blueprint.rings["down"] in (40, 48)


def test_a_declared_range_makes_room() -> None:
    model = model_of([*NODES[:1], node("Identity", ["x0"], ["y"])], {"first": layer()["first"]})
    assert not MemoryModel(model, ring="auto").blueprint.rings
    from onnxpuma.plan.declared import declare
    from onnxpuma.plan.examine.widths import with_widths
    from onnxpuma.plan.owner_policy import Policy

    declared = declare(MemoryModel(model).blueprint, {"x": (-4.0, 4.0)})
    assert with_widths(declared, Policy()).rings.keys() == {"first"}


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        ({"rings": {"bias": 40}}, "'bias' cannot be stored in 40 bits: Add"),
        ({"rings": {"nothing*": 40}}, "no secret weight matches 'nothing"),
        ({"ring": 33}, "cannot be stored in 33 bits"),
        ({"rings": {"up": 56}}, "cannot be stored in 56 bits"),
    ],
)
def test_wrong_wishes(wishes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        MemoryModel(model_of(NODES, layer()), **wishes)  # type: ignore[arg-type]


def test_a_request_beyond_the_stored_ring_is_watched_or_refused() -> None:
    """The ring was chosen for a range that this request does not keep to."""
    from onnxpuma.plan.declared import declare
    from onnxpuma.plan.examine.widths import with_widths
    from onnxpuma.plan.owner_policy import Policy

    model = model_of([*NODES[:1], node("Identity", ["x0"], ["y"])], {"first": layer()["first"]})
    open_one = MemoryModel(model).blueprint
    small = with_widths(declare(open_one, {"x": (-4.0, 4.0)}), Policy())
    compile_plan(small, {"x": X.shape})
    beyond = replace(small, declared={})
    watched = compile_plan(beyond, {"x": X.shape})
    assert any(entry.needs for entry in watched.inputs)  # the client checks its own input
    with pytest.raises(UnsupportedModelError, match="'first' is stored for results below"):
        compile_plan(replace(beyond, checked=False), {"x": X.shape})


def test_calibration_bounds_a_product_of_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxpuma.plan.examine import widths
    from onnxpuma.plan.examine.calibrate import calibrate
    from onnxpuma.plan.examine.stored import stored

    monkeypatch.setattr("onnxpuma.plan.blueprint.LARGE", 0)  # a truncation more is no matter
    from onnxpuma.plan.owner_policy import Policy
    from onnxpuma.plan.prepare import prepare_model

    model = model_of([*NODES[:1], node("Identity", ["x0"], ["y"])], {"first": layer()["first"]})
    blueprint, graph = prepare_model(onnx_ir.serde.deserialize_model(model))
    found = calibrate(blueprint, graph, [{"x": X}])
    assert [ranges.keys() for ranges in found.values()] == [{"product"}]
    narrow = widths.with_widths(replace(blueprint, ranges=found), Policy())
    assert narrow.rings.keys() == {"first"}
    for checked in (True, False):
        plan = compile_plan(replace(narrow, checked=checked), {"x": X.shape})
        (entry,) = stored(narrow, plan)
        assert entry.state == "calibrated"
        assert entry.saved > 0
    shared = MemoryModel(model)
    shared.blueprint = narrow
    shared._interpreters = interpreters_of(narrow, graph)
    done = shared.run({"x": X})
    assert done.reliable
    assert np.abs(done.outputs["y"] - plain(model, {"x": X})).max() < 2e-3
    assert not shared.run({"x": 100 * X}).reliable  # beyond what the samples showed, and told


def test_the_policy_file_carries_the_rings_and_a_damaged_one_is_refused(tmp_path: object) -> None:
    blueprint = MemoryModel(model_of(NODES, layer()), ring="auto").blueprint
    files = blueprint.files()
    again = Blueprint.parse(files["skeleton.onnx"], files["policy.json"], "there")
    assert again.digest == blueprint.digest
    assert (again.rings, again.reads) == (blueprint.rings, blueprint.reads)
    assert blueprint.digest != replace(blueprint, rings={}, reads={}).digest
    for change in (
        {"rings": {"up": 36}},
        {"rings": {"up": 64}},
        {"rings": {"none": 40}},
        {"reads": {"up": 9}},
        {"reads": {"first": 14}},
        {"rings": {"up": "40"}},
        {"fractions": {"first": 14}},
    ):
        policy = {**read_policy(files["policy.json"], "there"), **change}
        policy["digest"] = digest_of(files["skeleton.onnx"], policy)
        with pytest.raises(PlanError):
            Blueprint.parse(files["skeleton.onnx"], written(policy), "there")
