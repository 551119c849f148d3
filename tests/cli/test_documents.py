"""The commands in the README and docs/ exist, and the README's Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from onnxpuma.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def typed_commands() -> list[tuple[str, str]]:
    """Every call of onnxpuma in an indented block or in backticks: (document, command)."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", "")  # a command may go on in the next line
        blocks = re.findall(r"^    (?:\S+\$ +)?(?:ExecStart=\S*/)?(onnxpuma [^#\n]*)", text, re.MULTILINE)
        spans = re.findall(r"`(onnxpuma [^`]*)`", text)
        found += [(document.name, " ".join(call.split())) for call in blocks + spans]
    return found


@pytest.mark.parametrize(("document", "call"), sorted(set(typed_commands())))
def test_commands_in_the_documents_exist(document: str, call: str) -> None:
    words = [word for word in shlex.split(call)[1:] if word not in ("...", "--debug")]
    if not words:
        return
    assert words[0] in COMMANDS, f"{document}: {call}"
    command = COMMANDS[words[0]]
    if isinstance(command, typer.core.TyperGroup) and len(words) > 1:
        assert words[1] in command.commands, f"{document}: {call}"
        command = command.commands[words[1]]
    options = {name for parameter in command.params for name in parameter.opts}
    for word in words[1:]:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{document}: {call}"


def test_the_readme_names_every_command() -> None:
    named = {call.split()[1] for _, call in typed_commands() if len(call.split()) > 1}
    assert named >= set(COMMANDS) - {"models"}


def test_python_in_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        names: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), names)
        assert names["logits"].shape == (1, 10)  # type: ignore[attr-defined]


def test_make_has_the_targets_that_the_readme_names() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^    |`)make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(named) <= targets
