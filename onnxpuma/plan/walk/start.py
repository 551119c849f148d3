"""The values that are known before the walk: inputs, weights and public constants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.graph.model import ValueType
from onnxpuma.ops.bounds import UNKNOWN
from onnxpuma.ops.registry import Operand, altered
from onnxpuma.ops.sight import last
from onnxpuma.plan.bounds.ranges import entered
from onnxpuma.plan.known.state import State
from onnxpuma.plan.known.values import Known
from onnxpuma.plan.walk.masks import ReadersOf, given


def enter_inputs(
    state: State,
    shapes: Mapping[str, tuple[int, ...]],
    public_values: Mapping[str, np.ndarray],
    at_client: bool,
) -> None:
    """Every input at its shape. A secret one is the client's until a step reads it; with at_client=False it
    is shared at once, unless it is text or indexes a table."""
    read_as_ids = {node.inputs[1] for node in state.graph.nodes if node.op == "Gather"}
    for name, spec in state.blueprint.inputs.items():
        kind = ValueType(spec.dtype, tuple(shapes[name]))
        if spec.secret:
            state.values[name] = Known(kind, client=True, constant=False)
            shared = not at_client and name not in read_as_ids and spec.dtype.kind != "O"
            if shared or name in state.selection.held:
                _share(state, name)
        elif name not in public_values:
            raise InputError(
                f"the public input '{name}' has no value", "give it one: the plan depends on its values"
            )
        else:
            # A copy: a caller may fill its array anew, and the next plan is compared with this one.
            state.values[name] = Known(kind, np.array(public_values[name]), constant=False)


def _share(state: State, name: str) -> None:
    """An input that is shared whatever reads it: by the client, or by the servers that kept it."""
    kind = state.values[name].type
    held = name in state.selection.held
    # A kept value is no mask, whatever its readers do with it.
    readers: ReadersOf = {} if held else state.readers
    public = state.blueprint.public_inputs
    entry, operand = given(readers, state.graph, public, name, kind, state.blueprint.resting)
    (state.held if held else state.inputs)[name] = entry
    state.values[name] = Known(kind, operand=entered(state.blueprint, entry, operand, held), constant=False)


def enter_constants(state: State) -> dict[str, Known]:
    """Every initializer: the secret ones as the owner has encoded them."""
    blueprint, found = state.blueprint, dict[str, Known]()
    for name, initializer in state.graph.initializers.items():
        kind = ValueType(initializer.dtype, initializer.shape)
        if name not in state.weights:
            found[name] = Known(kind, initializer.numpy())
            continue
        # A narrow ring comes in when all readers are known (plan/narrow_weights.py).
        format = blueprint.format(name).modulo(blueprint.resting.bits)
        operand = Operand(
            name,
            initializer.shape,
            initializer.dtype,
            format=format,
            resting=format,
            weight=True,
            reads=blueprint.reads.get(name, 0),
        )
        stated = blueprint.known_bounds.get(name, UNKNOWN)
        bound = stated.around(format.unit / 2, last(operand))  # encoding rounds each number
        found[name] = Known(kind, operand=altered(operand, bound=bound))
    return found
