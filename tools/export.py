"""Turn a Transformers model into an ONNX file that onnxpuma can run.

    python tools/export.py --model bert-base-uncased --task feature-extraction --out bert --random-init
    python tools/export.py --model ./my-finetuned-bert --task text-classification --out classifier

Writes model.onnx (and model.onnx.data where the weights exceed 100 MB), config.json, and the tokenizer or
image processor where the source has one. The file is run at two shapes and held against PyTorch.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from exporting import ExportError
from exporting.tasks import TASKS, input_names, task_named


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True, help="a model name, a hub repository or a local folder")
    parser.add_argument("--task", required=True, help=", ".join(TASKS))
    parser.add_argument("--out", required=True, type=Path, help="folder to write; made where it is not there")
    parser.add_argument("--random-init", action="store_true", help="random weights: nothing is downloaded")
    parser.add_argument("--tiny", action="store_true", help="2 layers of width 64, random weights")
    parser.add_argument("--exporter", choices=["dynamo", "torchscript"], default="dynamo")
    parser.add_argument("--opset", type=int, help="default: 23 with dynamo, 17 with torchscript")
    parser.add_argument("--sequence", type=int, default=16, help="tokens in the traced example (default 16)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of random weights and example inputs (default 0)"
    )
    return parser


def require(*packages: str) -> None:
    """Raise ExportError where a package is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"{' and '.join(missing)} not installed", "pip install 'onnxpuma[export]'")


def export(options: argparse.Namespace) -> list[str]:
    """Do what the command line asks for; returns one line per fact worth printing."""
    task = task_named(options.task)
    if options.sequence < 4:
        raise ExportError("the traced sequence must have at least 4 tokens", "leave --sequence out for 16")
    require("torch", "transformers", "onnxscript")
    from exporting import architectures, onnx_file, tracing

    model = architectures.load(
        options.model,
        task,
        random_init=options.random_init,
        tiny=options.tiny,
        attention="sdpa" if options.exporter == "dynamo" else "eager",
        seed=options.seed,
    )
    inputs = input_names(task, model.config.model_type)
    example = tracing.example_inputs(model, inputs, 2, options.sequence, options.seed)
    task = tracing.kept_outputs(task, model, inputs, example)
    module = tracing.Wrapped(model, task, inputs).eval()
    axes = {name: tracing.BATCH if name == "pixel_values" else tracing.BATCH_SEQUENCE for name in inputs}
    traced = tracing.trace(
        module, example, axes, task.outputs, exporter=options.exporter, opset=options.opset
    )
    options.out.mkdir(parents=True, exist_ok=True)
    files = onnx_file.save(onnx_file.tidy(traced), options.out / "model.onnx")
    other = tracing.example_inputs(model, inputs, 3, options.sequence + 5, options.seed + 1)
    difference = onnx_file.check(files[0], module, [example, other])
    drawn = options.random_init or options.tiny
    companions = architectures.save_companions(model, options.model, task, options.out, drawn=drawn)

    opset = traced.opset_imports[""]
    counts = onnx_file.histogram(traced)
    return [
        f"inputs   {', '.join(inputs)}",
        f"outputs  {', '.join(task.outputs)}",
        f"graph    opset {opset}, {sum(counts.values())} nodes: "
        + ", ".join(f"{count} {name}" for name, count in counts.items()),
        f"check    agrees with PyTorch at two shapes, largest difference {difference:.1e}",
        *(f"wrote    {path} ({path.stat().st_size / 1e6:.1f} MB)" for path in files),
        *(f"wrote    {options.out / name}" for name in companions),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0 when the file was written and agrees with PyTorch, 1 with a message otherwise."""
    try:
        lines = export(arguments().parse_args(argv))
    except ExportError as error:
        print(f"error: {error}\n  hint: {error.hint}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
