"""A process that holds secrets leaves no core dump, admits no debugger, and avoids swap where it may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from onnxpuma.roles.local.cluster import LocalCluster

if not sys.platform.startswith("linux"):
    pytest.skip("what Linux offers", allow_module_level=True)

import resource

ASKED = "import ctypes, resource; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(4))"
OPEN = "import resource; resource.setrlimit(4, (resource.getrlimit(4)[1],) * 2);"


def said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def limits(pid: int, name: str) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith(name)).split()[-3:-1]


def test_a_secluded_process_is_not_dumped() -> None:
    assert resource.RLIMIT_CORE == 4
    assert said(f"{OPEN} {ASKED}")[0] == "1"
    assert said(f"{OPEN} from onnxpuma.roles.server.seclusion import seclude; seclude(); {ASKED}") == [
        "0",
        "0",
        "0",
    ]


@pytest.mark.parametrize("command", ["keygen", "share", "infer", "serve"])
def test_every_command_is_secluded_before_it_begins(command: str) -> None:
    """The command itself fails at once, since its files do not exist."""
    given = {
        "keygen": ["/dev/null/alice"],
        "share": ["/none", "--out", "/none"],
        "infer": ["--key", "/none", "--inputs", "/none", "--out", "/none"],
        "serve": ["--model", "/none", "--key", "/none"],
    }[command]
    code = f"""
{OPEN}
import sys
from onnxpuma.cli import main
try:
    main({[command, *given]!r})
except SystemExit as end:
    assert end.code not in (0, 70), end.code
{ASKED}
"""
    assert said(code) == ["0", "0", "0"]


def test_local_servers_are_secluded(cluster: LocalCluster) -> None:
    for pid in cluster.pids:
        assert limits(pid, "Max core file size") == ["0", "0"]


LOCKED = """
import re, resource
from onnxpuma.roles.server.seclusion import stay_in_memory
{prepare}
locked = stay_in_memory()
held = bytearray(b"x") * (1 << 20)
print(locked, re.search(r"VmLck:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def test_no_memory_is_locked_below_a_limit() -> None:
    """An allocation that reached the limit would fail."""
    prepare = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))"
    assert said(LOCKED.format(prepare=prepare)) == ["False", "0"]


def test_all_memory_is_locked_where_there_is_no_limit() -> None:
    prepare = "resource.getrlimit = lambda _: (resource.RLIM_INFINITY,) * 2"
    locked, size = said(LOCKED.format(prepare=prepare))
    if locked != "True":
        pytest.skip("this user may not lock memory")
    assert int(size) > 1 << 10
