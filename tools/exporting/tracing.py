"""From a PyTorch model to ONNX: named flat tensors in and out, one symbol per dynamic axis."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir
import torch

from exporting import ExportError, TraceError

Axes = Mapping[int, str]  # the dynamic axes of one input: axes of one name have one extent
BATCH: Axes = {0: "batch"}
BATCH_SEQUENCE: Axes = {0: "batch", 1: "sequence"}

OPSETS = {"dynamo": (18, 23), "torchscript": (14, 20)}  # lowest and highest each exporter writes
DEFAULT_OPSET = {"dynamo": 23, "torchscript": 17}


def trace(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    axes: Mapping[str, Axes],
    outputs: Sequence[str],
    *,
    exporter: str = "dynamo",
    opset: int | None = None,
    weightless: bool = False,
) -> ir.Model:
    """Trace `module(*example)` into an ONNX model; `axes` names its inputs, in order, and their dynamic axes.

    weightless: module and example are on the meta device (dynamo alone traces them), and the model's weights
    get no values.

    Raises ExportError for an opset that the exporter does not write, TraceError when PyTorch cannot trace the
    module.
    """
    opset = opset or DEFAULT_OPSET[exporter]
    lowest, highest = OPSETS[exporter]
    if not lowest <= opset <= highest:
        raise ExportError(
            f"the {exporter} exporter writes opset {lowest} to {highest}, not {opset}",
            f"omit --opset for {DEFAULT_OPSET[exporter]}",
        )
    try:
        with _quiet():
            if exporter == "dynamo":
                return _dynamo(module, example, axes, outputs, opset, weightless)
            return _torchscript(module, example, axes, outputs, opset)
    except Exception as error:  # the exporters raise errors of every kind
        other = "torchscript" if exporter == "dynamo" else "dynamo"
        message = f"{exporter} cannot trace this model: {_reason(error)}"
        raise TraceError(message, f"try --exporter {other}") from error


def _reason(error: BaseException) -> str:
    """The first line of the innermost error; above it come the exporter's own steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _dynamo(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    axes: Mapping[str, Axes],
    outputs: Sequence[str],
    opset: int,
    weightless: bool,
) -> ir.Model:
    # Strings tie the symbols: every axis of one name becomes one symbol, unlike with Dim.DYNAMIC.
    per_input = tuple(dict(names) for names in axes.values())
    parameters = inspect.signature(module.forward).parameters.values()
    variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    program = torch.onnx.export(
        module,
        tuple(example),
        input_names=list(axes),
        output_names=list(outputs),
        opset_version=opset,
        dynamic_shapes=(per_input,) if variadic else per_input,
        dynamo=True,
        verbose=False,
        optimize=not weightless,
    )
    assert program is not None
    if weightless:
        # The optimiser asks for the values of every constant that claims to have some.
        for value in program.model.graph.initializers.values():
            if getattr(getattr(value.const_value, "raw", None), "is_meta", False):
                value.const_value = None
        program.optimize()
    return program.model


def _torchscript(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    axes: Mapping[str, Axes],
    outputs: Sequence[str],
    opset: int,
) -> ir.Model:
    training = module.training
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            module,
            tuple(example),
            str(path),
            input_names=list(axes),
            output_names=list(outputs),
            opset_version=opset,
            dynamic_axes={name: dict(names) for name, names in axes.items()},
            dynamo=False,
        )
        model = ir.load(path)
        ir.external_data.load_to_model(model)
    module.train(training)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress lines and deprecation warnings of the exporters."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
