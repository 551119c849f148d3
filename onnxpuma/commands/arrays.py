"""Reading and writing .npz files: the inputs that a client gives and the outputs that it gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.plan.draft import PRIVATE, Draft


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name.

    Raises InputError when it is missing, is no .npz file, is damaged, or holds Python objects.
    """
    hint = "write it with numpy: np.savez('x.npz', input_ids=ids, attention_mask=mask)"
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise InputError(f"{path} holds one array without a name", hint)
        with arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", hint) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of many kinds: zipfile takes damage for an encryption it does not know
        raise InputError(f"{path} is no .npz file of plain arrays, or is damaged", hint) from error


def check_writable(path: Path) -> None:
    """ConfigError unless a file can be written at `path`: better known before the run than after it."""
    folder = path.parent
    taken = path.exists() and not path.is_file()  # a folder, a device
    if taken or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(
            f"cannot write {path}", "name a file in a folder that exists and that you may write to"
        )


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz file at exactly this path, whole or not at all, for its owner alone to read: it holds what
    was private. A link or a file of this name is replaced."""
    named: dict[str, Any] = dict(arrays)
    try:
        draft = Draft(path, PRIVATE)
        try:
            np.savez(draft.file, **named)
            draft.finish()
            draft.commit()
        finally:
            draft.discard()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", "choose another place") from error
