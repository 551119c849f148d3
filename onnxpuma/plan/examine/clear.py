"""The steps of a plan in the clear, through onnxruntime, by whoever has the weights and an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxpuma.graph.model import Graph
from onnxpuma.graph.run import run_node
from onnxpuma.plan.plan import Step


class ClearRun:
    """Values by name, as far as steps that are still to come read them.

    graph: with its weights, which are read from their file again for each step. known: what the client knows
    (`Plan.client_values`).
    """

    def __init__(self, graph: Graph, known: Mapping[str, np.ndarray]) -> None:
        self._graph, self._known = graph, known
        self._values: dict[str, np.ndarray] = {}

    def inputs(self, step: Step) -> list[np.ndarray | None]:
        """The operands of a step, in its node's order."""
        return [None if name is None else self._value(name) for name in step.call.node.inputs]

    def _value(self, name: str) -> np.ndarray:
        if name in self._values:
            return self._values[name]
        if name in self._known:
            return self._known[name]
        return self._graph.initializers[name].numpy()

    def results(self, step: Step, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """What the step's node gives on these operands. Raises ModelError when it cannot be run."""
        return run_node(step.call.node, inputs, self._graph.opset)

    def keep(self, step: Step, outputs: Sequence[np.ndarray]) -> None:
        """Outputs of a step, for those that read them."""
        self._values.update((n, v) for n, v in zip(step.outputs, outputs, strict=True) if n)

    def free(self, step: Step) -> None:
        """Forget what nobody reads after this step, the last of its wave."""
        for name in step.frees:
            self._values.pop(name, None)
