"""Which inputs are public by name: integers and booleans with a full conventional name, nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxpuma.plan.inputs.roles import ROLES, role_of
from onnxpuma.plan.owner_policy import Policy
from onnxpuma.plan.prepare import prepare_model

INT = np.dtype(np.int64)


@pytest.mark.parametrize(
    "name",
    [
        "composition",
        "discharge_disposition",
        "masked_income",
        "masked_input_ids",
        "damask_kind",
        "position",
        "job_position",
        "attention_mask_of_patient",
        "my_attention_mask",
        "Attention_Mask",
        "ATTENTION_MASK",
        "attention_mask ",
        "attention-mask",
        "attention_mask_2",
        "attention_mask:1",
        "token_type",
        "my_token_type_ids",
        "dna_segment_ids",
        "seqlens_known_patients",
        "seqlen",
        "mask_0",
        "unmask",
        "cache_branch_of_bank",
        "suppressed_ids",
        "",
    ],
)
def test_a_part_of_a_name_makes_nothing_public(name: str) -> None:
    for dtype in (np.int64, np.int32, np.uint8, np.bool_, np.float32):
        assert role_of(name, np.dtype(dtype), None) is None


@pytest.mark.parametrize("name", ["attention_mask", "position_ids", "write_indices", "cache_position"])
def test_conventional_names_are_those_of_integers_and_booleans(name: str) -> None:
    for dtype in (np.int64, np.int32, np.uint8, np.bool_):
        assert role_of(name, np.dtype(dtype), None) is not None
    for dtype in (np.float32, np.float16, np.float64, np.object_):
        assert role_of(name, np.dtype(dtype), None) is None


def test_what_indexes_a_table_of_words_is_ids_whatever_its_name() -> None:
    for name, role in ROLES.items():
        assert (role_of(name, INT, 30_000) is None) == (role != "positions")
    assert role_of("token_type_ids", INT, 2) == "token types"
    assert role_of("attention_mask", INT, 2) is None


def test_names_as_converters_write_them_are_known() -> None:
    assert role_of("input_mask:0", np.dtype(np.int32), None) == "mask"
    assert role_of("segment_ids:0", np.dtype(np.int32), 2) == "token types"
    assert role_of("use_cache_branch", np.dtype(np.bool_), None) == "choice"


def lookup(name: str, rows: int, elem: int = TensorProto.INT64) -> onnx.ModelProto:
    """A model that looks up its only input in a table."""
    table = np.random.default_rng(0).normal(0, 1, (rows, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", name], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, elem, ["batch", "sequence"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 4])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


Shown = Callable[..., tuple[str, ...]]


@pytest.fixture(name="shown")
def give_shown() -> Shown:
    def shown(model: onnx.ModelProto, **patterns: list[str]) -> tuple[str, ...]:
        return prepare_model(ir.serde.deserialize_model(model), Policy(**patterns))[0].public_inputs

    return shown


def test_the_owner_s_default_opens_no_ids(shown: Shown) -> None:
    assert shown(lookup("attention_mask", 50)) == ()
    assert shown(lookup("composition", 50)) == ()
    assert shown(lookup("position_ids", 50)) == ("position_ids",)
    assert shown(lookup("position_ids", 50), secret_inputs=["*"]) == ()
    assert shown(lookup("composition", 50), public_inputs=["comp*"]) == ("composition",)
