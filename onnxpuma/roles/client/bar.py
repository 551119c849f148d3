"""A bar that counts the inputs that are done, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def counted(title: str, total: int | None, shown: bool | None) -> Iterator[Callable[[int], None]]:
    """Show a bar that the block advances by a number of inputs.

    total: None if nobody knows it. shown: None shows the bar if stderr is a terminal and there are several
    inputs.
    """
    console = Console(stderr=True, highlight=False)
    wanted = console.is_terminal and total != 1 if shown is None else shown
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not wanted) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)
