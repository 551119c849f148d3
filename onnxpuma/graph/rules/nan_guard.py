"""The guard around a softmax goes: Where(IsNaN(p), 0, p) -> p.

Exporters write it for rows whose keys are all masked. On secret data it would be a comparison for every
probability; the secure softmax and attention give such rows zeros by themselves, as the standard's
Attention does.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, scalar, yes


class NanGuard(Rule):
    """Where(IsNaN(p), 0, p) -> p for p = Softmax(x)"""

    title = "NaN guard"

    def pattern(self, op: Any, x: Any, zero: Any) -> Any:
        p = op.Softmax(x, _outputs=["p"])
        return op.Where(op.IsNaN(p), zero, p)

    def check(self, context: Any, zero: ir.Value, **_: Any) -> Any:
        return yes() if scalar(zero) == 0.0 else no("the guard puts something else than zero")

    def rewrite(self, op: Any, p: ir.Value, **_: Any) -> Any:
        return op.Identity(p)


RULES = (NanGuard,)
