"""Which constants of a model are secret: by rule and by the owner's patterns.

A pattern may name a constant that the canonical graph no longer has, because the expression that reads it
became one weight (graph/rules/weight_only.py). So patterns are matched twice, before and after the rewriting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from onnxpuma.errors import ConfigError
from onnxpuma.graph.attributes import attribute_names, classify_attributes
from onnxpuma.graph.finding import Finding
from onnxpuma.graph.grain import is_coarse
from onnxpuma.graph.model import Graph
from onnxpuma.graph.patterns import picked
from onnxpuma.graph.visibility import WEIGHT, classify, secrets_of


class Constants:
    """The owner's patterns on names of constants, matched against the unchanged model."""

    def __init__(self, model: ir.Model, public: Sequence[str], secret: Sequence[str]) -> None:
        self._public, self._secret, self._coarse = public, secret, is_coarse(model)
        names = {str(name) for graph in model.graphs() for name in graph.initializers}
        names |= {str(n.outputs[0].name) for g in model.graphs() for n in g if n.op_type == "Constant"}
        self._met = {p for p in (*public, *secret) if picked(names, p)}

    def weights(self, graph: Graph) -> list[str]:
        """The secret constants of a graph. A pattern that matches none of them is no error here."""
        seen = classify(graph, self._public, self._secret, set(), coarse=self._coarse)
        return secrets_of(seen)

    def classified(
        self, graph: Graph, computed: Sequence[str], unmatched: set[str] | None
    ) -> dict[str, Finding]:
        """Initializer of the canonical graph -> its visibility, with the reason.

        computed: initializers that replace expressions of weights. They are weights whatever they look like,
        unless a pattern makes them public. Raises ConfigError for a pattern that matched neither here nor in
        the file; `unmatched`, where it is given, collects such patterns instead.
        """
        nowhere: set[str] = set()
        names = attribute_names(graph)
        seen = classify(graph, self._public, self._secret, nowhere, names=names, coarse=self._coarse)
        nowhere -= self._met
        if unmatched is not None:
            unmatched.update(nowhere)
        elif nowhere:
            raise ConfigError(
                f"the pattern '{min(nowhere)}' matches no weight of the model",
                "onnxpuma inspect lists the names; quote the pattern in a shell",
            )
        shown = set().union(*(picked(seen, pattern) for pattern in self._public))
        for name in computed:
            if name in seen and name not in shown:
                seen[name] = seen[name] if seen[name].secret else WEIGHT  # keep a secret one's reason
        return seen

    def doubtful(self, graph: Graph, seen: Mapping[str, Finding]) -> tuple[str, ...]:
        """The names of public constants and attributes that may have been trained."""
        found = {**seen, **classify_attributes(graph, self._public)}
        return tuple(name for name, finding in found.items() if finding.doubtful)
