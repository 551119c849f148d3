"""docs/operators.md matches the code; tests/conformance holds the number of official tests in it."""

from __future__ import annotations

from onnxpuma.ops.registry import operators
from operator_samples import SAMPLES
from operators_table import TARGET, descriptions, static_rows


def test_every_operator_has_a_sample() -> None:
    assert set(SAMPLES) == set(operators())


def test_the_committed_table_is_up_to_date() -> None:
    lines = TARGET.read_text().partition("## Without")[0].splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    written = [tuple(cell.strip() for cell in row[:7]) for row in table]
    assert written == [tuple(cell.strip() for cell in row) for row in static_rows()]
    assert [n for n in TARGET.read_text().splitlines() if n.startswith("- **")] == descriptions()
