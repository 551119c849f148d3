"""The list of commands in `onnxpuma --help`, each with its whole first sentence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_WHOLE = 1000  # characters: Click would cut the sentence where the line ends


class Commands(TyperGroup):
    """The commands. Lines that are too long for the terminal are continued on the next."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(_WHOLE)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
