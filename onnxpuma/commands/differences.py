"""The result of validate, for a person: how far a secure run is from the clear one, and what it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxpuma.commands import screen

if TYPE_CHECKING:
    from onnxpuma.check.validation import Validation


_ROUNDED = (
    "\nThe nodes of this file compute in another precision: halves, doubles, or integers of a few bits. The"
    "\nerrors are measured against the graph that runs, in single precision; the last column is the largest"
    "\ndifference from onnxruntime on the file itself."
)


def show(found: Validation, shapes: dict[str, tuple[int, ...]]) -> None:
    """Print them: each output, the time of each operator, and the totals. shapes: of the inputs."""
    listing = ", ".join(f"{screen.plain(name)} {screen.shape(shape)}" for name, shape in shapes.items())
    screen.say(f"[bold]Inputs[/bold]  {listing}\n")
    rows = [
        (
            screen.plain(name),
            f"{each.max_abs_error:.2g}",
            f"{each.mean_abs_error:.2g}",
            f"{each.reference_max_abs:.3g}",
            f"{100 * each.argmax_agreement:.4g} %",
            *([f"{found.file[name].max_abs_error:.2g}"] if found.file else []),
        )
        for name, each in found.outputs.items()
    ]
    titles: tuple[str, ...] = ("output", "max error", "mean error", "largest value", "same argmax")
    if found.file:
        titles = (*titles, "from the file")
    screen.table(titles, rows, numbers=tuple(range(1, len(titles))))
    if found.file:
        screen.say(_ROUNDED)
    screen.say()
    uses = sorted(found.operators.items(), key=lambda item: (-item[1].bytes_sent, item[0]))
    screen.say("What server 0 spent in each operator; steps side by side share their rounds:")
    screen.table(
        ("operator", "steps", "time", "bytes sent", "rounds"),
        [
            (
                screen.plain(name),
                use.steps,
                screen.duration(use.seconds),
                screen.size(use.bytes_sent),
                use.rounds,
            )
            for name, use in uses
        ],
        numbers=(1, 2, 3, 4),
    )
    screen.say()
    each = " + ".join(screen.size(sent) for sent in found.bytes_sent)
    network = found.network
    waits = ", ".join(screen.duration(seconds) for seconds in found.waited)
    peaks = ", ".join(screen.size(peak) for peak in found.peak_rss_bytes)
    screen.table(
        ("", ""),
        [
            ("seconds online", screen.duration(found.seconds)),
            ("of these each party waited", waits),
            ("set-up", screen.duration(found.setup_seconds)),
            ("sent", f"{screen.size(sum(found.bytes_sent))} ({each})"),
            ("rounds", f"{found.rounds:,}"),
            ("peak memory of each party", peaks),
            *_streams(found),
            (
                "planned for",
                f"{screen.bits(network.bandwidth)}/s, {screen.duration(network.latency)} one way",
            ),
            *((f"ways of {screen.plain(name)}", _ways(taken)) for name, taken in found.ways.items()),
        ],
    )


def _ways(taken: dict[str, int]) -> str:
    return ", ".join(f"{screen.plain(way)} ({steps})" for way, steps in taken.items())


def _streams(found: Validation) -> list[tuple[str, str]]:
    """What weights took that were read for this run, at each party; nothing where all of them stayed."""
    uses = found.streamed
    if not any(use.bytes_read + use.key_bytes for use in uses):
        return []
    spent = [found.phases[party] for party in range(len(uses))]
    return [
        ("weights read from disk", ", ".join(screen.size(use.bytes_read) for use in uses)),
        ("weights made from keys", ", ".join(screen.size(use.key_bytes) for use in uses)),
        *(
            (f"seconds of {what}", ", ".join(screen.duration(each[key]) for each in spent))
            for key, what in (
                ("reading", "reading, beside the run"),
                ("key_stream", "key streams, within their products"),
                ("products", "their products"),
                ("stalled", "waiting for them"),
            )
        ),
    ]
