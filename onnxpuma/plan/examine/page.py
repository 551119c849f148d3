"""A report as a page for a browser: one file, plain SVG, nothing to load from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from onnxpuma.plan.examine.layers import PartEntry
from onnxpuma.standard.units import bits, duration, shape, size

if TYPE_CHECKING:
    from onnxpuma.plan.examine.report import ModelReport, NodeEntry

_MOST = 60  # bars of a chart; the smaller parts are one bar
_ROW, _LABEL, _BAR, _NUMBER = 18, 260, 420, 90  # pixels

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: 1px 14px 1px 0; vertical-align: top; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; }
.no { color: #c22; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
"""

# What a chart shows: its title, the number of each part, and how it is written.
_Chart = tuple[str, Callable[[PartEntry], float], Callable[[float], str]]
_CHARTS: tuple[_Chart, ...] = (
    ("Seconds on the links", lambda part: part.seconds, duration),
    ("Bytes sent by all three servers", lambda part: float(part.bytes), size),
    ("Rounds", lambda part: float(part.rounds), lambda count: f"{count:,.0f}"),
)


def page(title: str, reports: Mapping[str, ModelReport], assumed: Mapping[str, int]) -> str:
    """The whole page. assumed: the sizes that nobody asked for."""
    several = len(reports) > 1
    parts = [f"<h1>{escape(title)}</h1>"]
    if assumed:
        listing = ", ".join(f"{name} = {number}" for name, number in assumed.items())
        parts.append(f"<p>Sizes assumed: {escape(listing)}</p>")
    for name, each in reports.items():
        parts.append(f"<h2>{escape(name)}</h2>" if several else "")
        parts.append(_body(each))
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def summary(found: ModelReport) -> str:
    """The totals and the bytes of each layer: what a notebook shows."""
    title, number, written = _CHARTS[1]
    return f"<p>{escape(totals(found))}</p>{chart(title, found.layers, number, written)}"


def totals(found: ModelReport) -> str:
    """The cost of a run in one line."""
    network, time = found.network, found.predicted
    refused = f"; {len(found.refused)} nodes cannot run on shares" if found.refused else ""
    return (
        f"{found.rounds:,} rounds, {size(found.bytes)} sent by all three servers, about"
        f" {duration(time.whole)} at {bits(network.bandwidth)}/s and {duration(network.latency)} one way:"
        f" links {duration(time.links)}, computing {duration(time.computing)}{refused}"
    )


def chart(
    title: str,
    parts: Sequence[PartEntry],
    number: Callable[[PartEntry], float],
    written: Callable[[float], str],
) -> str:
    """Horizontal bars as SVG, in the order of `parts`; those without a number are left out."""
    drawn = [(part.name, number(part)) for part in parts if number(part) > 0]
    if len(drawn) > _MOST:
        least = sorted(value for _, value in drawn)[-_MOST]
        rest = sum(value for _, value in drawn if value < least)
        drawn = [*((name, value) for name, value in drawn if value >= least), ("others", rest)]
    longest = max((value for _, value in drawn), default=1.0)
    rows = []
    for place, (name, value) in enumerate(drawn):
        top, length = place * _ROW, max(1.0, _BAR * value / longest)
        middle = top + _ROW - 5
        rows.append(
            f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{escape(_middle(name))}'
            f"<title>{escape(name)}</title></text>"
            f'<rect x="{_LABEL}" y="{top + 2}" width="{length:.1f}" height="{_ROW - 4}" fill="#4a7fb5"/>'
            f'<text x="{_LABEL + length + 6:.1f}" y="{middle}">{escape(written(value))}</text>'
        )
    width, height = _LABEL + _BAR + _NUMBER, max(len(drawn), 1) * _ROW
    label = escape(title, quote=True)
    return (
        f'<h3>{escape(title)}</h3><svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" style="max-width:100%">{"".join(rows)}</svg>'
    )


def _body(found: ModelReport) -> str:
    charts = [
        chart(f"{title}, by layer", found.layers, number, written) for title, number, written in _CHARTS
    ]
    charts += [
        chart(f"{title}, by operator", found.operators, number, written)
        for title, number, written in _CHARTS[:2]
    ]
    rows = "".join(_row(node) for node in found.nodes if node.rounds or node.refused)
    head = "<tr><th>node<th>operator<th>shape<th class=n>rounds<th class=n>bytes<th class=n>links</tr>"
    return (
        f"<p>{escape(totals(found))}</p>"
        "<p>A node's figures are as if each waited for the one before; in a run, nodes side by side share"
        " their rounds. Bytes are those of all three servers together.</p>"
        + "".join(charts)
        + f"<h3>Nodes that send</h3><table>{head}{rows}</table>"
    )


def _row(node: NodeEntry) -> str:
    told = f" <span class=no>refused: {escape(node.refused)}</span>" if node.refused else ""
    return (
        f"<tr><td>{escape(node.name)}{told}<td>{escape(node.operator)}"
        f"<td>{'' if node.shape is None else shape(node.shape)}"
        f"<td class=n>{node.rounds:,}<td class=n>{size(node.bytes)}<td class=n>{duration(node.seconds)}</tr>"
    )


def _middle(name: str, most: int = 40) -> str:
    """The name, shortened in the middle."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
