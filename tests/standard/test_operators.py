"""The table of operators agrees with the standard's schemas."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxpuma.graph.model import Node
from onnxpuma.graph.run import run_node
from onnxpuma.standard.operators import OPERATORS, traits
from onnxpuma.standard.traits import EVERY, UNKNOWN

SCHEMAS = [s for s in onnx.defs.get_all_schemas_with_history() if not s.domain]
MOST_INPUTS = {op: max(s.max_input for s in SCHEMAS if s.name == op) for op in {s.name for s in SCHEMAS}}


def test_operators_stand_in_order_and_are_the_standards() -> None:
    assert list(OPERATORS) == sorted(OPERATORS)
    assert set(OPERATORS) <= set(MOST_INPUTS)


@pytest.mark.parametrize("op", OPERATORS)
def test_places_are_inputs_of_the_operator(op: str) -> None:
    found = OPERATORS[op]
    places = [found.shapes, found.indices, found.tables, found.trained, found.unread, found.masks]
    for slots in [*places, found.carries]:
        assert slots is EVERY or all(place < MOST_INPUTS[op] for place in slots)
    assert found.scores is None or found.scores < MOST_INPUTS[op]


@pytest.mark.parametrize("op", OPERATORS)
def test_an_input_has_one_purpose(op: str) -> None:
    found = OPERATORS[op]
    assert not {*found.shapes} & {*found.indices}
    assert not {*found.indices} & {*found.tables}
    assert not {*found.shapes} & {*found.trained}
    assert found.indices or not found.tables


def test_what_nobody_claims_is_not_known() -> None:
    assert traits("Softmax", "com.example") is UNKNOWN
    assert traits("NoSuchOperator") is UNKNOWN
    assert Node("n", "Shape", "com.example", 1, ("x",), ("y",)).traits is UNKNOWN


@pytest.mark.parametrize(
    "op", [op for op, found in OPERATORS.items() if found.between and found.rows == "each"]
)
def test_results_lie_where_the_table_says(op: str) -> None:
    low, high = OPERATORS[op].between or (0.0, 0.0)
    x = np.array([-1e4, -30.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 30.0], np.float32)
    node = Node("n", op, "", onnx.defs.get_schema(op, 24).since_version, ("x",), ("y",))
    (y,) = run_node(node, [x], 24)
    known = y[~np.isnan(y)]  # of a root
    assert known.size
    assert known.min() >= low
    assert known.max() <= high


@pytest.mark.parametrize("op", [op for op, found in OPERATORS.items() if found.rows == "each"])
def test_a_row_follows_from_that_row(op: str) -> None:
    """For operators on real numbers: a row alone gives the same result as among others."""
    schema = onnx.defs.get_schema(op, 24)
    node = Node("n", op, "", schema.since_version, ("x",), ("y",), {"to": 1} if op == "Cast" else {})
    x = np.random.default_rng(0).uniform(0.1, 0.9, (3, 4)).astype(np.float32)
    x = x > 0.5 if op == "Not" else x
    (whole,), (first,) = run_node(node, [x], 24), run_node(node, [x[:1]], 24)
    np.testing.assert_array_equal(whole[:1], first)
