"""The guard of an attention's weights moves behind its product: Where(IsNaN(p), 0, p) v -> p v, guarded.

Exporters write it for rows whose keys are all masked. A row of NaN weights yields a row of NaN in the
product, so the guard may follow the product, where it does not hide the attention.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnxpuma.graph.rules.rule import Rule, no, yes
from onnxpuma.graph.values import scalar, used_once


class NanGuard(Rule):
    """MatMul(Where(IsNaN(p), 0, p), v) -> Where(IsNaN(y), 0, y), y = MatMul(p, v), p = Softmax(x)"""

    title = "NaN guard"

    def pattern(self, op: Any, x: Any, zero: Any, v: Any) -> Any:
        p = op.Softmax(x, _outputs=["p"])
        return op.MatMul(op.Where(op.IsNaN(p), zero, p, _outputs=["guarded"]), v)

    def check(self, context: Any, zero: ir.Value, guarded: ir.Value, **_: Any) -> Any:
        if not used_once(guarded):
            return no("other nodes read the guarded value too")
        return yes() if scalar(zero) == 0.0 else no("the guard inserts something other than zero")

    def rewrite(self, op: Any, p: ir.Value, v: ir.Value, zero: ir.Value, **_: Any) -> Any:
        y = op.MatMul(p, v)
        return op.Where(op.IsNaN(y), zero, y)


RULES = (NanGuard,)
