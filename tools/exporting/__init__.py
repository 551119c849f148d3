"""The pieces of `tools/export.py`: which model, which task, how it is traced, written and checked."""

from __future__ import annotations


class ExportError(Exception):
    """An export that cannot be made; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
