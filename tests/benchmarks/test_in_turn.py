"""Two checkouts write tokens in turn, each by its own script."""

from __future__ import annotations

import sys
from pathlib import Path

import in_turn
import pytest

SCRIPT = """
import argparse, sys
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--tokens", type=int)
options = parser.parse_args()
print("sharing ...", file=sys.stderr)
for number in range(options.tokens + 1):
    with open({log!r}, "a") as log:
        log.write({name!r})
    print(f"token {{number + 1}}: {{number + {seconds}}} s", file=sys.stderr)
"""


def checkout(folder: Path, name: str, seconds: float, script: str = SCRIPT) -> Path:
    tree = folder / name
    (tree / "benchmarks").mkdir(parents=True)
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / "bin" / "python").symlink_to(sys.executable)
    log = str(folder / "log")
    (tree / "benchmarks" / "tokens.py").write_text(script.format(log=log, name=name, seconds=seconds))
    return tree


def test_tokens_come_in_turn(tmp_path: Path) -> None:
    trees = [checkout(tmp_path, "a", 0.5), checkout(tmp_path, "b", 0.25)]
    there, here = in_turn.measured(trees, tmp_path, 3, 2)
    assert there == [3.5, 4.5, 5.5]
    assert here == [3.25, 4.25, 5.25]
    assert (tmp_path / "log").read_text() == "ab" + "aabb" + "ababab"


def test_a_checkout_that_fails_says_why(tmp_path: Path) -> None:
    trees = [checkout(tmp_path, "a", 0.5, "raise SystemExit('no model there')")]
    with pytest.raises(SystemExit, match="no model there"):
        in_turn.measured(trees, tmp_path, 1, 0)
