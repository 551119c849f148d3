"""--calibrate PATH: a .npz file, or a folder of them, for each graph of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onnxpuma.commands import arrays
from onnxpuma.errors import ConfigError


def find_samples(path: Path, graphs: Sequence[str]) -> dict[str, list[Path]]:
    """The .npz files of each graph that has any.

    Of a model of one graph: the file, or all .npz files of the folder. Of several: GRAPH.npz, or all .npz
    files of the folder GRAPH, inside the folder. Raises ConfigError when there are none, and for a name that
    is no graph's.
    """
    if len(graphs) == 1:
        found = {graphs[0]: _files(path)}
    elif path.is_dir():
        unknown = [p.name for p in path.iterdir() if p.suffix == ".npz" and p.stem not in graphs]
        if unknown:
            raise ConfigError(
                f"{path / min(unknown)} is no sample of a graph of this model",
                f"its graphs are {', '.join(graphs)}: give GRAPH.npz, or a folder GRAPH of them",
            )
        found = {name: [*_files(path / name), *_files(path / f"{name}.npz")] for name in graphs}
    else:
        raise ConfigError(
            f"the model has several graphs, and {path} is no folder",
            f"give a folder with GRAPH.npz, or a folder GRAPH of them, for {', '.join(graphs)}",
        )
    if not any(found.values()):
        raise ConfigError(f"there is no .npz file at {path}", "write inputs there, as for `onnxpuma infer`")
    return {name: files for name, files in found.items() if files}


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix == ".npz")
    return [path] if path.is_file() else []


class SampleFiles:
    """The arrays of some .npz files, each read when it is its turn; may be gone through again."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return map(arrays.read_arrays, self._paths)


def read_samples(path: Path | None, graphs: Sequence[str]) -> dict[str, SampleFiles]:
    """Graph -> its samples; nothing without a path."""
    if path is None:
        return {}
    return {name: SampleFiles(files) for name, files in find_samples(path, graphs).items()}
