"""From a traced model to a file that may be given away: cleaned, saved, and checked against PyTorch."""

from __future__ import annotations

import ast
import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxruntime
import torch

from exporting import ExportError, TraceError

INLINE_LIMIT = 100 * 2**20  # bytes of weights; above it they go to model.onnx.data
TOLERANCE = 1e-4  # of the largest value of an output


def tidy(model: ir.Model) -> ir.Model:
    """Name the nodes by the module they came from, then drop everything that reveals the machine that traced
    them.

    The exporters leave stack traces with absolute paths in the metadata of every node and value.
    """
    for node in model.graph.all_nodes():
        scope = _scope(node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
        if scope:
            node.name = f"{scope}/{node.name}"
    passes.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        values.extend(node.outputs)
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None
        if value.const_value is not None:
            value.const_value.metadata_props.clear()
    for value in model.graph.initializers.values():
        # Their tensors declare it; declared twice, onnxruntime's quantiser fails on those that it transposes.
        value.shape = value.type = None
    return model


def save(model: ir.Model, path: Path) -> list[Path]:
    """Write `path`, and `path`.data beside it where the weights exceed INLINE_LIMIT; returns the files."""
    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size > INLINE_LIMIT:
        ir.save(model, path, external_data=data.name)
        return [path, data]
    ir.save(model, path)
    return [path]


def check(
    path: Path,
    module: torch.nn.Module,
    names: Sequence[str],
    examples: Sequence[tuple[torch.Tensor, ...]],
) -> float:
    """Check the file with ONNX's own checker and, for every example, compare onnxruntime with PyTorch.

    names: of the module's inputs; TorchScript omits those that nothing reads.

    Returns the largest absolute difference. Raises TraceError where an output differs by more than TOLERANCE
    of its largest value, and where the file cannot be checked or run.
    """
    try:
        return _largest_difference(path, module, names, examples)
    except ExportError:
        raise
    except Exception as error:  # the checker and onnxruntime raise many kinds of their own
        raise cannot_run(error) from error


def cannot_run(error: Exception) -> TraceError:
    """The error for a file that ONNX's checker or onnxruntime does not take."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TraceError(f"the ONNX file cannot be run: {reason}", _LEFT)


def _largest_difference(
    path: Path,
    module: torch.nn.Module,
    names: Sequence[str],
    examples: Sequence[tuple[torch.Tensor, ...]],
) -> float:
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Weights stay mapped from the file, and are not copied into another order.
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for example in examples:
        with torch.no_grad():
            expected = module(*example)
        if isinstance(expected, torch.Tensor):
            expected = (expected,)
        given = dict(zip(names, example, strict=True))
        feed = {node.name: given[node.name].numpy() for node in session.get_inputs()}
        results = session.run(None, feed)
        for output, ours, theirs in zip(session.get_outputs(), results, expected, strict=True):
            worst = max(worst, difference(output.name, ours, theirs.numpy(), example))
    return worst


def difference(
    output: str, ours: np.ndarray, reference: np.ndarray, example: Sequence[torch.Tensor]
) -> float:
    """The largest absolute difference of one output. Raises TraceError where it is above TOLERANCE of the
    largest value of `reference`, which is PyTorch's. example: the inputs, for the message.
    """
    shapes = list(dict.fromkeys(tuple(tensor.shape) for tensor in example))
    if ours.shape != reference.shape:
        raise _differs(output, shapes, f"shape {ours.shape}, not {reference.shape}")
    apart = float(np.abs(ours - reference).max(initial=0.0))
    if not apart <= TOLERANCE * max(1.0, float(np.abs(reference).max(initial=0.0))):
        raise _differs(output, shapes, f"difference {apart:.2e}")
    return apart


def histogram(model: ir.Model) -> dict[str, int]:
    """How many nodes of each operator the graph has, most frequent first."""
    counts = collections.Counter(node.op_type for node in model.graph.all_nodes())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _scope(recorded: str) -> str:
    """The innermost module of a recorded list such as ['', 'model', 'model.encoder.layer.0', 'linear_3']."""
    if not recorded:
        return ""
    modules = [str(name) for name in ast.literal_eval(recorded)][:-1]
    innermost = modules[-1] if modules else ""
    return "" if innermost == "model" or innermost.startswith("_") else innermost.removeprefix("model.")


def _differs(output: str, shapes: list[tuple[int, ...]], how: str) -> TraceError:
    return TraceError(
        f"the ONNX file and PyTorch disagree about {output!r} for inputs of shapes {shapes}: {how}",
        _LEFT,
    )


_LEFT = "try the other --exporter; the file is left in place for inspection"
