"""Output for people: results on stdout, progress and errors on stderr, sizes and times in readable units."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeAlias

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.markup import escape, render
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from onnxpuma.errors import OnnxpumaError, plain_lines
from onnxpuma.observe import Progress as Report
from onnxpuma.standard.units import bits as bits
from onnxpuma.standard.units import duration as duration
from onnxpuma.standard.units import shape as shape
from onnxpuma.standard.units import size as size

Cell: TypeAlias = "str | int | float"

_GAP = 2  # columns between two columns of a table
PIPE_WIDTH = 240  # columns when a program reads the output, so that no line is cut


def stdout() -> Console:
    """The console for results."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def stderr() -> Console:
    """The console for progress and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """Print a line of the result. It may contain rich markup; `plain` guards names that look like markup."""
    stdout().print(text)


def tell(text: str) -> None:
    """Print a piece of a foreign text at once, without a line break. On a terminal control characters are
    replaced, and everywhere characters that its encoding lacks."""
    out = sys.stdout
    if out is None:  # it was closed
        return
    if out.isatty():
        text = "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)
    coding = out.encoding or "utf-8"
    out.write(text.encode(coding, "replace").decode(coding))
    out.flush()


def announce(text: str) -> None:
    """Print a line like `say`, but carry on if it cannot be written."""
    try:
        say(text)
    except OSError:
        abandon(sys.stdout)


def note(text: str) -> None:
    """Print a line beside the result, for the person at the terminal."""
    _beside(f"[dim]{text}[/dim]")


def abandon(stream: TextIO | None) -> None:
    """Send the rest of `stream` to /dev/null: its disk is full, or its reader is gone."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _beside(*lines: str) -> None:
    """Print lines on stderr; a failure to do so never fails the command."""
    try:
        for line in lines:
            stderr().print(line)
    except OSError:
        abandon(sys.stderr)


def note_left_out(names: Sequence[str]) -> None:
    """Tell which ONNX files of a folder do not belong to the model."""
    for name in names:
        note(f"{plain(name)} is left out: other files in the folder form the model")


def plain(text: object) -> str:
    """A text without markup, and without commands to the terminal."""
    return escape(plain_lines(str(text)))


def say_json(entries: Mapping[str, Any]) -> None:
    """Print the result for a program."""
    print(json.dumps(entries, indent=1, default=str))


def say_error(error: OnnxpumaError) -> None:
    """Print what is wrong, and what to do about it."""
    hint = [f"[bold]hint:[/bold] {plain(error.hint)}"] if error.hint else []
    _beside(f"[bold red]error:[/bold red] {plain(error.message)}", *hint)


def agrees(question: str) -> bool:
    """The answer of the person at the terminal; False if there is nobody to ask."""
    if not sys.stdin.isatty():
        return False
    stderr().print(f"{question} \\[y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show_warnings() -> None:
    """Print Python's warnings as one line each, without their place in the source."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        _beside(f"[yellow]warning:[/yellow] {plain(message)}")

    warnings.showwarning = show


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    numbers: Sequence[int] = (),
    narrowest: Mapping[int, int] | None = None,
    omitted: Sequence[int] = (),
) -> None:
    """Print rows, under a header if there are titles; the columns in `numbers` are right-aligned.

    On a terminal that is too narrow, the columns `omitted` are left out, and texts in the columns of
    `narrowest` are shortened in the middle, to these widths at least.
    """
    console = stdout()
    cells = [[cell if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in rows]
    shown, widths = list(range(len(columns))), dict[int, int]()
    if console.is_terminal and narrowest and cells:
        natural = [
            max(cell_len(title), *(cell_len(render(row[place]).plain) for row in cells))
            for place, title in enumerate(columns)
        ]
        shown, widths = _fitted(natural, console.width, narrowest, omitted)
    drawn = Table(
        box=None, show_header=any(columns), header_style="bold", pad_edge=False, padding=(0, 2, 0, 0)
    )
    for place in shown:
        justify: JustifyMethod = "right" if place in numbers else "left"
        drawn.add_column(columns[place], justify=justify, overflow="fold")
    for row in cells:
        drawn.add_row(*(_shortened(row[place], widths.get(place)) for place in shown))
    with console.capture() as text:
        console.print(drawn)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def _fitted(
    natural: Sequence[int], width: int, narrowest: Mapping[int, int], omitted: Sequence[int]
) -> tuple[list[int], dict[int, int]]:
    """The columns to show, and the widths of those to shorten; `natural` are the widths of whole texts."""
    shown = list(range(len(natural)))

    def room() -> int:
        """What is left for the flexible columns beside the others."""
        return width - sum(natural[place] for place in shown if place not in narrowest) - _GAP * len(shown)

    flexible = [place for place in shown if place in narrowest]
    least = {place: min(natural[place], narrowest[place]) for place in flexible}
    if sum(natural[place] for place in flexible) <= room():
        return shown, {}
    for place in omitted:
        if sum(least.values()) > room():
            shown.remove(place)
    widths = dict(least)
    while sum(widths.values()) < room() and (short := [p for p in flexible if widths[p] < natural[p]]):
        widths[min(short, key=lambda place: widths[place] / natural[place])] += 1
    return shown, widths


def _shortened(cell: str, width: int | None) -> str:
    """The text, with an ellipsis in its middle if it is longer."""
    text = render(cell).plain
    if width is None or cell_len(text) <= width:
        return cell
    front = (width - 1) // 2
    return escape(f"{text[:front]}…{text[len(text) - (width - 1 - front) :]}")


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """Show a bar on stderr, if that is a terminal; the block updates it with (done, all, what)."""
    console = stderr()
    columns = (
        TextColumn("{task.fields[title]}"),
        BarColumn(),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, title=plain(title), what="")

        def advance(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, what=plain(what[:40]))

        yield advance


def listing(names: Sequence[str], most: int = 6) -> str:
    """Names in a row; only the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most + 1 else ""
    return plain(", ".join(names[:most] if more else names) + more)
