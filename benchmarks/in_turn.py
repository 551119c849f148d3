"""How many times as fast is a token as in another checkout? Both in turn, token by token.

    python benchmarks/in_turn.py --against /tmp/old --model FOLDER [--tokens 20] [--warm 9]

FOLDER: one that tools/export.py wrote, as tokens.py takes it. Each checkout has an environment of its own in
.venv, and runs its own benchmarks/tokens.py; a machine that is slower for a while is so for both. The first
`warm` tokens after the prompt are left out. While one checkout computes the other waits.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

# tokens.py, which stops after each token that it reports until a line comes.
GATED = """
import builtins, runpy, sys
say = builtins.print
def gated(*words, **named):
    say(*words, **named)
    if words and str(words[0]).startswith("token "):
        sys.stderr.flush()
        sys.stdin.readline()
builtins.print = gated
sys.path.insert(0, ".")
runpy.run_path("tokens.py", run_name="__main__")
"""


class Checkout:
    """A checkout that writes a token whenever it is asked."""

    def __init__(self, tree: Path, model: Path, tokens: int) -> None:
        command = [str(tree / ".venv" / "bin" / "python"), "-c", GATED]
        self._process = subprocess.Popen(
            [*command, "--model", str(model), "--tokens", str(tokens)],
            cwd=tree / "benchmarks",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: list[str] = []
        self.first = self._seconds()

    def token(self) -> float:
        """The seconds of one more token."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._seconds()

    def _seconds(self) -> float:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = re.match(r"token \d+: ([\d.]+) s", line)
            if found:
                return float(found[1])
            self._said.append(line)
        sys.exit(f"{' '.join(map(str, self._process.args))} ended:\n{''.join(self._said[-20:])}")

    def close(self) -> None:
        """Let it write what is left."""
        self._process.communicate("\n" * 1000)


def measured(trees: list[Path], model: Path, tokens: int, warm: int) -> list[list[float]]:
    """The seconds of each token, by checkout."""
    checkouts = [Checkout(tree, model, tokens + warm) for tree in trees]
    try:
        for checkout in checkouts:
            for _ in range(warm):
                checkout.token()
        return [
            list(one) for one in zip(*([c.token() for c in checkouts] for _ in range(tokens)), strict=True)
        ]
    finally:
        for checkout in checkouts:
            checkout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--model", type=Path, required=True, help="a folder that tools/export.py wrote")
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--warm", type=int, default=9)
    options = parser.parse_args()
    trees = [options.against.resolve(), Path(__file__).resolve().parent.parent]
    there, here = measured(trees, options.model.resolve(), options.tokens, options.warm)
    table = Table("a token", "there", "here", "there / here")
    for name, of in (("fastest", min), ("median", median)):
        table.add_row(name, f"{of(there):.2f} s", f"{of(here):.2f} s", f"{of(there) / of(here):.2f}")
    ratio = median(a / b for a, b in zip(there, here, strict=True))
    table.add_row("median of the pairs", "", "", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
