"""The public files contain no number of a weight, however the weight is stored and used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model

RANDOM = np.random.default_rng(11)
N = helper.make_node
FLOAT = np.float32
_RUN = 4  # this many equal numbers in a row are no coincidence


def model_of(
    nodes: Iterable[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Mapping[str, list[int | str]] | None = None,
    ids: Mapping[str, list[int | str]] | None = None,
    shape: list[int] | None = None,
) -> ir.Model:
    """A model of these nodes: inputs of reals, of ids, one output `y`."""
    reals = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (inputs or {}).items()]
    whole = [helper.make_tensor_value_info(n, TensorProto.INT64, s) for n, s in (ids or {}).items()]
    arrays = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(list(nodes), "g", [*reals, *whole], [output], arrays)
    imports = [helper.make_opsetid("", 21)]
    return ir.serde.deserialize_model(helper.make_model(graph, opset_imports=imports))


def shown(model: ir.Model, **patterns: list[str]) -> Blueprint:
    return prepare_model(model, Policy(**patterns))[0]


def leaked(blueprint: Blueprint, weights: Mapping[str, np.ndarray]) -> list[str]:
    """The weights of which four numbers in a row, or the only one, are in the skeleton or the policy: as they
    are, transposed, scaled by a usual factor, in any type."""
    found = []
    text = repr(sorted(blueprint.visibility)) + repr(blueprint.reasons)
    for name, values in weights.items():
        forms = list(_forms(np.asarray(values)))
        if any(form in blueprint.skeleton for form in forms) or _as_text(values) in text:
            found.append(name)
    return found


def _forms(values: np.ndarray) -> Iterator[bytes]:
    wide = values.astype(np.float64)
    turned = [wide, wide.T] if wide.ndim > 1 else [wide]
    for layout in turned:
        flat = layout.reshape(-1)[:_RUN]
        for factor in (1.0, 1 / 255, 255.0, 1 / 64, 0.125, 0.5, 2.0, -1.0):
            for kind in (np.float32, np.float64, *([np.float16] if flat.size > 1 else [])):
                yield (flat * factor).astype(kind).tobytes()
        with np.errstate(divide="ignore"):
            yield (1 / flat).astype(np.float32).tobytes()
        if values.dtype.kind in "iub" and flat.size == _RUN:
            for kind in (np.int8, np.int32, np.int64):
                yield flat.astype(kind).tobytes()


def _as_text(values: np.ndarray) -> str:
    return repr(float(np.asarray(values).reshape(-1)[0]))


def weight(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (RANDOM.normal(size=shape) * scale).astype(FLOAT)


def test_the_test_finds_what_leaks() -> None:
    w = weight(8, 4)
    nodes = [N("MatMul", ["x", "w"], ["y"])]
    for public in (["w"], []):
        blueprint = shown(model_of(nodes, {"w": w}, {"x": [2, 8]}), public=public)
        assert leaked(blueprint, {"w": w}) == public


@pytest.mark.parametrize("by", [255.0, 64.0, 128.0])
def test_a_first_layer_behind_scaled_pixels(by: float) -> None:
    w = weight(64, 16, scale=0.03)
    nodes = [N("Div", ["x", "by"], ["h"]), N("MatMul", ["h", "w"], ["y"])]
    blueprint = shown(model_of(nodes, {"w": w, "by": np.array(by, FLOAT)}, {"x": [2, 64]}))
    assert leaked(blueprint, {"w": w}) == []
    assert blueprint.visibility["w"] == "secret"


def test_factors_of_low_rank() -> None:
    a, b = weight(64, 8, scale=1e-3), weight(8, 64, scale=1e-4)
    nodes = [
        N("MatMul", ["x", "a"], ["h"]),
        N("MatMul", ["h", "b"], ["g"]),
        N("Mul", ["g", "alpha"], ["y"]),
    ]
    model = model_of(nodes, {"a": a, "b": b, "alpha": np.array(0.25, FLOAT)}, {"x": [2, 64]})
    assert leaked(shown(model), {"a": a, "b": b}) == []


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
def test_whole_numbers_that_are_cast(kind: type) -> None:
    q = RANDOM.integers(0, 100, (128, 96)).astype(kind)
    points = RANDOM.integers(0, 10, 96).astype(kind)
    scale = np.abs(weight(96, scale=0.01))
    nodes = [
        N("Cast", ["q"], ["c"], to=TensorProto.FLOAT),
        N("Cast", ["z"], ["d"], to=TensorProto.FLOAT),
        N("Sub", ["c", "d"], ["e"]),
        N("Mul", ["e", "s"], ["w"]),
        N("MatMul", ["x", "w"], ["y"]),
    ]
    model = model_of(nodes, {"q": q, "z": points, "s": scale}, {"x": [2, 128]})
    assert leaked(shown(model), {"q": q, "z": points, "s": scale, "w": (q - points) * scale}) == []


def test_four_bits_unpacked_by_hand() -> None:
    packed = RANDOM.integers(0, 256, (128, 96)).astype(np.uint8)
    nodes = [
        N("BitwiseAnd", ["p", "fifteen"], ["low"]),
        N("BitShift", ["p", "four"], ["high"], direction="RIGHT"),
        N("Concat", ["low", "high"], ["q"], axis=1),
        N("Cast", ["q"], ["c"], to=TensorProto.FLOAT),
        N("Sub", ["c", "eight"], ["d"]),
        N("Mul", ["d", "s"], ["w"]),
        N("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {
        "p": packed,
        "fifteen": np.uint8(15),
        "four": np.uint8(4),
        "eight": np.array(8, FLOAT),
        "s": np.array(0.0137, FLOAT),
    }
    blueprint = shown(model_of(nodes, constants, {"x": [2, 128]}))
    assert (
        leaked(blueprint, {"p": packed, "low": packed & 15, "high": packed >> 4, "s": constants["s"]}) == []
    )


def test_a_codebook_and_its_index() -> None:
    codebook, index = weight(16, 4), RANDOM.integers(0, 16, (16, 8))
    nodes = [
        N("Gather", ["codebook", "index"], ["g"]),
        N("Reshape", ["g", "shape"], ["w"]),
        N("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {"codebook": codebook, "index": index, "shape": np.array([16, 32])}
    blueprint = shown(model_of(nodes, constants, {"x": [2, 16]}))
    assert leaked(blueprint, {"codebook": codebook, "index": index}) == []
    assert blueprint.doubtful == ()


def test_signs_and_pruning_masks() -> None:
    signs, kept = RANDOM.integers(0, 2, (2, 16, 16)).astype(bool)
    for mask in signs, kept:  # what is looked for must not be four zeros, which stand in any file
        mask[0, :4] = mask[:4, 0] = True, False, True, True
    w = weight(16, 16)
    nodes = [
        N("Neg", ["w"], ["n"]),
        N("Where", ["signs", "w", "n"], ["u"]),
        N("Cast", ["kept"], ["k"], to=TensorProto.FLOAT),
        N("Mul", ["u", "k"], ["v"]),
        N("MatMul", ["x", "v"], ["h"]),
        N("Where", ["kept", "h", "zero"], ["y"]),
    ]
    constants = {"w": w, "signs": signs, "kept": kept, "zero": np.array(0, FLOAT)}
    blueprint = shown(model_of(nodes, constants, {"x": [16, 16]}))
    assert leaked(blueprint, {"w": w, "signs": signs, "kept": kept}) == []


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("slope", [N("PRelu", ["x", "t"], ["y"])]),
        ("factor of a residual", [N("Mul", ["x", "t"], ["h"]), N("Add", ["x", "h"], ["y"])]),
        ("mean", [N("Sub", ["x", "t"], ["y"])]),
        ("deviation", [N("Div", ["x", "t"], ["y"])]),
        ("reciprocal", [N("Div", ["t", "x"], ["y"])]),
        ("exponent", [N("Abs", ["x"], ["a"]), N("Pow", ["a", "t"], ["y"])]),
        ("logit scale", [N("Exp", ["t"], ["e"]), N("Mul", ["x", "e"], ["y"])]),
        ("bound", [N("Clip", ["x", "", "t"], ["y"])]),
        ("threshold", [N("Less", ["x", "t"], ["l"]), N("Where", ["l", "x", "w"], ["y"])]),
        ("bias", [N("MatMul", ["x", "w"], ["h"]), N("Add", ["h", "t"], ["y"])]),
        ("swish", [N("Mul", ["x", "t"], ["a"]), N("Sigmoid", ["a"], ["s"]), N("Mul", ["x", "s"], ["y"])]),
        ("temperature", [N("Mul", ["x", "t"], ["a"]), N("Softmax", ["a"], ["y"])]),
        ("two factors", [N("Mul", ["x", "t"], ["a"]), N("Mul", ["a", "half"], ["y"])]),
        (
            "epsilon",
            [
                N("Mul", ["x", "x"], ["s"]),
                N("ReduceMean", ["s", "last"], ["m"], keepdims=1),
                N("Add", ["m", "t"], ["v"]),
                N("Sqrt", ["v"], ["r"]),
                N("Div", ["x", "r"], ["y"]),
            ],
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("value", [0.7317, 4.6052])
def test_one_trained_number(name: str, nodes: list[onnx.NodeProto], value: float) -> None:
    number = np.array([value], FLOAT)
    constants = {"t": number, "w": weight(8, 8), "half": np.array(0.5, FLOAT), "last": np.array([-1])}
    used = {i for n in nodes for i in n.input}
    blueprint = shown(model_of(nodes, {n: a for n, a in constants.items() if n in used}, {"x": [8, 8]}))
    forms = {"t": number, "exp": np.exp(number), "half": number / 2, "root": np.sqrt(number)}
    assert leaked(blueprint, forms) == [], name
    assert blueprint.doubtful == ()


@pytest.mark.parametrize("op", ["Mul", "Add", "Div"])
def test_what_the_owner_keeps_secret_is_not_in_what_is_made_of_it(op: str) -> None:
    """A round number that the owner declares a weight."""
    constants = {"t": np.array(12, FLOAT), "w": weight(8, 8)}
    nodes = [N(op, ["x", "t"], ["h"]), N("MatMul", ["h", "w"], ["g"]), N("Softmax", ["g"], ["y"])]
    blueprint = shown(model_of(nodes, constants, {"x": [8, 8]}), secret=["t"])
    assert leaked(blueprint, {"t": constants["t"]}) == []


@pytest.mark.parametrize("attribute", ["value", "value_floats"])
def test_weights_in_constants(attribute: str) -> None:
    w = weight(8)
    value = (
        numpy_helper.from_array(w, "c")
        if attribute == "value"
        else helper.make_attribute(attribute, w.tolist())
    )
    constant = N("Constant", [], ["w"], **({"value": value} if attribute == "value" else {}))
    if attribute != "value":
        constant.attribute.append(value)
    blueprint = shown(model_of([constant, N("Mul", ["x", "w"], ["y"])], {}, {"x": [2, 8]}))
    assert leaked(blueprint, {"w": w}) == []


def branch(name: str, w: np.ndarray, direct: bool) -> onnx.GraphProto:
    """A branch with its own constant, a node or an initializer, which it multiplies or returns."""
    output = [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)]
    constant = N("Constant", [], [f"{name}_out" if direct else f"{name}_w"], value=numpy_helper.from_array(w))
    if direct:
        return helper.make_graph([constant], name, [], output)
    nodes = [
        constant,
        N("Mul", ["x", f"{name}_w"], [f"{name}_h"]),
        N("Add", [f"{name}_h", "b"], [f"{name}_out"]),
    ]
    return helper.make_graph(nodes, name, [], output, [numpy_helper.from_array(w * 3, "b")])


@pytest.mark.parametrize("direct", [False, True])
def test_weights_of_branches(direct: bool) -> None:
    one, two, bias = weight(2, 8), weight(2, 8), weight(2, 8)
    choice = N(
        "If", ["c"], ["h"], then_branch=branch("one", one, direct), else_branch=branch("two", two, direct)
    )
    nodes = [
        N("ReduceMax", ["ids"], ["m"], keepdims=0),
        N("Cast", ["m"], ["c"], to=TensorProto.BOOL),
        choice,
        N("Add", ["h", "bias"], ["y"]),
    ]
    model = model_of(nodes, {"bias": bias}, {"x": [2, 8]}, {"ids": [4]})
    blueprint = shown(model, public_inputs=["ids"])
    weights = {"one": one, "two": two, "bias": bias, "b1": one * 3, "b2": two * 3}
    assert leaked(blueprint, weights) == []


def test_weights_of_a_body() -> None:
    w = weight(8)
    item = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            N("Constant", [], ["w"], value=numpy_helper.from_array(w)),
            N("Mul", ["state", "w"], ["next"]),
            N("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            item("turn", TensorProto.INT64, []),
            item("going", TensorProto.BOOL, []),
            item("state", TensorProto.FLOAT, [2, 8]),
        ],
        [item("still", TensorProto.BOOL, []), item("next", TensorProto.FLOAT, [2, 8])],
    )
    nodes = [N("Loop", ["times", "", "x"], ["y"], body=body)]
    blueprint = shown(model_of(nodes, {"times": np.array(3)}, {"x": [2, 8]}, shape=[2, 8]))
    assert leaked(blueprint, {"w": w}) == []


def test_equal_small_weights_stay_apart() -> None:
    bias = weight(8)
    constants = {f"b{i}": bias for i in range(3)} | {
        "f0": np.array([0.37], FLOAT),
        "f1": np.array([0.37], FLOAT),
    }
    nodes = [
        N("Add", ["x", "b0"], ["a"]),
        N("Relu", ["a"], ["b"]),
        N("Add", ["b", "b1"], ["c"]),
        N("Mul", ["c", "f0"], ["d"]),
        N("Relu", ["d"], ["e"]),
        N("Mul", ["e", "f1"], ["f"]),
        N("Mul", ["f", "b2"], ["y"]),
    ]
    blueprint = shown(model_of(nodes, constants, {"x": [2, 8]}))
    assert sorted(blueprint.weights) == sorted(constants)


def test_equal_shapes_are_one() -> None:
    shape = np.array([4, 4])
    nodes = [
        N("Reshape", ["x", "s"], ["a"]),
        N("MatMul", ["a", "w"], ["b"]),
        N("Reshape", ["b", "t"], ["c"]),
        N("Add", ["a", "c"], ["y"]),
    ]
    blueprint = shown(model_of(nodes, {"s": shape, "t": shape, "w": weight(4, 4)}, {"x": [16]}))
    assert sum(i.shape == (2,) for i in blueprint.graph.initializers.values()) <= 1


@pytest.mark.parametrize("value", ["drawn", "zeros", "one number"])
def test_a_small_weight_that_an_exporter_made_one_of_is_two_again(value: str) -> None:
    bias = {"drawn": weight(8), "zeros": np.zeros(8, FLOAT), "one number": np.array([0.37], FLOAT)}[value]
    nodes = [
        N("MatMul", ["x", "w"], ["a"]),
        N("Add", ["a", "b"], ["c"]),
        N("MatMul", ["c", "w"], ["d"]),
        N("Add", ["d", "b"], ["e"]),
        N("Reshape", ["e", "s"], ["f"]),
        N("Reshape", ["x", "s"], ["g"]),
        N("Add", ["f", "g"], ["y"]),
    ]
    constants = {"w": weight(8, 8), "b": bias, "s": np.array([16])}
    blueprint = shown(model_of(nodes, constants, {"x": [2, 8]}))
    assert len([name for name in blueprint.weights if name.startswith("b")]) == 2
    assert leaked(blueprint, {"b": bias} if value == "drawn" else {}) == []


def test_what_the_owner_shows_stays_one() -> None:
    nodes = [N("Add", ["x", "b"], ["a"]), N("Relu", ["a"], ["c"]), N("Mul", ["c", "b"], ["y"])]
    blueprint = shown(model_of(nodes, {"b": weight(8)}, {"x": [2, 8]}), public=["b"])
    assert blueprint.visibility == {"b": "public"}


def test_what_the_owner_hides_stays_hidden_in_each_of_its_places() -> None:
    nodes = [N("Add", ["x", "b"], ["a"]), N("Relu", ["a"], ["c"]), N("Mul", ["c", "b"], ["y"])]
    blueprint = shown(model_of(nodes, {"b": np.array([12], FLOAT)}, {"x": [2, 8]}), secret=["b"])
    assert sorted(blueprint.visibility.values()) == ["secret", "secret"]
