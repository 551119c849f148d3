"""Which inputs a client lets the servers see: well-formed masks and positions, and those that it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.config import ClusterConfig, PartyConfig
from onnxpuma.errors import InputError, OnnxpumaError, PlanError
from onnxpuma.mpc.cost import USUAL
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.client.consent import check_consent
from onnxpuma.roles.request.feed import check_feed, check_values
from onnxpuma.session import InferenceSession
from onnxpuma.transport.curve import generate

LENGTH = 6


def model_of(**inputs: tuple[int, list[Any]]) -> onnx.ModelProto:
    """A model that sums all inputs as reals into one number a row, and multiplies by two weights."""
    nodes, parts = [], []
    for name, (_, shape) in inputs.items():
        axes = list(range(1, len(shape)))
        nodes.append(helper.make_node("Cast", [name], [f"{name}/real"], to=TensorProto.FLOAT))
        nodes.append(
            helper.make_node("ReduceSum", [f"{name}/real", f"{name}/axes"], [f"{name}/sum"], keepdims=0)
        )
        parts.append((f"{name}/sum", numpy_helper.from_array(np.array(axes, np.int64), f"{name}/axes")))
    nodes.append(helper.make_node("Sum", [part for part, _ in parts], ["sum"]))
    nodes.append(helper.make_node("Reshape", ["sum", "column"], ["sums"]))
    nodes.append(helper.make_node("Mul", ["sums", "weight"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [
            *(axes for _, axes in parts),
            numpy_helper.from_array(np.array([-1, 1]), "column"),
            numpy_helper.from_array(np.array([0.37, 1.91], np.float32), "weight"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def blueprint_of(model: onnx.ModelProto, **patterns: list[str]) -> Blueprint:
    return prepare_model(ir.serde.deserialize_model(model), Policy(**patterns))[0]


MASK = (TensorProto.INT64, ["batch", "sequence"])
REALS = (TensorProto.FLOAT, ["batch", "width"])


class Watched(Client):
    """A client without servers; it records what it would send."""

    def __init__(self, blueprint: Blueprint, **options: Any) -> None:
        keys = [generate().public for _ in range(3)]
        rows = [PartyConfig(f"p{i}", "127.0.0.1", 9 + i, 19 + i, keys[i], "127.0.0.1") for i in range(3)]
        config = ClusterConfig((rows[0], rows[1], rows[2]), {})
        super().__init__(config, generate(), blueprint, **options)
        self.sent = 0
        self._network = USUAL
        self._cluster.request = self._refused  # type: ignore[method-assign]

    def _refused(self, *_: Any, **__: Any) -> Any:
        self.sent += 1
        raise ConnectionError

    def sends(self, feed: dict[str, np.ndarray], **options: Any) -> bool:
        """Whether a request goes out; raises InputError otherwise."""
        try:
            self.run(feed, **options)
        except ConnectionError:
            return True
        raise AssertionError("the request was answered by nobody")


@pytest.fixture(name="opened")
def give_opened() -> Iterator[Any]:
    made: list[Watched] = []

    def opened(blueprint: Blueprint, **options: Any) -> Watched:
        made.append(Watched(blueprint, **options))
        return made[-1]

    yield opened
    for client in made:
        client.close()


def test_an_owner_opens_no_input_that_the_client_did_not_name(opened: Any) -> None:
    blueprint = blueprint_of(model_of(income=REALS), public_inputs=["income"])
    feed = {"income": np.ones((2, 3), np.float32)}
    client = opened(blueprint)
    with pytest.raises(InputError, match="owner made the input 'income' public") as refused:
        client.run(feed)
    assert "--public-input income" in refused.value.hint
    assert "public_inputs=['income']" in refused.value.hint
    with pytest.raises(InputError, match="income"):
        client.plan(feed)
    assert client.sent == 0
    assert client.sends(feed, public_inputs=["income"])
    assert opened(blueprint, public_inputs=["income"]).sends(feed)
    assert opened(blueprint, public_inputs=["inc*"]).sends(feed)


def test_naming_one_input_opens_no_other(opened: Any) -> None:
    blueprint = blueprint_of(model_of(income=REALS, debts=REALS), public_inputs=["*"])
    feed = {"income": np.ones((2, 3), np.float32), "debts": np.ones((2, 3), np.float32)}
    with pytest.raises(InputError, match="debts"):
        opened(blueprint, public_inputs=["income"]).run(feed)
    with pytest.raises(InputError, match=r"no input 'incom'.*could be public") as refused:
        opened(blueprint, public_inputs=["incom"]).run(feed)
    assert "did you mean 'income'" in refused.value.hint


def test_a_secret_input_may_be_named_and_stays_secret(opened: Any) -> None:
    client = opened(blueprint_of(model_of(income=REALS)), public_inputs=["income"])
    assert [entry.name for entry in client.plan({"income": np.ones((1, 3), np.float32)}).inputs]


MASKS = [
    ("attention_mask", [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]),
    ("attention_mask", [[0, 0, 1, 1, 1, 1]] * 2),
    ("token_type_ids", [[0, 0, 0, 1, 1, 0]] * 2),
    ("token_type_ids", [[4, 4, 0, 0, 1, 2]] * 2),
    ("position_ids", [[0, 1, 2, 3, 4, 5]] * 2),
    ("position_ids", [[0, 0, 0, 1, 2, 3], [1, 1, 0, 1, 2, 3]]),
    ("position_ids", [[2, 3, 4, 5, 1, 1], [0, 1, 2, 2, 2, 2]]),
    ("position_ids", [[5, 6, 7, 8, 9, 10]] * 2),
    ("segment_ids", [[0, 0, 0, 0, 0, 0]] * 2),
    ("input_mask", [[1, 1, 1, 1, 1, 0]] * 2),
    ("seqlens_k", [[2], [1]]),
]


@pytest.mark.parametrize(("name", "rows"), MASKS)
def test_masks_and_positions_need_no_naming(opened: Any, name: str, rows: list[list[int]]) -> None:
    blueprint = blueprint_of(model_of(**{name: MASK}))
    assert blueprint.public_inputs == (name,)
    assert opened(blueprint).sends({name: np.array(rows, np.int64)})


WORDS = [
    ("attention_mask", [[1, 1, 2, 0, 0, 0]] * 2),
    ("attention_mask", [[1, 1, -1, 0, 0, 0]] * 2),
    ("attention_mask", [[101, 7592, 2088, 102, 0, 0]] * 2),
    ("token_type_ids", [[3, 1, 2, 0, 4, 1]] * 2),
    ("token_type_ids", [[0, 1, 0, 1, 0, 1]] * 2),
    ("token_type_ids", [[5, 5, 5, 5, 5, 5]] * 2),
    ("position_ids", [[0, 1, 1, 0, 1, 1], [0, 1, 2, 3, 4, 5]]),
    ("position_ids", [[57, 58, 59, 60, 61, 62]] * 2),
    ("position_ids", [[0, 1, 2, 4, 5, 6]] * 2),
    ("position_ids", [[5, 4, 3, 2, 1, 0]] * 2),
    ("position_ids", [[-1, 0, 1, 2, 3, 4]] * 2),
    ("cache_position", [[3, 1, 4, 1, 5, 9]] * 2),
    ("seqlens_k", [[7, 0, 0, 0, 0, 0]] * 2),
    ("seqlens_k", [[3], [1]]),
    ("seqlens_k", [[5, 6, 3, 0, 1, 2]] * 2),
]


@pytest.mark.parametrize(("name", "rows"), WORDS)
def test_words_under_the_name_of_a_mask_do_not_go_out(opened: Any, name: str, rows: list[list[int]]) -> None:
    client = opened(blueprint_of(model_of(**{name: MASK})))
    feed = {name: np.array(rows, np.int64)}
    with pytest.raises(InputError, match=f"'{name}' public: .* does not hold"):
        client.run(feed)
    assert client.sent == 0
    assert client.sends(feed, public_inputs=[name])


def test_reals_under_the_name_of_a_mask_do_not_go_out(opened: Any) -> None:
    blueprint = blueprint_of(model_of(attention_mask=REALS), public_inputs=["attention_mask"])
    with pytest.raises(InputError, match="float32"):
        opened(blueprint).run({"attention_mask": np.ones((1, 3), np.float32)})


def test_a_position_ends_where_the_longest_axis_of_the_inputs_does(opened: Any) -> None:
    blueprint = blueprint_of(
        model_of(position_ids=MASK, past=(TensorProto.FLOAT, ["batch", "before", 2])), secret_inputs=["past"]
    )
    past = np.zeros((1, 40, 2), np.float32)
    assert opened(blueprint).sends({"position_ids": np.array([[40]]), "past": past})
    with pytest.raises(InputError, match="position_ids"):
        opened(blueprint).run({"position_ids": np.array([[57]]), "past": past})


def test_ids_of_a_table_are_no_mask_however_they_are_called(opened: Any) -> None:
    table = numpy_helper.from_array(
        np.random.default_rng(0).normal(0, 1, (50, 4)).astype(np.float32), "table"
    )
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "attention_mask"], ["y"])],
        "g",
        [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 4])],
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    blueprint = blueprint_of(model, public_inputs=["attention_mask"])
    client = opened(blueprint)
    with pytest.raises(InputError, match="attention_mask"):
        client.run({"attention_mask": np.array([[0, 1]])})
    assert client.sent == 0


def test_suppressed_ids_are_public_where_this_package_made_them_and_nowhere_else(
    graphs_folder: Path, opened: Any
) -> None:
    generated = prepare_model(ir.load(graphs_folder / "decoder_with_past_model.onnx"))[0]
    assert "suppressed_ids" in generated.public_inputs
    fed = {"input_ids": np.array([[3]]), "past": np.zeros((1, 2, 8), np.float32)}
    checked = check_feed(generated, {**fed, "suppressed_ids": np.array([7])})
    check_consent(generated, checked)
    own = blueprint_of(
        model_of(suppressed_ids=(TensorProto.INT64, ["batch", "n"])), public_inputs=["suppressed_ids"]
    )
    with pytest.raises(InputError, match="suppressed_ids"):
        opened(own).run({"suppressed_ids": np.array([[7]])})


def test_what_the_client_computes_leaves_in_the_shape_that_is_planned() -> None:
    """If a branch declared a wrong shape, the length of the shares would reveal what x holds."""
    then = helper.make_graph(
        [
            helper.make_node("NonZero", ["x"], ["where"]),
            helper.make_node("Cast", ["where"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["real", "flat"], ["t"]),
        ],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.array([-1]), "flat")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["e"])],
        "other",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, [4])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
            helper.make_node("Greater", ["s", "zero"], ["c"]),
            helper.make_node("If", ["c"], ["v"], then_branch=then, else_branch=other),
            helper.make_node("Mul", ["v", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array([1.2, 3.1, 2.7, 0.3], np.float32), "w"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    plan = compile_plan(blueprint_of(model), {"x": (4,)})
    check_values(plan, plan.client_values({"x": np.array([1, 2, 3, 4], np.float32)}))
    with pytest.raises(PlanError, match="has shape"):
        check_values(plan, plan.client_values({"x": np.array([1, 0, 0, 2], np.float32)}))


def test_a_session_shows_what_it_was_told_to(tmp_path: Path) -> None:
    onnx.save(model_of(income=REALS, attention_mask=MASK), tmp_path / "model.onnx")
    feed = {"income": np.ones((1, 3), np.float32), "attention_mask": np.ones((1, 4), np.int64)}
    with InferenceSession(tmp_path / "model.onnx", public_inputs=["income"]) as session:
        (y,) = session.run(None, feed)
        assert y[0] == pytest.approx([7 * 0.37, 7 * 1.91], abs=1e-3)
        with pytest.raises(OnnxpumaError, match="attention_mask"):
            session.run(None, {**feed, "attention_mask": np.full((1, 4), 3)})
