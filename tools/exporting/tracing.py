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
from typing import Any

import onnx_ir as ir
import torch

from exporting import ExportError
from exporting.tasks import Task

OPSETS = {"dynamo": (18, 23), "torchscript": (14, 20)}  # lowest and highest each exporter writes
DEFAULT_OPSET = {"dynamo": 23, "torchscript": 17}
BATCH = {0: "batch"}
BATCH_SEQUENCE = {0: "batch", 1: "sequence"}


class Wrapped(torch.nn.Module):
    """A Transformers model as a function of positional tensors that returns a tuple of tensors."""

    def __init__(self, model: Any, task: Task, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)
        self.mean_pooled = task.mean_pooled
        self.outputs = task.outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given: dict[str, Any] = dict(zip(self.inputs, tensors, strict=True))
        if self.model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
            # Left alone, these count positions from `input_ids != pad`, which would make every position a
            # secret. The mask says the same and is public.
            mask = given["attention_mask"]
            pad = self.model.config.pad_token_id
            given["position_ids"] = torch.cumsum(mask, dim=1) * mask + pad
            given["token_type_ids"] = torch.zeros_like(given["input_ids"])
        if hasattr(self.model.config, "use_cache"):
            given["use_cache"] = False
        result = self.model(**given)
        if self.mean_pooled:
            weight = given["attention_mask"].unsqueeze(-1).to(result.last_hidden_state.dtype)  # (b, n, 1)
            weight = weight / weight.sum(dim=1, keepdim=True)
            return ((result.last_hidden_state * weight).sum(dim=1),)
        return tuple(result[name] for name in self.outputs)


def example_inputs(
    model: Any, names: Sequence[str], batch: int, sequence: int, seed: int
) -> tuple[torch.Tensor, ...]:
    """Random inputs of one shape; where there is more than one row, the last ends in two masked positions."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    mask = torch.ones(batch, sequence, dtype=torch.int64)
    if batch > 1 and sequence > 3:
        mask[-1, -2:] = 0
    made: dict[str, torch.Tensor] = {"attention_mask": mask}
    for name in names:
        if name == "pixel_values":
            size = config.image_size
            height, width = (size, size) if isinstance(size, int) else size
            made[name] = torch.randn(batch, config.num_channels, height, width, generator=generator)
        elif name == "input_ids":
            # from 5 on: below it lie the padding and other special tokens
            ids = torch.randint(5, config.vocab_size - 1, (batch, sequence), generator=generator)
            pad = config.pad_token_id
            made[name] = ids if pad is None else torch.where(mask == 1, ids, pad)
        elif name == "token_type_ids":
            made[name] = torch.randint(0, config.type_vocab_size, (batch, sequence), generator=generator)
    return tuple(made[name] for name in names)


def kept_outputs(task: Task, model: Any, names: Sequence[str], example: Sequence[torch.Tensor]) -> Task:
    """The task with only those outputs that this architecture gives."""
    if task.mean_pooled:
        return task
    with torch.no_grad():
        result = model(**dict(zip(names, example, strict=True)))
    kept = tuple(name for name in task.outputs if result.get(name) is not None)
    return Task(task.auto_class, task.modality, kept)


def trace(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    axes: Mapping[str, dict[int, str]],
    outputs: Sequence[str],
    *,
    exporter: str = "dynamo",
    opset: int | None = None,
) -> ir.Model:
    """Trace `module(*example)` into an ONNX model; `axes` names its inputs, in order, and their dynamic axes.

    Raises ExportError for an opset the exporter does not write, or when PyTorch cannot trace the module.
    """
    opset = opset or DEFAULT_OPSET[exporter]
    lowest, highest = OPSETS[exporter]
    if not lowest <= opset <= highest:
        raise ExportError(
            f"the {exporter} exporter writes opset {lowest} to {highest}, not {opset}",
            f"leave --opset out for {DEFAULT_OPSET[exporter]}",
        )
    try:
        with _quiet():
            if exporter == "dynamo":
                return _dynamo(module, example, axes, outputs, opset)
            return _torchscript(module, example, axes, outputs, opset)
    except Exception as error:  # the exporters raise whatever their thousands of lines meet
        other = "torchscript" if exporter == "dynamo" else "dynamo"
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        message = f"{exporter} cannot trace this model: {first_line}"
        raise ExportError(message, f"try --exporter {other}") from error


def _dynamo(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    axes: Mapping[str, dict[int, str]],
    outputs: Sequence[str],
    opset: int,
) -> ir.Model:
    # Strings tie the symbols: every axis of one name becomes one symbol, which Dim.DYNAMIC does not do.
    per_input = tuple(axes.values())
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
    )
    assert program is not None
    return program.model


def _torchscript(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor],
    axes: Mapping[str, dict[int, str]],
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
            dynamic_axes=dict(axes),
            dynamo=False,
        )
        model = ir.load(path)
        ir.external_data.load_to_model(model)
    module.train(training)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the progress lines and deprecation warnings of the exporters."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
