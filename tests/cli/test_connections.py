"""No process talks to anybody but the parties, and none writes into its user's home.

strace, where it is installed, watches a whole run on shares: the client and the three servers,
all their threads, from the first instruction to the last.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STRACE = shutil.which("strace")
SCRIPT = """
import sys
import onnxpuma, numpy as np
from onnxpuma.roles.local.cluster import LocalCluster

with LocalCluster(sys.argv[1]) as cluster:
    with onnxpuma.InferenceSession(cluster=cluster.config_path) as session:
        session.run(None, {"measurements": np.load(sys.argv[2])["inputs"][:1]})
    print(*(port for party in cluster.config.parties for port in (party.peer_port, party.client_port)))
"""
CALLS = "connect,sendto,sendmsg,sendmmsg"
ADDRESS = re.compile(r"sin6?_port=htons\((\d+)\).*?\"([^\"]+)\"")


def traceable() -> bool:
    if STRACE is None:
        return False
    command = [STRACE, "-f", "--seccomp-bpf", "-e", "trace=connect", "true"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0


def bare(home: Path) -> dict[str, str]:
    """An environment that does not forbid telemetry, with a home in which files can be created."""
    forbidding = ("ORT_", "HF_", "TRANSFORMERS_", "XDG_", "DO_NOT_TRACK", "DISABLE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(forbidding)}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT)}


def test_servers_and_session_speak_to_the_parties_alone(model: Path, tmp_path: Path) -> None:
    watched = traceable()
    home, work, trace = (tmp_path / name for name in ("home", "work", "trace"))
    home.mkdir()
    work.mkdir()
    watch = [str(STRACE), "-f", "-qq", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(trace)] * watched
    own = [sys.executable, "-B", "-c", SCRIPT, str(model), str(model.parent / "heldout.npz")]
    done = subprocess.run(
        [*watch, *own], cwd=work, env=bare(home), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [*home.rglob("*"), *work.rglob("*")], "a file was created beside the parties' own"
    if not watched:
        pytest.skip("no files were made; the sockets are seen only where strace may trace")
    calls = trace.read_text(errors="replace").splitlines()
    reached = {(found[2], int(found[1])) for call in calls if (found := ADDRESS.search(call))}
    assert reached == {("127.0.0.1", int(port)) for port in done.stdout.split()}
    assert not [call for call in calls if "AF_UNIX" in call and "nscd" not in call]


@pytest.mark.parametrize("command", ["inspect", "share"])
def test_commands_that_load_a_model_leave_nothing_at_home(command: str, model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    where = ["--out", str(tmp_path / "shared")] * (command == "share")
    subprocess.run(
        [sys.executable, "-B", "-m", "onnxpuma", command, str(model), *where],
        env=bare(home),
        capture_output=True,
        check=True,
    )
    assert not list(home.rglob("*"))


def test_the_package_forbids_telemetry_before_it_loads_a_library(tmp_path: Path) -> None:
    code = (
        "import onnxpuma, os, sys; assert 'onnxruntime' not in sys.modules;"
        "print(*(os.environ.get(n) for n in ('ORT_DISABLE_TELEMETRY', 'DO_NOT_TRACK', 'HF_HUB_OFFLINE')))"
    )
    forced = {**bare(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=forced, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["1", "1", "None"]


def test_a_program_that_loads_onnxruntime_first_is_warned(tmp_path: Path) -> None:
    for code, warned in (("import onnxruntime, onnxpuma", True), ("import onnxpuma, onnxruntime", False)):
        done = subprocess.run(
            [sys.executable, "-c", code], env=bare(tmp_path), capture_output=True, text=True, check=True
        )
        assert ("import onnxpuma first" in " ".join(done.stderr.split())) is warned


def test_commands_fetch_nothing_from_a_hub(cli) -> None:
    os.environ.pop("HF_HUB_OFFLINE", None)
    cli("--version")
    assert os.environ["HF_HUB_OFFLINE"] == "1"


REPORTING = ("onnxruntime", "transformers", "optimum")  # libraries that report how they are used


def imported(path: Path) -> list[str]:
    """The packages that a file imports when it is loaded, in order."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ["tools", "benchmarks", "tests"])
def test_every_program_forbids_telemetry_before_it_loads_a_library(room: str) -> None:
    """It loads onnxpuma first, or belongs to a package that did; pytest loads tests/conftest.py first."""
    packages = [path.parent for path in (ROOT / room).rglob("__init__.py") if forbids(path)]
    for path in (ROOT / room).rglob("*.py"):
        order = imported(path)
        first = next((place for place, name in enumerate(order) if name in REPORTING), None)
        program = "__main__" in path.read_text()
        if first is None or (not program and (room == "tests" or path.parent in packages)):
            continue
        assert {"onnxpuma", "exporting"} & set(order[:first]), f"{path} loads {order[first]} first"


def forbids(path: Path) -> bool:
    return "onnxpuma" in imported(path) or "ORT_DISABLE_TELEMETRY" in path.read_text()
