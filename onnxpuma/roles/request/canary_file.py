"""Canaries in a file: inputs of ordinary shapes with the outputs that honest servers return, for one model.

The owner of the model writes it, a client reads it, and no server may: it would know a canary by its public
inputs. A .npz file: `canaries.json` says what the arrays are.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.plan.draft import PRIVATE, Draft

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
        index: dict[str, Any] = {"form": FORM, "digest": self.digest, "count": len(self.every)}
        index |= {"tolerances": dict(self.tolerances)}
        try:
            draft = Draft(path, PRIVATE)
            try:
                with zipfile.ZipFile(draft.file, "w") as archive:
                    archive.writestr(INDEX, json.dumps(index, indent=1))
                    for number, canary in enumerate(self.every):
                        for kind, arrays in (("in", canary.feed), ("out", canary.outputs)):
                            for name, array in arrays.items():
                                with archive.open(f"{number}/{kind}/{name}.npy", "w") as entry:
                                    np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
                draft.finish()
                draft.commit()
            finally:
                draft.discard()
        except OSError as error:
            raise ConfigError(
                f"cannot write {path}: {error.strerror}", "choose a folder that you can write to"
            ) from error

    @classmethod
    def read(cls, path: Path) -> Canaries:
        """Read what `write` wrote. InputError for a file that is missing, damaged or something else."""
        try:
            with zipfile.ZipFile(path) as archive:
                return cls._read(archive)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}", _HINT) from error
        except Exception as error:  # of many types: zipfile takes some damage for an unknown encryption
            raise InputError(f"{path} holds no canaries, or is damaged", _HINT) from error

    @classmethod
    def _read(cls, archive: zipfile.ZipFile) -> Canaries:
        if archive.testzip() is not None:
            raise ValueError
        index = json.loads(archive.read(INDEX))
        if index["form"] != FORM or not isinstance(index["digest"], str):
            raise ValueError
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
        return cls(index["digest"], tolerances, [Canary(*pair) for pair in found])
