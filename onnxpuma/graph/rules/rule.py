"""A rewriting rule: a pattern, a check that says yes or why not, and the replacement.

onnxscript does the matching. A rule never deletes the nodes it matched: it takes over their result, and
unread nodes are dropped afterwards. So an intermediate value that another node still reads stays correct.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import MatchResult, Pattern, RewriteRule, RewriteRuleClassBase

from onnxpuma.graph.marks import is_marked, mark


class Rule(RewriteRuleClassBase):
    """Base of all rules.

    title: the rule's name in the report; applied: how often it applied; missed: node -> why not. A pattern
    is the class's: it reads nothing of the rule.
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

        return RewriteRule(
            _graph_of(type(self).pattern), rewrite, self.check, name=self.title, remove_nodes=False
        )


@cache
def _graph_of(pattern: Callable[..., Any]) -> Any:
    """The pattern of a class as a graph, which takes longer to make than to match."""
    return _pattern_of(Pattern(partial(pattern, None)))


def _pattern_of(made: Pattern) -> Any:
    return made._target_pattern


def fresh(rules: Iterable[RewriteRule]) -> list[RewriteRule]:
    """Copies of rules as onnxscript has them, for one thread and one model; they share their patterns."""
    given = list(rules)
    shared = {id(pattern): pattern for pattern in map(_pattern_of, given)}
    return copy.deepcopy(given, shared)


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
