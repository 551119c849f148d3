"""SecretFlow SPU [SPU] as three processes of this machine, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.check.validation import difference

# With these SPU 0.9.5 runs Flax's models of Transformers.
PACKAGES = (
    "spu==0.9.5",
    "jax==0.4.34",
    "jaxlib==0.4.34",
    "flax==0.10.2",
    "transformers==4.44.2",
    "numpy<2",
)
PYTHONS = ((3, 10), (3, 11))  # that SPU is built for
PARTY = Path(__file__).resolve().with_name("spu_party.py")
PARTIES = 3
TIMEOUT_SECONDS = 1200.0


@dataclass
class Figures:
    """What one side took, in all turns."""

    name: str
    seconds: list[float]
    processor: list[float]  # seconds of all three parties, for each request
    bytes_sent: int  # by all three, in the last request
    exchanges: int  # rounds of onnxpuma; sends of one party, at most, of SPU
    max_error: float
    mean_error: float
    largest: float  # of the reference's values
    peak: int  # bytes of one party's memory, at most


def environment(cache: Path) -> Path:
    """The Python of SPU's environment, made if missing."""
    python = cache / "spu" / "bin" / "python"
    done = cache / "spu" / "complete"
    if not done.exists():
        print("installing SPU in an environment of its own ...", file=sys.stderr)
        shutil.rmtree(cache / "spu", ignore_errors=True)
        subprocess.run([_python(), "-m", "venv", str(cache / "spu")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        done.touch()
    return python


def _python() -> str:
    """A Python that SPU is built for."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS[::-1]:
        found = shutil.which(f"python{major}.{minor}")
        if found:
            return found
    raise SystemExit("SPU 0.9.5 needs Python 3.10 or 3.11, and there is neither")


class Spu:
    """A computation on SPU, compiled and shared by the constructor; `turn` runs it."""

    def __init__(self, python: Path, folder: Path, task: dict[str, Any]) -> None:
        self._python, self._folder, self._task = python, folder, task
        self._found: list[list[dict[str, Any]]] = []
        self._write()
        print("SPU: compiling and sharing ...", file=sys.stderr)
        self._run("prepare")

    def turn(self) -> None:
        """Three fresh processes, and the requests to them."""
        self._write()
        parties = [self._start("party", str(rank)) for rank in range(PARTIES)]
        try:
            for party in parties:
                self._end(party)
        finally:
            for party in parties:
                party.kill()
                party.wait()
        texts = [(self._folder / f"figures{rank}.json").read_text() for rank in range(PARTIES)]
        self._found.append([json.loads(text) for text in texts])
        print(f"SPU: {self._found[-1][0]['seconds']} s", file=sys.stderr)

    def figures(self) -> Figures:
        self._run("open")
        output, reference = (np.load(self._folder / f"{name}.npy") for name in ("output", "reference"))
        apart = difference(output.astype(np.float64), reference.astype(np.float64))
        last = [party["sent"][-1] for party in self._found[-1]]
        requests = [list(zip(*(party["seconds"] for party in turn), strict=True)) for turn in self._found]
        spent = [list(zip(*(party["processor"] for party in turn), strict=True)) for turn in self._found]
        return Figures(
            "SPU 0.9.5",
            [max(each) for turn in requests for each in turn],
            [sum(each) for turn in spent for each in turn],
            sum(sent for sent, _ in last),
            max(sends for _, sends in last),
            apart.max_abs_error,
            apart.mean_abs_error,
            apart.reference_max_abs,
            max(party["peak"] for turn in self._found for party in turn),
        )

    def _write(self) -> None:
        """The task, with three ports that are free now."""
        holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(PARTIES)]
        self._task["addresses"] = [f"127.0.0.1:{holder.getsockname()[1]}" for holder in holders]
        for holder in holders:
            holder.close()
        (self._folder / "task.json").write_text(json.dumps(self._task))
        for log in self._folder.glob("log?*"):
            log.unlink()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(self._python), str(PARTY), arguments[0], str(self._folder), *arguments[1:]]
        quiet = {**os.environ, "JAX_PLATFORMS": "cpu", "TRANSFORMERS_VERBOSITY": "error"}
        with (self._folder / f"said-{'-'.join(arguments)}").open("wb") as said:
            return subprocess.Popen(command, stdout=said, stderr=said, env=quiet)

    def _run(self, *arguments: str) -> None:
        self._end(self._start(*arguments))

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a process; SystemExit with what all of them said when it fails."""
        try:
            failed = process.wait(TIMEOUT_SECONDS) != 0
        except subprocess.TimeoutExpired:
            process.kill()
            failed = True
        if failed:
            said = "\n".join(path.read_text()[-2000:] for path in sorted(self._folder.glob("said-*")))
            raise SystemExit(f"SPU failed or took longer than {TIMEOUT_SECONDS:.0f} s:\n{said}")
