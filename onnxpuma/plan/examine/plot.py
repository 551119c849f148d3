"""A report as a figure of matplotlib, which is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxpuma.errors import BuildError

if TYPE_CHECKING:
    from onnxpuma.plan.examine.report import ModelReport


def plot(found: ModelReport) -> Any:
    """A figure with seconds on the links, bytes and rounds of each layer. BuildError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BuildError(
            "plot needs the library matplotlib", "install it: pip install 'onnxpuma[plot]'"
        ) from error
    parts = [part for part in found.layers if part.rounds]
    figure = Figure(figsize=(12, 1.5 + 0.3 * len(parts)), layout="constrained")
    titles = ("seconds on the links", "MB sent by all three servers", "rounds")
    values = ([p.seconds for p in parts], [p.bytes / 1e6 for p in parts], [p.rounds for p in parts])
    for axes, title, numbers in zip(figure.subplots(1, 3, sharey=True), titles, values, strict=True):
        axes.barh([part.name for part in parts], numbers)
        axes.set_title(title)
    figure.axes[0].invert_yaxis()
    return figure
