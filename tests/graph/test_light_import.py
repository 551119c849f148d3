"""onnx_ir works without sympy until a dimension is computed with."""

from __future__ import annotations

import subprocess
import sys


def test_sympy_is_imported_when_a_dimension_is_computed() -> None:
    code = """
        import sys, onnxpuma.graph, onnx_ir as ir
        dim = ir.SymbolicDim("n")
        print("sympy" in sys.modules, (dim * 2 - 3).evaluate({"n": 4}), "sympy" in sys.modules)
        import sympy, sympy.core
        print(type(dim._expr) is sympy.Symbol)
    """
    lines = "\n".join(line.strip() for line in code.strip().splitlines())
    said = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "5", "True", "True"]
