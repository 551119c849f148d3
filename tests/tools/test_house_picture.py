"""The picture in docs/house.md is that of the code; the script that draws it finds what a file imports."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import house_picture as picture

PAGE = (Path(__file__).parents[2] / "docs" / "house.md").read_text()


def test_the_page_shows_the_rooms_as_they_are() -> None:
    shown = re.search(r"```mermaid\n(.*?)\n```", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1] == picture.mermaid(picture.arrows()), "python tools/house_picture.py --mermaid"


def test_no_rooms_import_each_other() -> None:
    for room in ((), ("mpc",), ("roles",), ("plan",), ("plan", "walk")):
        assert picture.table(picture.arrows(room)).endswith(" 0 pairs that import each other"), room


def test_arrows_that_others_imply_are_left_out() -> None:
    found = {"a": Counter(), "b": Counter({"a": 1}), "c": Counter({"a": 2, "b": 1})}
    assert picture.reduced(found) == {"a": set(), "b": {"a"}, "c": {"b"}}
    assert picture.lowest_first(found) == ["a", "b", "c"]


def test_imports_inside_of_functions_count(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text("import onnxpuma.graph.load\n\ndef f():\n    from onnxpuma.mpc import ring\n")
    assert set(picture.imported(path)) == {("graph", "load"), ("mpc", "ring")}
