"""The registry is complete: every operator has a description, and a test in this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

import onnxpuma.ops as menu
from onnxpuma.ops.registry import Operator, operator, operators

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(operators()))
def test_every_operator_is_tested(name: str) -> None:
    texts = (path.read_text() for path in HERE.glob("test_*.py") if path.name != "test_menu.py")
    assert any(f'"{name}"' in text for text in texts)


@pytest.mark.parametrize("entry", operators().values(), ids=lambda entry: entry.name)
def test_every_operator_is_documented(entry: Operator) -> None:
    assert onnx.defs.has(entry.name)
    assert entry.error
    assert entry.secret
    assert entry.kernel.__doc__


def test_the_menu_imports_every_file() -> None:
    files = {path.stem for path in Path(menu.__file__).parent.glob("*.py")} - {"__init__"}
    rooms = {entry.kernel.__module__.rpartition(".")[2] for entry in operators().values()}
    assert rooms <= files
    assert all(f"onnxpuma.ops.{file}" in sys.modules for file in files)


def test_two_kernels_for_one_operator_are_an_error() -> None:
    with pytest.raises(ValueError, match="two kernels for Add"):
        operator("Add")(lambda party, call: iter(()))
