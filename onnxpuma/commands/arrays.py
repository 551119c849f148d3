"""Reading and writing .npz files: a client's inputs and outputs."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.plan.draft import PRIVATE, Draft


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name.

    Raises InputError when the file is missing, is not a .npz file, is damaged, or contains Python objects.
    """
    hint = "write it with numpy: np.savez('x.npz', input_ids=ids, attention_mask=mask)"
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise InputError(f"{path} contains one array without a name", hint)
        with arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", hint) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of many types: zipfile takes some damage for an unknown encryption
        raise InputError(f"{path} is not a .npz file of plain arrays, or is damaged", hint) from error


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
