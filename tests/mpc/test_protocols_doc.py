"""The table in docs/protocols.md is the output of benchmarks/protocols.py, and its sections exist."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocols.md").read_text()


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "protocols.py"))


@pytest.fixture(scope="module")
def measured(benchmark: dict[str, Any]) -> list[Any]:
    found: list[Any] = benchmark["lines"](8192)
    return found


def documented() -> dict[str, list[str]]:
    section = TEXT.split("## What it costs")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[1:]}


def test_rounds_and_bytes(measured: list[Any]) -> None:
    table = documented()
    assert set(table) == {line.name for line in measured}
    for line in measured:
        assert table[line.name][:2] == [str(line.rounds), f"{line.bytes:.1f}"], line.name


def test_errors_are_what_is_documented(measured: list[Any]) -> None:
    """The mean agrees within a third; the largest is at most half again as large."""
    table = documented()
    for line in measured:
        if line.largest is None:
            assert table[line.name][2].startswith("exact")
        else:
            largest, mean = (float(number) for number in table[line.name][2:4])
            assert line.mean == pytest.approx(mean, rel=0.35), line.name
            assert line.largest < 1.5 * largest, line.name


def test_the_output_of_the_script(
    benchmark: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in (["-n", "1024"], ["-n", "1024", "--json"]):
        monkeypatch.setattr("sys.argv", ["protocols.py", *options])
        benchmark["main"]()
        printed = capsys.readouterr().out
        if "--json" in options:
            assert {line["name"] for line in json.loads(printed)} == set(documented())
        else:
            assert printed.count("\n") == len(documented()) + 2


def test_every_section_that_the_code_names_exists() -> None:
    headings = set(re.findall(r"^## (.*)$", TEXT, re.MULTILINE))
    named: set[str] = set()
    for path in (*(ROOT / "onnxpuma" / "mpc").rglob("*.py"), *(ROOT / "tools").glob("*.py")):
        named |= set(re.findall(r'docs/protocols\.md, "([^"]*)"', " ".join(path.read_text().split())))
    assert len(named) > 8
    assert named <= headings
