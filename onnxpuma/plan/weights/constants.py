"""Which constants of a model are secret: by rule and by patterns, also of what is computed from them.

A pattern may name a constant of the file that is no more in the canonical graph, because the expression that
reads it became one weight (graph/rules/weight_only.py). So patterns are looked at twice, before and after.
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
    """public, secret: the owner's patterns on names of constants. model: as it is in the file."""

    def __init__(self, model: ir.Model, public: Sequence[str], secret: Sequence[str]) -> None:
        self._public, self._secret, self._coarse = public, secret, is_coarse(model)
        names = {str(name) for graph in model.graphs() for name in graph.initializers}
        names |= {str(n.outputs[0].name) for g in model.graphs() for n in g if n.op_type == "Constant"}
        self._met = {p for p in (*public, *secret) if picked(names, p)}

    def weights(self, graph: Graph) -> list[str]:
        """Those of these constants that are secret; patterns that match none of them are passed over."""
        seen = classify(graph, self._public, self._secret, set(), coarse=self._coarse)
        return secrets_of(seen)

    def classified(
        self, graph: Graph, computed: Sequence[str], unmatched: set[str] | None
    ) -> dict[str, Finding]:
        """Initializer of the canonical graph -> what was found of it, as `classify` has it.

        computed: those that were expressions of weights: they are weights whatever they look like, unless a
        pattern makes them public. Raises ConfigError for a pattern that matched nothing, neither here nor
        before; where `unmatched` is given it goes there instead.
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
                seen[name] = seen[name] if seen[name].secret else WEIGHT  # looking like structure is no news
        return seen

    def doubtful(self, graph: Graph, seen: Mapping[str, Finding]) -> tuple[str, ...]:
        """The names of public constants, and of attributes, that may have been trained."""
        found = {**seen, **classify_attributes(graph, self._public)}
        return tuple(name for name, finding in found.items() if finding.doubtful)
