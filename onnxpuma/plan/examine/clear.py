"""The steps of a plan run in the clear, through onnxruntime, where the weights and an input are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxpuma.graph.model import Graph
from onnxpuma.graph.run import run_node
from onnxpuma.plan.plan import Plan, Step
from onnxpuma.plan.timeline import Uses


class ClearRun:
    """The values of a run, for as long as steps still read them."""

    def __init__(self, plan: Plan, graph: Graph, known: Mapping[str, np.ndarray]) -> None:
        """graph: its weights are read from their file anew for each step. known: `Plan.client_values`."""
        self._graph, self._known, self._uses = graph, known, Uses(plan)
        self._values: dict[str, np.ndarray] = {}

    def inputs(self, step: Step) -> list[np.ndarray | None]:
        """The operands of a step, in the order of its node's inputs."""
        return [None if name is None else self._value(name) for name in step.call.node.inputs]

    def _value(self, name: str) -> np.ndarray:
        if name in self._values:
            return self._values[name]
        if name in self._known:
            return self._known[name]
        return self._graph.initializers[name].numpy()

    def results(self, step: Step, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """The results of the step's node on these operands. Raises ModelError when it cannot run."""
        return run_node(step.call.node, inputs, self._graph.opset)

    def keep(self, step: Step, outputs: Sequence[np.ndarray]) -> None:
        """Keep the outputs of a step for its readers."""
        self._values.update((n, v) for n, v in zip(step.outputs, outputs, strict=True) if n)

    def free(self, step: Step) -> None:
        """Drop the values that nothing reads any more after this step; call it once for each step."""
        for name in self._uses.over(step):
            self._values.pop(name, None)
