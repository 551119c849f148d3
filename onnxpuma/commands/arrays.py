"""A client's inputs and outputs: how a command names them, and .npz files of them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import numpy as np
import typer

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.plan.draft import PRIVATE, Draft

if TYPE_CHECKING:
    from onnxpuma.plan.blueprint import Blueprint

GraphName = Annotated[
    str | None,
    typer.Option(
        "--graph", metavar="NAME", help="Which graph to run, if there are several.", show_default=False
    ),
]
Outputs = Annotated[
    list[str],
    typer.Option(
        "--output",
        metavar="NAME",
        help="An output to open, such as next_token; by default, all that the model was exported with.",
        show_default=False,
    ),
]

_HINT = "write it with numpy: np.savez('x.npz', input_ids=ids, attention_mask=mask)"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name.

    Raises InputError when the file is missing, is not a .npz file, is damaged, or contains Python objects.
    """
    found = read_given(path)
    if isinstance(found, np.ndarray):
        raise InputError(f"{path} contains one array without a name", _HINT)
    return found


def read_given(path: Path) -> dict[str, np.ndarray] | np.ndarray:
    """The arrays of a .npz file by name, or the only one of a .npy file. Raises as `read_arrays`."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            return arrays
        with arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", _HINT) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", _HINT) from error
    except MemoryError:
        raise
    except Exception as error:  # of many types: zipfile takes some damage for an unknown encryption
        raise InputError(f"{path} is not a .npz file of plain arrays, or is damaged", _HINT) from error


def named(
    given: dict[str, np.ndarray] | np.ndarray, blueprint: Blueprint, path: Path
) -> dict[str, np.ndarray]:
    """The feed of a graph. InputError for an array without a name, if the graph takes several."""
    if not isinstance(given, np.ndarray):
        return given
    takes = [name for name, spec in blueprint.inputs.items() if spec.default is None]
    if len(takes) != 1:
        raise InputError(
            f"{path} contains one array without a name, but the model takes {', '.join(takes)}", _HINT
        )
    return {takes[0]: given}


def check_writable(path: Path) -> None:
    """Raise ConfigError unless a file can be written at `path`; called before a run, not after it."""
    folder = path.parent
    taken = path.exists() and not path.is_file()  # a folder, a device
    if taken or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write {path}", "name a file in an existing folder that you can write to")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz file at exactly this path, whole or not at all, replacing a link or a file of this name.

    Only its owner can read it, since it holds what was private.
    """
    try:
        draft = Draft(path, PRIVATE)
        try:
            _archive(draft.file, arrays)
            draft.finish()
            draft.commit()
        finally:
            draft.discard()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", "choose another place") from error


def _archive(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write as numpy.savez does, which cannot write an array called `file`: that is its own argument."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                text = array.dtype.kind == "O"
                np.lib.format.write_array(entry, array.astype(str) if text else array, allow_pickle=False)
