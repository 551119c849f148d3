"""Draw the package's rooms and the imports between them, for docs/house.md or a terminal.

    python tools/house_picture.py                rooms of the package, lowest first, and what each imports
    python tools/house_picture.py roles          files of one room, and what they import of one another
    python tools/house_picture.py --mermaid      the same as a Mermaid flow chart

A room is a folder, or a file that lies directly in the package. The number is that of importing files.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "onnxpuma"
NAME = PACKAGE.name


def modules() -> dict[tuple[str, ...], Path]:
    """Every module of the package by the parts of its name below the package; linked rooms included."""
    paths = [
        path for room in PACKAGE.iterdir() for path in ([room] if room.is_file() else room.rglob("*.py"))
    ]
    return {path.relative_to(PACKAGE).with_suffix("").parts: path for path in paths if path.suffix == ".py"}


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """The names below the package that a file imports, at its head or inside a function."""
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
                yield tuple(parts)


def arrows(room: tuple[str, ...]) -> dict[str, Counter[str]]:
    """For the rooms, or files, directly inside `room`: which imports which, and in how many files."""
    depth, known = len(room), modules()
    found: dict[str, Counter[str]] = defaultdict(Counter)
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


def lowest_first(found: dict[str, Counter[str]]) -> list[str]:
    """The rooms, each after those it imports: always next the one with the fewest imports left."""
    left, done = set(found), list[str]()
    while left:
        done.append(min(left, key=lambda name: (sum(other in left for other in found[name]), name)))
        left.remove(done[-1])
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the package's rooms and the imports between them.")
    parser.add_argument("room", nargs="?", default="", help="a folder of the package; default: the package")
    parser.add_argument("--mermaid", action="store_true", help="as a Mermaid flow chart")
    given = parser.parse_args()
    room = tuple(part for part in given.room.split("/") if part)
    found = arrows(room)
    if not found:
        parser.error(f"{given.room} is not a folder of {NAME}")
    order = lowest_first(found)
    if given.mermaid:
        print("flowchart BT")
        for name in order:
            for other, files in sorted(found[name].items()):
                print(f"    {name} -->|{files}| {other}")
        return
    for name in order:
        below = ", ".join(f"{other} {files}" for other, files in sorted(found[name].items()))
        print(f"{name:20} {below}")
    both = sum(name in found[other] for name in found for other in found[name]) // 2
    print(
        f"\n{len(found)} rooms, {sum(map(len, found.values()))} arrows, {both} pairs that import each other"
    )


if __name__ == "__main__":
    main()
