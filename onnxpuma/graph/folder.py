"""The graphs of a model that is several ONNX files in a folder, under the names that exporters give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from onnxpuma.errors import ModelError
from onnxpuma.graph.bind import take_branches
from onnxpuma.graph.load import load

ONLY_GRAPH = "model"
ENCODER, DECODER, WITH_PAST = "encoder_model", "decoder_model", "decoder_with_past_model"
MERGED = "decoder_model_merged"
BRANCH = "use_cache_branch"
# Suffixes by which exporters name the type of the weights, the most precise first.
SUFFIXES = (
    "", "_fp32", "_fp16", "_bf16", "_quantized", "_q8", "_int8", "_uint8", "_q4", "_q4f16", "_bnb4", "_q2",
)  # fmt: skip

_HINT = (
    f"give one .onnx file, or a folder with {ONLY_GRAPH}.onnx, or {ENCODER}.onnx, {DECODER}.onnx and"
    f" {WITH_PAST}.onnx, or {ENCODER}.onnx and {MERGED}.onnx"
)


@dataclass(frozen=True)
class Source:
    """The file of one graph."""

    name: str
    path: Path
    bound: Mapping[str, bool] = field(default_factory=dict)  # inputs that select a graph of a merged decoder

    def load(self) -> ir.Model:
        """The checked model. Raises ModelError as `graph.load.load` does, and where a bound input is
        missing."""
        model = load(self.path)
        if self.bound:
            missing = set(self.bound) - {value.name for value in model.graph.inputs}
            if missing:
                raise ModelError(
                    f"{self.path.name} has no input '{missing.pop()}' that chooses between its two graphs",
                    "give the file, not the folder, if it is a single graph that also takes an empty cache",
                )
            take_branches(model, self.bound)
        return model


@dataclass(frozen=True)
class Found:
    """The graphs in a file or a folder, and the ONNX files that do not belong to the model."""

    sources: tuple[Source, ...]
    ignored: tuple[str, ...] = ()


def find(path: Path) -> Found:
    """Decide what to read: the file `path` itself, or the files of the folder that make up one model.

    A lone file is taken whatever its name. Of several, either model.onnx is taken, or encoder_model,
    decoder_model and decoder_with_past_model, those that exist; decoder_model_merged.onnx may replace the two
    decoders. Names may end in the storage format of the weights (`SUFFIXES`); of several such files the most
    precise is taken. A folder without an ONNX file may have them in its subfolder `onnx`. Raises ModelError
    for a folder without an ONNX file, or with several of which none is recognisably the model.
    """
    if not path.is_dir():
        return Found((Source(ONLY_GRAPH, path),))
    files = _files(path) or _files(path / "onnx")
    if not files:
        raise ModelError(f"there is no ONNX file in the folder {path}", _HINT)
    stored = {name: _most_precise(name, files) for name in (ONLY_GRAPH, ENCODER, DECODER, WITH_PAST, MERGED)}
    if len(files) == 1 and stored[MERGED] is None:
        return Found((Source(ONLY_GRAPH, next(iter(files.values()))),))
    family, only = _family(stored, files), stored[ONLY_GRAPH]
    if family and only is not None:
        others = _listing(dict.fromkeys(source.path.stem for source in family))
        raise ModelError(
            f"the folder {path} contains two models: {files[only].name}, and {others}",
            "move one of them elsewhere, or give the file",
        )
    if not family and only is None:
        raise ModelError(f"which of {_listing(files)} in the folder {path} is the model?", _HINT)
    sources = family or [Source(ONLY_GRAPH, files[str(only)])]
    if len(sources) == 1:
        sources = [replace(sources[0], name=ONLY_GRAPH)]
    taken = {source.path for source in sources}
    return Found(tuple(sources), tuple(file.name for file in files.values() if file not in taken))


def _files(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(folder.glob("*.onnx")) if file.is_file()}


def _most_precise(name: str, files: Mapping[str, Path]) -> str | None:
    return next((name + suffix for suffix in SUFFIXES if name + suffix in files), None)


def _precision(stem: str, name: str) -> int:
    return SUFFIXES.index(stem.removeprefix(name))


def _family(stored: Mapping[str, str | None], files: Mapping[str, Path]) -> list[Source]:
    """Encoder and decoders, in this order. The merged decoder replaces either of the two that is missing or
    less precise."""
    sources = []
    merged = stored[MERGED]
    for name, bound in ((ENCODER, None), (DECODER, {BRANCH: False}), (WITH_PAST, {BRANCH: True})):
        own = stored[name]
        both = bound is not None and merged is not None
        if own is not None and not (both and _precision(str(merged), MERGED) < _precision(own, name)):
            sources.append(Source(name, files[own]))
        elif bound is not None and merged is not None:
            sources.append(Source(name, files[merged], bound))
    return sources


def _listing(names: Iterable[str]) -> str:
    return ", ".join(f"{name}.onnx" for name in names)
