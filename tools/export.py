"""Turn a Transformers model into ONNX files that onnxpuma can run.

    python tools/export.py --model bert-base-uncased --task feature-extraction --out bert --random-init
    python tools/export.py --model ./my-finetuned-bert --task text-classification --out classifier
    python tools/export.py --model SmolLM2-135M.Q8_0.gguf --task text-generation-with-past --out smollm2
    python tools/export.py --model t5-small --task summarization --out t5
    python tools/export.py --model ./llama-7b --task text-generation-with-past --out ./llama-7b

Writes one file, or three for an encoder-decoder (weights above 100 MB beside it, as .onnx.data), config.json,
and the tokenizer, feature extractor or image processor of the source; random weights get stand-ins. Every
file is run at several shapes and compared with PyTorch. A large decoder's file points into the checkpoint's
own safetensors files, beside which it lies. See docs/export.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exporting import ExportError, TraceError
from exporting.tasks import ALIASES, TASKS, task_named

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporting.parts import Part
    from exporting.tasks import Task

EXPORTERS = ("dynamo", "torchscript")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--model", required=True, help="a model name, a hub repository, a local folder or a .gguf file"
    )
    parser.add_argument("--task", required=True, help=", ".join([*TASKS, *ALIASES]))
    parser.add_argument("--out", required=True, type=Path, help="folder to write; created if missing")
    parser.add_argument("--random-init", action="store_true", help="random weights: nothing is downloaded")
    parser.add_argument("--tiny", action="store_true", help="2 layers of width 64, random weights")
    parser.add_argument("--layers", type=int, help="with random weights: how many layers, fewer than it has")
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="copy no weight: model.onnx points into the safetensors files beside it (decoders with a cache; "
        "the default above a billion parameters)",
    )
    parser.add_argument(
        "--exporter",
        choices=EXPORTERS,
        help="default: dynamo, and where it cannot write the model, torchscript",
    )
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
    """Run the export that the command line asks for; return one line per fact worth printing."""
    task = task_named(options.task)
    if options.sequence < 4:
        raise ExportError("the traced sequence must have at least 4 tokens", "omit --sequence for 16")
    if options.layers is not None and not (options.random_init or options.tiny):
        raise ExportError("--layers is for models with random weights", "pass --random-init, or omit it")
    require("torch", "transformers", "onnxscript")
    from exporting import large

    if large.goes_in_place(options, task):
        traced, part, lines = large.export_in_place(options, task)
        return [*_described(traced, part), *lines]
    try:
        return _exported(options, task, options.exporter or EXPORTERS[0])
    except TraceError as error:
        if options.exporter is not None or options.opset is not None:
            raise
        return [
            f"note     not written by {EXPORTERS[0]}: {error}",
            f"note     written by {EXPORTERS[1]}, with more and smaller nodes",
            *_exported(options, task, EXPORTERS[1]),
        ]


def _exported(options: argparse.Namespace, task: Task, exporter: str) -> list[str]:
    from exporting import checkpoints
    from exporting.forms import parts_of

    drawn = options.random_init or options.tiny
    model = checkpoints.load(
        options.model,
        task,
        random_init=options.random_init,
        tiny=options.tiny,
        attention=None if exporter == "dynamo" else "eager",
        seed=options.seed,
        layers=options.layers,
    )
    parts = parts_of(model, task)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [line for part in parts for line in _written(part, options, exporter)]
    written, skipped = checkpoints.save_companions(
        model, options.model, task, options.out, drawn=drawn, tiny=options.tiny
    )
    return [
        *lines,
        *(f"wrote    {options.out / name}" for name in written),
        *(f"without  {reason}" for reason in skipped),
    ]


def _written(part: Part, options: argparse.Namespace, exporter: str) -> list[str]:
    from exporting import onnx_file, tracing
    from exporting.parts import Sizes

    sequence, seed = options.sequence, options.seed
    traced_at, other = Sizes(2, sequence, 5, 7, seed), Sizes(3, sequence + 5, 9, 11, seed + 1)
    example = part.example(traced_at)
    traced = tracing.trace(
        part.module, example, part.axes, part.outputs, exporter=exporter, opset=options.opset
    )
    files = onnx_file.save(onnx_file.tidy(traced), options.out / part.file)
    examples = [example, *(part.example(sizes) for sizes in (other, *part.also))]
    difference = onnx_file.check(files[0], part.module, list(part.axes), examples)
    return [
        *_described(traced, part),
        f"check    agrees with PyTorch at {len(examples)} shapes, largest difference {difference:.1e}",
        *(f"wrote    {path} ({path.stat().st_size / 1e6:.1f} MB)" for path in files),
    ]


def _described(traced: ir.Model, part: Part) -> list[str]:
    from exporting.onnx_file import histogram

    counts = histogram(traced)
    return [
        f"inputs   {', '.join(_folded(str(value.name) for value in traced.graph.inputs))}",
        f"outputs  {', '.join(_folded(part.outputs))}",
        f"graph    opset {traced.opset_imports['']}, {sum(counts.values())} nodes: "
        + ", ".join(f"{count} {name}" for name, count in counts.items()),
    ]


def _folded(names: Iterable[str]) -> list[str]:
    """The names, with those of all layers merged: past_key_values.*.key."""
    folded = (re.sub(r"^(past_key_values|present)\.\d+\.", r"\1.*.", name) for name in names)
    return list(dict.fromkeys(folded))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 when the files were written and agree with PyTorch, 1 with a message
    otherwise."""
    try:
        lines = export(arguments().parse_args(argv))
    except ExportError as error:
        print(f"error: {error}\n  hint: {error.hint}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
