"""Large models: whether an export goes in place, and its steps from weights in files to model.onnx."""

from __future__ import annotations

import copy
import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
import transformers

from exporting import ExportError, checkpoints, in_place, onnx_file
from exporting.architectures import cut, is_folder, random_config
from exporting.causal import causal
from exporting.parts import Part
from exporting.random_shards import write_random
from exporting.repeat import TRACED, repeat
from exporting.shards import Stored, bring, has_shards, read_shards
from exporting.skeleton import shapes_of, skeleton
from exporting.tasks import Task

LARGE = 1_000_000_000  # parameters: below it an export holds its weights in memory
_FORM = "causal"


def goes_in_place(options: Namespace, task: Task) -> bool:
    """Whether the weights stay in their files: as asked for, else for decoders with a cache of more than
    LARGE parameters, from a folder of safetensors files or with random weights.

    Raises ExportError where it is asked for and cannot be.
    """
    if options.in_place:
        _refuse(options, task)
        return True
    if task.form != _FORM or options.exporter == "torchscript" or options.opset is not None:
        return False
    if options.random_init:
        return not options.tiny and _count(options, task) > LARGE
    folder = Path(options.model)
    if options.tiny or not is_folder(options.model) or not has_shards(folder) or _is_quantised(folder):
        return False
    return sum(place.size for place in read_shards(folder).values()) > LARGE


def _refuse(options: Namespace, task: Task) -> None:
    if task.form != _FORM:
        raise ExportError(
            "--in-place exports decoders with a cache", "pass --task text-generation-with-past, or omit it"
        )
    if options.exporter == "torchscript" or options.opset is not None:
        raise ExportError("--in-place needs the dynamo exporter and its opset", "omit --exporter and --opset")
    if not (options.random_init or options.tiny) and not (
        is_folder(options.model) and has_shards(Path(options.model))
    ):
        raise ExportError(
            f"--in-place needs a local folder with config.json and safetensors files, not {options.model!r}",
            "fetch a checkpoint of the hub with `hf download NAME --local-dir FOLDER`, and pass the folder",
        )


def _is_quantised(folder: Path) -> bool:
    return "quantization_config" in json.loads((folder / "config.json").read_text())


def _count(options: Namespace, task: Task) -> int:
    try:
        model = skeleton(random_config(options.model, False, options.layers), task)
    except ExportError:
        return 0  # the ordinary way has the message for it
    return sum(math.prod(shape) for shape in shapes_of(model).values())


def export_in_place(options: Namespace, task: Task) -> tuple[ir.Model, Any, list[str]]:
    """Write model.onnx into `options.out`, and the files for its client; return its graph, its part and a
    line for every fact worth printing.

    Memory: about a gigabyte, whatever the size of the model, and for the check the weights of some layers.
    Raises ExportError.
    """
    drawn = options.random_init or options.tiny
    out: Path = options.out
    if drawn:
        config = random_config(options.model, options.tiny, options.layers)
        config.dtype = torch.float16
    else:
        config = transformers.AutoConfig.from_pretrained(options.model)
        stored = read_shards(Path(options.model))
    model = skeleton(config, task)
    with torch.device("meta"):
        (part,) = causal(model)
    if drawn:
        written = write_random(shapes_of(model), out, options.seed)
        stored = read_shards(out)
    else:
        places = in_place.places_of(model, stored)  # before anything is copied
        used = {name: stored[name] for name in stored if stored[name] in places.values()}
        stored, written = bring(used, out)
    places = in_place.places_of(model, stored)
    graph = _traced(config, task, part, options.sequence)
    in_place.attach(graph.graph, model, places)
    path = out / part.file
    path.with_name(path.name + ".data").unlink(missing_ok=True)  # of an earlier export that held its weights
    ir.save(graph, path)
    names: list[str] = []
    skipped: list[str] = []
    if drawn or Path(options.model).resolve() != out.resolve():  # else config.json and the others are there
        names, skipped = checkpoints.save_companions(
            model, options.model, task, out, drawn=drawn, tiny=options.tiny
        )
    difference = in_place.check(path, part, model, places, options.seed)
    lines = [
        f"weights  {_described(places)}",
        f"check    a prompt of {in_place.PROMPT} words and {in_place.MORE} after it agree with PyTorch, "
        f"largest difference {difference:.1e}",
        *(f"wrote    {file} ({file.stat().st_size / 1e6:.1f} MB)" for file in (*written, path)),
        *(f"wrote    {out / name}" for name in names),
        *(f"without  {reason}" for reason in skipped),
    ]
    return graph, part, lines


def _traced(config: Any, task: Task, part: Part, sequence: int) -> ir.Model:
    """The model's graph: of alike layers a few are traced, and repeated."""
    layers = getattr(config, "num_hidden_layers", 0)
    if layers > TRACED and len(set(getattr(config, "layer_types", None) or ["the only"])) == 1:
        few = copy.deepcopy(config)
        cut(few, TRACED)
        short = skeleton(few, task)
        with torch.device("meta"):
            (beginning,) = causal(short)
        graph = onnx_file.tidy(in_place.trace(beginning, sequence))
        if repeat(graph.graph, layers, list(part.axes), part.outputs):
            return graph
    return onnx_file.tidy(in_place.trace(part, sequence))


def _described(places: dict[str, Stored]) -> str:
    once = {(place.path, place.offset): place for place in places.values()}.values()
    files, kinds = {place.path for place in once}, sorted({place.dtype for place in once})
    size = sum(place.nbytes for place in once)
    held = f"{len(once)} tensors ({', '.join(kinds)}; {size / 1e9:.2f} GB)"
    return f"{held} stay in {len(files)} safetensors file{'s' * (len(files) > 1)}"
