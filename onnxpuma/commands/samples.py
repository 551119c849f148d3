"""--calibrate PATH: arrays in .npz files, by graph; or texts, pictures, recordings for the model's task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.commands import arrays
from onnxpuma.errors import ConfigError
from onnxpuma.roles.owner.samples import Samples

_TEXTS = ".txt"
_TAKEN = ((_TEXTS,), (".wav", ".flac"), (".png", ".jpg", ".jpeg", ".bmp", ".webp"))


def find_samples(path: Path, graphs: Sequence[str]) -> dict[str, list[Path]]:
    """The .npz files of each graph that has any.

    For a model of one graph: the file, or all .npz files of the folder. For several graphs: GRAPH.npz, or all
    .npz files of a folder GRAPH, inside the folder. Raises ConfigError when there are none, and for a name
    that is not a graph's.
    """
    if len(graphs) == 1:
        found = {graphs[0]: _files(path)}
    elif path.is_dir():
        unknown = [p.name for p in path.iterdir() if p.suffix == ".npz" and p.stem not in graphs]
        if unknown:
            raise ConfigError(
                f"{path / min(unknown)} is named after no graph of this model",
                f"its graphs are {', '.join(graphs)}: write GRAPH.npz, or several files into a folder GRAPH",
            )
        found = {name: [*_files(path / name), *_files(path / f"{name}.npz")] for name in graphs}
    else:
        raise ConfigError(
            f"the model has several graphs, but {path} is not a folder",
            f"name a folder with GRAPH.npz, or a folder GRAPH of .npz files, for {', '.join(graphs)}",
        )
    if not any(found.values()):
        raise ConfigError(f"there is no .npz file at {path}", "write inputs there, as for `onnxpuma infer`")
    return {name: files for name, files in found.items() if files}


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix == ".npz")
    return [path] if path.is_file() else []


class SampleFiles:
    """The arrays of several .npz files, each read when its turn comes; can be iterated repeatedly."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return map(arrays.read_arrays, self._paths)


def read_samples(path: Path | None, graphs: Sequence[str], model: Path) -> Mapping[str, Samples]:
    """Graph -> its samples; empty without a path.

    model: its folder, or a file in it; unless `path` holds arrays, its tokenizer or processor is used.
    Raises the ConfigErrors of `find_samples` and the InputErrors of `tasks.calibration`.
    """
    if path is None:
        return {}
    taken = _taken(path)
    if taken:
        return _through_task(taken, model)
    return {name: SampleFiles(files) for name, files in find_samples(path, graphs).items()}


def _taken(path: Path) -> list[Path]:
    """The files at `path` that a task takes, all of one kind; none if there are arrays."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    by_kind = [[file for file in files if file.suffix.lower() in kind] for kind in _TAKEN]
    found = [of_kind for of_kind in by_kind if of_kind]
    if len(found) > 1:
        raise ConfigError(
            f"{path} contains {found[0][0].name} and {found[1][0].name}: samples of two kinds",
            "calibrate with texts, or pictures, or recordings",
        )
    arrays_too = path.is_dir() and any(path.rglob("*.npz"))
    return found[0] if found and not arrays_too and found[0][0].is_file() else []


def _through_task(files: Sequence[Path], model: Path) -> Mapping[str, Samples]:
    from onnxpuma.tasks import calibration

    items: list[Any] = list(files)
    names = [str(file) for file in files]
    if files[0].suffix.lower() == _TEXTS:
        lines = [(f"{file}:{row}", text) for file in files for row, text in _lines(file)]
        names, items = [name for name, _ in lines], [text for _, text in lines]
    return calibration(model, items, folder=_home(model), names=names)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "write one text per line, in UTF-8") from error
    return [(row, line) for row, line in enumerate(text.splitlines(), 1) if line.strip()]


def _home(model: Path) -> Path:
    """The folder of the model's config.json: the model's own, or the one above `onnx/model.onnx`."""
    folder = model if model.is_dir() else model.parent
    return folder if (folder / "config.json").exists() or folder.name != "onnx" else folder.parent
