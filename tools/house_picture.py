"""Draw the package's rooms and the imports between them, for docs/house.md or a terminal.

    python tools/house_picture.py                rooms of the package, lowest first, and what each imports
    python tools/house_picture.py roles          files of one room, and what they import of one another
    python tools/house_picture.py --mermaid      a Mermaid flow chart, without arrows that others imply

A room is a folder, or a file that lies directly in the package. The numbers count importing files.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "onnxpuma"
NAME = PACKAGE.name
Arrows = dict[str, Counter[str]]


def modules() -> dict[tuple[str, ...], Path]:
    """Every module of the package by the parts of its name below the package; linked rooms included."""
    paths = [
        path for room in PACKAGE.iterdir() for path in ([room] if room.is_file() else room.rglob("*.py"))
    ]
    return {path.relative_to(PACKAGE).with_suffix("").parts: path for path in paths if path.suffix == ".py"}


@cache
def imported(path: Path) -> list[tuple[str, ...]]:
    """The names below the package that a file imports, at its head or inside a function."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            head, *parts = name.split(".")
            if head == NAME and parts:
                found.append(tuple(parts))
    return found


def arrows(room: tuple[str, ...] = ()) -> Arrows:
    """For each room or file directly inside `room`: which others it imports, and in how many files."""
    depth, known = len(room), modules()
    found: Arrows = defaultdict(Counter)
    for parts, path in known.items():
        if parts[:depth] != room or len(parts) == depth:
            continue
        here, there = parts[depth], set()
        for name in imported(path):
            inside = name[:depth] == room and len(name) > depth
            if inside and any(other[: depth + 1] == name[: depth + 1] for other in known):
                there.add(name[depth])
        found[here].update(there - {here})
    return found


def lowest_first(found: Arrows) -> list[str]:
    """The rooms, each after those it imports: always next the one with the fewest imports left."""
    left, done = set(found), list[str]()
    while left:
        done.append(min(left, key=lambda name: (sum(other in left for other in found[name]), name)))
        left.remove(done[-1])
    return done


def reduced(found: Arrows) -> dict[str, set[str]]:
    """The arrows that no path over other rooms implies. Rooms that import each other keep all of theirs."""
    below: dict[str, set[str]] = {}
    for name in lowest_first(found):
        direct = set(found[name])
        below[name] = direct.union(*(below.get(other, set()) for other in direct))
    return {
        name: {o for o in others if not any(o in below.get(via, ()) for via in others if via != o)}
        for name, others in found.items()
    }


def mermaid(found: Arrows) -> str:
    """A flow chart, lowest rooms first. The package's own files for Python are left out."""
    shown = reduced({name: others for name, others in found.items() if not name.startswith("__")})
    lines = ["flowchart BT"]
    for name in lowest_first(found):
        lines += [f"    {name} --> {other}" for other in sorted(shown.get(name, ()))]
    return "\n".join(lines)


def table(found: Arrows) -> str:
    """A line for each room, lowest first, and the sums."""
    lines = []
    for name in lowest_first(found):
        below = ", ".join(f"{other} {files}" for other, files in sorted(found[name].items()))
        lines.append(f"{name:20} {below}".rstrip())
    both = sum(name in found[other] for name in found for other in found[name]) // 2
    sums = f"{len(found)} rooms, {sum(map(len, found.values()))} arrows, {both} pairs that import each other"
    return "\n".join((*lines, "", sums))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the package's rooms and the imports between them.")
    parser.add_argument("room", nargs="?", default="", help="a folder of the package; default: the package")
    parser.add_argument("--mermaid", action="store_true", help="as a Mermaid flow chart")
    given = parser.parse_args()
    found = arrows(tuple(part for part in given.room.split("/") if part))
    if not found:
        parser.error(f"{given.room} is not a folder of {NAME}")
    print(mermaid(found) if given.mermaid else table(found))


if __name__ == "__main__":
    main()
