"""A private file that is whole or is none: a first line that says what it is, a checksum, and the content."""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.plan.draft import PRIVATE, Draft

SUM_BYTES = 32


def write_whole(path: Path, form: str, content: bytes) -> None:
    """Write the file. Raises as `write_private`."""
    write_private(path, _first(form), blake3(content).digest(), content)


def write_private(path: Path, *parts: bytes) -> None:
    """Write a file, for its owner alone to read, whole or not at all. ConfigError when that fails."""
    try:
        draft = Draft(path, PRIVATE)
        try:
            for part in parts:
                draft.file.write(part)
            draft.finish()
            draft.commit()
        finally:
            draft.discard()
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", "choose a folder that you can write to"
        ) from error


def read_whole(path: Path, form: str, what: str, hint: str) -> bytes:
    """The content of a file that `write_whole` wrote. what: it is, for an error.

    Raises ConfigError for a file that cannot be read, InputError for one of another form or with a wrong bit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint) from error
    start = len(_first(form)) + SUM_BYTES
    content = data[start:]
    if not data.startswith(_first(form)) or blake3(content).digest() != data[start - SUM_BYTES : start]:
        raise InputError(f"{path} is no file of {what}, or is damaged", hint)
    return content


def _first(form: str) -> bytes:
    return f"{form}\n".encode()
