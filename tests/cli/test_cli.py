"""The command line as a whole: help, version, and how every command ends when something is wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import zmq

import onnxpuma
from onnxpuma.cli import app
from onnxpuma.errors import OnnxpumaError


def test_version(cli):
    ended = cli("--version")
    assert (ended.status, ended.out.split()) == (0, ["onnxpuma", onnxpuma.__version__])


def test_help_lists_the_commands(cli):
    ended = cli("--help")
    assert ended.status == 0
    for name in ("keygen", "init", "inspect", "share", "serve", "infer", "validate", "demo", "models"):
        assert f"\n  {name} " in ended.out


def test_unknown_command_is_a_usage_error(cli):
    ended = cli("bake")
    assert ended.status == 2
    assert "bake" in ended.err


def test_an_error_shows_its_traceback_only_when_asked(cli, tmp_path: Path):
    missing = tmp_path / "none.onnx"
    assert "not a file" in cli("inspect", missing).message
    ended = cli("--debug", "inspect", missing)
    assert ended.status == 3
    assert "Traceback" in ended.err


def test_a_fault_of_ours_is_one_line_with_a_status_of_its_own(cli, monkeypatch, tmp_path: Path):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("onnxpuma.transport.signing.keygen_with_signing", fail)
    ended = cli("keygen", tmp_path / "alice")
    assert ended.status == 70
    assert "ZeroDivisionError: by chance" in ended.message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError(errno.EMFILE, "Too many open files", "here.npz"), "here.npz: Too many open files"),
        (PermissionError(errno.EACCES, "Permission denied", "there.npz"), "there.npz: Permission denied"),
        (zmq.ZMQError(errno.EMFILE), "Too many open files"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_machine_does_not_give_is_no_fault_of_ours(
    cli, monkeypatch, tmp_path: Path, error: Exception, said: str
):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("onnxpuma.commands.screen.abandon", lambda stream: None)
    monkeypatch.setattr("onnxpuma.transport.signing.keygen_with_signing", fail)
    ended = cli("keygen", tmp_path / "alice")
    assert ended.status == 6
    assert said in ended.message


@pytest.mark.parametrize("command", [["--version"], ["models"], ["inspect", "--help"]])
def test_a_result_that_cannot_be_written_is_an_error(command: list[str]):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "onnxpuma", *command], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 6
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_error_that_cannot_be_shown_keeps_its_status(tmp_path: Path):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "onnxpuma", "inspect", str(tmp_path / "none.onnx")]
        assert subprocess.run(command, stdout=full, stderr=full, check=False).returncode == 3


def test_closed_streams_are_not_taken_by_files(tmp_path: Path):
    """Without stdout and stderr, the next files to be opened would get their numbers."""
    code = (
        "import os, onnxpuma.cli as cli\n"
        "def tell(**_):\n"
        "    places = [os.readlink(f'/proc/self/fd/{d}') for d in (1, 2)]\n"
        "    open(os.environ['SEEN'], 'w').write(' '.join(places))\n"
        "cli.app = tell\n"
        "cli.main(['models'])"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, code]
    seen = tmp_path / "seen"
    subprocess.run(command, check=True, env={**os.environ, "SEEN": str(seen)})
    assert seen.read_text() == f"{os.devnull} {os.devnull}"


def test_every_error_has_an_exit_status_that_says_failure():
    kinds = [OnnxpumaError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert kind.exit_status not in (0, 2, 70, 130)


@pytest.mark.parametrize("module", ["onnxpuma", "onnxpuma.cli"])
def test_help_does_not_wait_for_onnx(module: str):
    code = f"import sys, {module}; sys.exit(bool({{'onnx', 'onnxruntime', 'onnxscript'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "onnxpuma", "--version"], capture_output=True, text=True, check=True
    )
    assert onnxpuma.__version__ in done.stdout


def test_help_is_not_cut_at_80_columns(cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = " ".join(cli("--help").out.split())
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        first = " ".join((command.help or "").split("\n\n")[0].split()).split(". ")[0].rstrip(".")
        assert f"{name} {first}" in said
    assert "..." not in said.replace("[ARGS]...", "")
    assert all(len(line) <= 80 for line in cli("inspect", "--help").out.splitlines())


def test_a_shell_completes_commands_and_options():
    environment = {"_ONNXPUMA_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    for words, wanted in (("onnxpuma in", {"init", "inspect", "infer"}), ("onnxpuma ch", {"chat"})):
        ended = subprocess.run(
            [sys.executable, "-m", "onnxpuma"],
            env={**os.environ, **environment, "COMP_WORDS": words},
            capture_output=True,
            text=True,
            check=False,
        )
        assert set(ended.stdout.split()) == wanted
