"""docs/operators.md matches the code."""

from __future__ import annotations

from onnxpuma.ops.registry import operators
from operator_samples import SAMPLES
from operators_table import TARGET, WITHOUT, descriptions, official, static_rows


def test_every_operator_has_a_sample() -> None:
    assert set(SAMPLES) == set(operators())


def test_the_committed_table_is_up_to_date() -> None:
    lines = TARGET.read_text().partition("## Without")[0].splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    written = [tuple(cell.strip() for cell in row[:7]) for row in table]
    assert written == [tuple(cell.strip() for cell in row) for row in static_rows()]
    assert [n for n in TARGET.read_text().splitlines() if n.startswith("- **")] == descriptions()


def test_official_counts_are_those_of_the_committed_table() -> None:
    rows = [row for row in TARGET.read_text().splitlines() if row.startswith("| ")]
    written = {row.split(" | ")[0].strip("| "): row for row in rows}
    for name, count in official().items():
        if name in SAMPLES or name in WITHOUT:
            assert written[name].endswith(f"| {count} |")
