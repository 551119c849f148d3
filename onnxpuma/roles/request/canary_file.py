"""Canaries in a file: inputs of ordinary shapes with the outputs that honest servers return, for one model.

The owner of the model writes it, a client reads it, and no server may: it would know a canary by its public
inputs. In it are arrays as in a .npz file, and `canaries.json`, which says what they are.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.roles.request.whole_file import read_whole, write_whole

FORM = "onnxpuma canaries 1"
INDEX = "canaries.json"
_HINT = "name a file that `onnxpuma canary make` wrote for this model, or make another"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Canary:
    """One request whose answer is known."""

    feed: Arrays = field(repr=False)
    outputs: Arrays = field(repr=False)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.feed.items()}


@dataclass(frozen=True)
class Canaries:
    """The canaries of one graph of a model, and how far honest answers may lie from theirs."""

    digest: str  # of the graph's blueprint, hex
    tolerances: Mapping[str, float]  # by output of reals; other outputs are the same in every run
    every: Sequence[Canary]

    def difference(self, canary: Canary, outputs: Arrays) -> str | None:
        """In which output an answer departs from the one that is known, and how far; None if in none."""
        for name, due in canary.outputs.items():
            found = outputs.get(name)
            if found is None:
                continue
            if name not in self.tolerances:
                if not np.array_equal(found, due):
                    return f"'{name}' has other values than honest servers return"
                continue
            apart = np.abs(np.asarray(found, np.float64) - due)
            most = float(np.max(apart, initial=0.0))
            if not most <= self.tolerances[name]:  # also NaN
                return (
                    f"'{name}' is off by {most:.3g}, where honest runs stay within"
                    f" {self.tolerances[name]:.3g}"
                )
        return None

    def write(self, path: Path) -> None:
        """Write the file, for its owner alone to read, whole or not at all. ConfigError when that fails."""
        index: dict[str, Any] = {"digest": self.digest, "count": len(self.every)}
        index |= {"tolerances": dict(self.tolerances)}
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(INDEX, json.dumps(index, indent=1))
            for number, canary in enumerate(self.every):
                for kind, arrays in (("in", canary.feed), ("out", canary.outputs)):
                    for name, array in arrays.items():
                        with archive.open(f"{number}/{kind}/{name}.npy", "w") as entry:
                            np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
        write_whole(path, FORM, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> Canaries:
        """Read what `write` wrote. Raises ConfigError for a file that cannot be read, InputError for one that
        is damaged or something else."""
        content = read_whole(path, FORM, "canaries", _HINT)
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return cls._read(archive)
        except (ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no file of canaries: {error}", _HINT) from error

    @classmethod
    def _read(cls, archive: zipfile.ZipFile) -> Canaries:
        index: dict[str, Any] = json.loads(archive.read(INDEX))
        found: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = [
            ({}, {}) for _ in range(int(index["count"]))
        ]
        for entry in archive.namelist():
            if entry != INDEX:
                number, kind, name = entry.removesuffix(".npy").split("/", 2)
                with archive.open(entry) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                found[int(number)][("in", "out").index(kind)][name] = array
        tolerances = {str(name): float(bound) for name, bound in index["tolerances"].items()}
        return cls(str(index["digest"]), tolerances, [Canary(*pair) for pair in found])
