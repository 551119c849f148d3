"""Values from the tables of a TOML file, each checked; an error names the file and the key."""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any

from onnxpuma.errors import ConfigError


class CheckedFile:
    """The checks of one file's values. Each raises ConfigError, and says what to write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self, tables: dict[str, Any], name: str) -> dict[str, Any]:
        table = tables.get(name, {})
        if not isinstance(table, dict):
            raise self.error(
                f"{name} is not a table", f"write [{name}] on a line of its own, and its keys below"
            )
        return table

    def known_fields(self, kind: type, table: dict[str, Any], where: str) -> dict[str, Any]:
        self.known(table, [item.name for item in fields(kind)], where)
        return table

    def known(self, table: object, names: list[str], where: str) -> None:
        if not isinstance(table, dict):
            raise self.error(f"{where}not a table", f"write the keys {', '.join(names)}")
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(names)}"
                raise self.error(f"{where}{key} is not a known key", hint)

    def text(self, value: object, where: str) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{where} is {value!r}", "write a text in quotes")
        return value

    def host(self, value: object, where: str, refuse: str = "") -> str:
        text = self.text(value, where)
        if (
            text == refuse
            or "/" in text
            or any(c.isspace() for c in text)
            or (":" in text and text.count(":") < 2)
        ):
            raise self.error(
                f"{where} is {text!r}", 'write a name or an address alone, like "server0.example.org"'
            )
        return text

    def switch(self, value: object, where: str) -> bool:
        if not isinstance(value, bool):
            raise self.error(f"{where} is {value!r}", "write true or false, without quotes")
        return value

    def number(self, value: object, where: str, low: float, high: float, what: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(f"{where} is {value!r}", f"write {what}, from {low:g} to {high:g}")
        return float(value)

    def whole(self, value: object, where: str, low: int, high: int, what: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(f"{where} is {value!r}", f"write {what}, from {low} to {high}, without quotes")
        return value

    def error(self, message: str, hint: str) -> ConfigError:
        return ConfigError(f"{self.path}: {message}", hint)
