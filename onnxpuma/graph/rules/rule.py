"""A rewriting rule: a pattern, a check that says yes or why not, and the replacement.

onnxscript does the matching. A rule never deletes the nodes it matched: it takes over their result, and
unread nodes are dropped afterwards. So an intermediate value that another node still reads stays correct.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import MatchResult, RewriteRule, RewriteRuleClassBase

from onnxpuma.graph.marks import is_marked, mark


class Rule(RewriteRuleClassBase):
    """Base of all rules.

    title: the rule's name in the report; applied: how often it applied; missed: node -> why not.
    """

    title = ""

    def __init__(self) -> None:
        super().__init__(self.title, remove_nodes=False)
        self.applied = 0
        self.missed: dict[str, str] = {}

    def compiled(self) -> RewriteRule:
        """The rule as onnxscript's rewriter takes it."""

        def rewrite(op: Any, **found: Any) -> Any:
            self.applied += 1
            return self.rewrite(op, **found)

        return RewriteRule(self.pattern, rewrite, self.check, name=self.title, remove_nodes=False)


def yes() -> MatchResult:
    return MatchResult()


def no(reason: str) -> MatchResult:
    return MatchResult().fail(reason)


def constant(op: Any, array: Any, like: ir.Value | None = None) -> ir.Value:
    """A new constant. `like`, from which it is computed, gives its element type and decides whether it is a
    weight."""
    values = np.asarray(array)
    if like is not None:
        values = values.astype(like.dtype.numpy())
    made: ir.Value = op.Constant(value=ir.tensor(values))
    if is_marked(like):
        mark(made)
    return made
