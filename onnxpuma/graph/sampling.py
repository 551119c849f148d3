"""The derived outputs from which a client samples: an id drawn from the logits at the last position.

`sampled_token` takes public parameters alone. `shifted_token` also adds a secret number to each logit:
penalties for what was written, biases. `penalised_token` also has a repetition penalty for the ids that the
client marks, in secret. Each is computed only where it is asked for.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.rules.fused import Writer
from onnxpuma.standard.signature import declare

DOMAIN, SAMPLE = "onnxpuma", "Sample"
SAMPLED, SHIFTED, PENALISED = "sampled_token", "shifted_token", "penalised_token"
DRAWN = (SAMPLED, SHIFTED, PENALISED)
PARAMETERS_INPUT = "sampling"  # derived public input: the numbers named by PARAMETERS and REPETITION
SHIFT = "logit_shift"  # derived secret input: added to the logits
MARKED = "repeated_ids"  # derived secret input: one for an id with a repetition penalty, else zero
PARAMETERS = ("temperature", "top_k", "top_p", "min_p")
REPETITION = len(PARAMETERS)  # the place of the repetition penalty behind them
NEUTRAL = (1.0, 0.0, 1.0, 0.0, 1.0)
FARTHEST_SHIFT = 1000.0
declare(DOMAIN, SAMPLE)


def default_inputs(size: int) -> dict[str, np.ndarray]:
    """The derived inputs of a model of `size` ids, and what they hold where a client leaves them out."""
    nothing = np.zeros((1, 1, size), np.float32)
    return {PARAMETERS_INPUT: np.array(NEUTRAL, np.float32), SHIFT: nothing, MARKED: nothing}


def input_ranges() -> dict[str, list[float]]:
    """The ranges of the secret ones."""
    return {SHIFT: [-FARTHEST_SHIFT, FARTHEST_SHIFT], MARKED: [0.0, 1.0]}


def sampled_outputs(
    w: Writer, row: ir.Value, suppression: ir.Value, size: int
) -> tuple[dict[str, ir.Value], list[ir.Value]]:
    """The outputs by name, from the logits (batch, 1, vocabulary), and the inputs that they read."""
    parameters = _input(PARAMETERS_INPUT, [len(NEUTRAL)])
    shift, marked = _input(SHIFT, ["shifted", 1, size]), _input(MARKED, ["shifted", 1, size])
    open_to = w.Add(row, suppression)
    shifted = w.Add(shift, suppression)
    outputs = {
        SAMPLED: _sample(w, open_to, parameters),
        SHIFTED: _sample(w, w.Add(row, shifted), parameters),
        PENALISED: _sample(w, w.Add(_penalised(w, row, marked, parameters), shifted), parameters),
    }
    return outputs, [parameters, shift, marked]


def _input(name: str, shape: list[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))


def _sample(w: Writer, scores: ir.Value, parameters: ir.Value) -> ir.Value:
    node = ir.node(SAMPLE, [scores, parameters], domain=DOMAIN, version=1)
    w.nodes.append(node)
    return node.outputs[0]


def _penalised(w: Writer, row: ir.Value, marked: ir.Value, parameters: ir.Value) -> ir.Value:
    """Marked logits times the penalty if they are negative, else divided by it.

    That is x + marked ((p - 1) x + (1 / p - p) max(x, 0)).
    """
    penalty = w.Gather(parameters, w.weight(ir.tensor(np.array(REPETITION), name=_NAME), _NAME), axis=0)
    more = w.Sub(penalty, w.weight(ir.tensor(np.array(1.0, np.float32), name=_ONE), _ONE))
    other = w.Sub(w.Reciprocal(penalty), penalty)
    change = w.Add(w.Mul(row, more), w.Mul(w.Relu(row), other))
    found: ir.Value = w.Add(row, w.Mul(change, marked))
    return found


_NAME, _ONE = f"{PENALISED}/place", f"{PENALISED}/one"
