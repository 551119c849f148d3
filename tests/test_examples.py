"""The notebooks in examples/ run, and show what they promise."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "examples"
SHOWN = {
    "patient": ["<th>output</th>", "of 20 are right", "the model has no input 'measurement'"],
    "price": ["<svg", "at 200 Mbit/s and 20 ms one way", "bytes a text"],
    "chat": ["Usage(requests=", "assistant"],
    "embed": ["Usage(requests=1,", "(4, 48)"],
}


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_it_runs_from_the_top_without_an_error(name: str, tmp_path: Path) -> None:
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells), "a notebook is kept without its outputs"
    NotebookClient(
        book, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    told = "".join(
        output.get("text", "") + "".join(map(str, output.get("data", {}).values()))
        for cell in book.cells
        for output in cell.get("outputs", ())
    )
    for text in SHOWN[name]:
        assert text in told
    if name == "embed":
        rows = told[told.rindex("array(") :]
        near = np.array(ast.literal_eval(rows[len("array(") : rows.index("]]") + 2]))
        assert near[0, 1] > 0.8 > near[0, 2]
        assert near[2, 3] > near[1, 3]
