"""Which weights: a folder, a hub repository or a GGUF file becomes a PyTorch model; or weights are drawn at
random."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from exporting import ExportError, stand_ins
from exporting.alibi import use_single_alibi
from exporting.architectures import hub_name, is_folder, random_config, unreachable
from exporting.experts import use_all_experts
from exporting.pooling import save_pooling
from exporting.tasks import Task

COMPANIONS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "source.spm",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "processor_config.json",
)
IMAGE_OR_SOUND = {
    "image": ("image processor", "AutoImageProcessor"),
    "audio": ("feature extractor", "AutoFeatureExtractor"),
}
# The part of a larger model that an image task needs, where AutoModel would load the whole.
IMAGE_PART = {"clip": "CLIPVisionModelWithProjection", "siglip": "SiglipVisionModel"}


def load(
    name: str,
    task: Task,
    *,
    random_init: bool,
    tiny: bool,
    attention: str | None,
    seed: int,
    layers: int | None = None,
) -> Any:
    """A model in eval mode, single precision; with random weights, of `layers` layers if given.

    Random weights come from Transformers' own initialisation (normal, standard deviation 0.02) under `seed`.
    Raises ExportError when the name cannot be loaded or the architecture has no class for the task.
    """
    auto = getattr(transformers, task.auto_class)
    options = {"attn_implementation": attention, "dtype": torch.float32}
    try:
        if random_init or tiny:
            config = random_config(name, tiny, layers)
            torch.manual_seed(seed)
            chosen = _image_part(config, task)
            if chosen is None:
                model = auto.from_config(config, **options)
            else:
                model = chosen._from_config(config.vision_config, **options)
        else:
            source, more = located(name)
            if not more:
                auto = _image_part(transformers.AutoConfig.from_pretrained(source), task) or auto
            model = auto.from_pretrained(source, **more, **options)
            if more:  # the written file is no longer quantised
                del model.config.quantization_config
    except OSError as error:
        raise unreachable(name, error) from error
    except ValueError as error:
        hint = f"choose a --task that this architecture has a {task.auto_class} for"
        raise ExportError(str(error).splitlines()[0], hint) from error
    use_all_experts(model)
    use_single_alibi(model)
    # Frozen, since dynamo writes attention with trainable weights differently, and then fails.
    return model.eval().requires_grad_(False)


def located(name: str) -> tuple[str, dict[str, str]]:
    """The arguments for `from_pretrained`: for a GGUF file its folder, and the file by name."""
    if not name.endswith(".gguf"):
        return hub_name(name), {}
    path = Path(name)
    if not path.is_file():
        raise ExportError(f"there is no file {name!r}", "--model takes the path of a .gguf file")
    needed = [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]
    if needed:
        raise ExportError(
            f"reading a .gguf file needs {' and '.join(needed)}", f"pip install {' '.join(needed)}"
        )
    return str(path.parent), {"gguf_file": path.name}


def _image_part(config: Any, task: Task) -> Any:
    if task.modality != "image" or config.model_type not in IMAGE_PART:
        return None
    return getattr(transformers, IMAGE_PART[config.model_type])


def save_companions(
    model: Any, name: str, task: Task, folder: Path, *, drawn: bool, tiny: bool
) -> tuple[list[str], list[str]]:
    """Write the configurations, the tokenizer and the processor for pictures or sounds, as a client needs
    them.

    A model whose weights were `drawn` at random takes them from a local folder only, never from a hub. Where
    there is none, or the model is `tiny` and knows fewer words, it gets stand-ins. Returns the names of the
    files, and those that could not be written, with the reason.
    """
    before = _ages(folder)
    model.config.architectures = [type(model).__name__]  # which tells a client the model's purpose
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    # For a folder without such files, Transformers would invent an empty tokenizer.
    bare = is_folder(name) and not any((Path(name) / file).is_file() for file in COMPANIONS)
    if tiny or (drawn and (bare or not is_folder(name))):
        makers = _made_up(model.config)
    else:
        makers = {} if bare else _of_source(name, task)
    skipped = [f"tokenizer or the like: there is none in {name}"] if bare and not makers else []
    for what, make in makers.items():
        try:
            made = make()
            if made is not None:
                made.save_pretrained(folder)
        except (OSError, ValueError, KeyError, ImportError) as error:  # Transformers lacks something for it
            skipped.append(f"{what}: {_first_line(error)}")
    if task.modality == "text" and not drawn:
        try:
            save_pooling(located(name)[0], folder)
        except OSError as error:
            skipped.append(f"pooling: {_first_line(error)}")
    return sorted(name for name, age in _ages(folder).items() if before.get(name) != age), skipped


def _ages(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def _made_up(config: Any) -> dict[str, Callable[[], Any]]:
    made = {"tokenizer": stand_ins.tokenizer, "image processor or feature extractor": stand_ins.preparer}
    return {what: partial(make, config) for what, make in made.items()}


def _of_source(name: str, task: Task) -> dict[str, Callable[[], Any]]:
    """How to read them from a folder or repository, by kind."""
    source, more = located(name)
    wanted = dict([IMAGE_OR_SOUND[task.modality]] if task.modality != "text" else [])
    if task.modality == "text" or task.form != "whole":
        wanted["tokenizer"] = "AutoTokenizer"
    readers = {what: getattr(transformers, auto).from_pretrained for what, auto in wanted.items()}
    return {what: partial(read, source, **more) for what, read in readers.items()}


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
