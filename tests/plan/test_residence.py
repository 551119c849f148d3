"""Where weights stay: a function of model and budget, which the budget bounds; and what a run reads."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import to_graph
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.reading import Rows
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.streaming import reads
from onnxpuma.plan.weights.residence import Residence, residence, streamable
from onnxpuma.roles.local.memory import MemoryModel
from onnxpuma.standard import units
from tests.roles.layered import layered_model

NARROW = Format(40, 16)
TENSORS = {f"w{i}": ((400, 100), NARROW) for i in range(20)} | {"bias": ((1000,), Format(64, 18))}
STREAMS = {name for name in TENSORS if name != "bias"}
EACH, PACKED, ROOM = 16 * 40_000, 10 * 40_000, Rows((400, 100), 40).room
ALL = 20 * EACH + 16_000


def taken(found: Residence) -> int:
    """The bytes that it says, counted again."""
    words = sum(TENSORS[name][1].held * int(np.prod(TENSORS[name][0])) for name in found.words)
    packed = sum(2 * TENSORS[name][1].bytes(int(np.prod(TENSORS[name][0]))) for name in found.packed)
    assert (found.words_bytes, found.packed_bytes) == (words, packed)
    assert found.streamed_bytes == len(found.streamed) * PACKED // 2
    return words + packed + found.window


@pytest.mark.parametrize("memory", [None, ALL, 10 * ALL])
def test_what_fits_stays_as_words(memory: int | None) -> None:
    found = residence(TENSORS, STREAMS, memory)
    assert (found.packed, found.streamed, found.window) == ((), (), 0)
    assert found.words == tuple(TENSORS)
    assert found.memory == taken(found) == ALL


@pytest.mark.parametrize("memory", range(16_000 + ROOM, ALL, ALL // 37))
def test_the_budget_bounds_what_stays_and_is_used(memory: int) -> None:
    found = residence(TENSORS, STREAMS, memory)
    assert found == residence(dict(TENSORS), set(STREAMS), memory), "the same everywhere"
    assert sorted((*found.words, *found.packed, *found.streamed)) == sorted(TENSORS)
    assert found.memory == taken(found) <= memory
    assert "bias" in found.words
    left = memory - found.memory
    if found.streamed:
        assert found.window >= ROOM
        assert left < PACKED
        assert len(found.words) <= 2, "and what is left makes words of a packed one"
    else:
        assert found.window == 0
        assert left < EACH - PACKED


def test_those_that_stay_are_spread_over_the_model() -> None:
    found = residence(TENSORS, STREAMS, 16_000 + ROOM + 11 * PACKED)
    kept = [int(name[1:]) for name in found.packed]
    assert 8 <= len(kept) <= 11
    assert max(np.diff(kept)) <= 4


def test_words_of_whole_types_gain_nothing_when_packed() -> None:
    tensors = {name: (shape, Format(64, 18)) for name, (shape, _) in TENSORS.items()}
    found = residence(tensors, STREAMS, 10 * EACH)
    assert not found.packed
    assert len(found.words) > 5


@pytest.mark.parametrize("memory", [1, 15_999, 15_999 + ROOM])
def test_too_little_for_a_block_says_how_much_is_needed(memory: int) -> None:
    said = f"{units.size(16_000 + ROOM)} are needed, 16 kB for those that stay"
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        residence(TENSORS, STREAMS, memory)
    assert "at least --memory 1MB" in caught.value.hint
    found = residence(TENSORS, STREAMS, memory, firm=False)
    assert found.memory == 16_000 + ROOM


def test_a_model_without_matrices_needs_all_its_weights() -> None:
    with pytest.raises(ConfigError, match="too little"):
        residence({"bias": TENSORS["bias"]}, set(), 100)
    assert residence({}, set(), 1).words == ()


def test_tables_have_words_of_a_smaller_ring_beside_them() -> None:
    tensors = {"w0": TENSORS["w0"]}
    assert residence(tensors, {"w0"}, EACH).words == ("w0",)
    assert residence(tensors, {"w0"}, EACH, {"w0"}).packed == ("w0",)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "streams"),
    [
        ("MatMul", ["x", "w"], {}, True),
        ("MatMul", ["w", "x"], {}, False),
        ("Gemm", ["x", "w"], {"transB": 1, "alpha": 0.5}, True),
        ("Gemm", ["w", "x"], {}, False),
        ("Add", ["x", "w"], {}, False),
        ("Gather", ["w", "ids"], {"axis": 0}, True),
        ("Gather", ["w", "ids"], {"axis": 1}, False),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_products_and_look_ups_alone_take_blocks(
    op: str, inputs: list[str], attributes: dict[str, float], streams: bool, turned: bool
) -> None:
    read = ["turned" if name == "w" and turned else name for name in inputs]
    nodes = [helper.make_node("Transpose", ["w"], ["turned"])] * turned
    nodes.append(helper.make_node(op, read, ["y"], **attributes))
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 8]),
        helper.make_tensor_value_info("ids", TensorProto.INT64, [3]),
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(np.random.default_rng(0).normal(0, 1, (8, 8)).astype(np.float32), "w")]
    graph = helper.make_graph(nodes, "g", given, [y], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    made = to_graph(ir.serde.deserialize_model(model))
    assert streamable(made, ["w"]) == ({"w"} if streams else set())


def test_a_run_reads_the_weights_in_the_order_of_its_steps() -> None:
    model = MemoryModel(layered_model(3))
    blueprint = model.blueprint
    names = streamable(blueprint.graph, blueprint.weights)
    plan = compile_plan(blueprint, {"ids": (1, 5)}, {})
    order = reads(plan, names)
    # Where `share` turns a weight once and for all, it has another name.
    assert order == ["table", *(f"{name}{i}" for i in range(3) for name in ("a", "b", "turned")), "head"]
    assert reads(plan, {"b1", "table", "bias0"}) == ["table", "b1"]
    assert reads(plan, ()) == []
