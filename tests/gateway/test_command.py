"""onnxpuma gateway and gateway-key: a whole run, and what is refused before anything starts."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from onnxpuma.cli import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, said.out, " ".join(said.err.split())

    return call


def test_a_gateway_from_start_to_end(story: Path, tmp_path: Path, cli: Cli) -> None:
    keys = tmp_path / "keys.toml"
    _, key, _ = cli("gateway-key", "alice", "--keys", keys, "--most-tokens", 4)
    command = [sys.executable, "-m", "onnxpuma", "gateway", str(story), "--port", "0", "--keys", str(keys)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/v1", ready)
            assert found, ready
            client = openai.OpenAI(base_url=found[0], api_key=key.strip(), max_retries=0)
            said = client.chat.completions.create(model="story", messages=[{"role": "user", "content": "x"}])
            assert (said.choices[0].message.content or "").startswith("Hé")
            assert said.choices[0].finish_reason == "length"
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert '"POST /v1/chat/completions HTTP/1.1" 200' in err
    assert "the gateway has stopped" in err
    assert "Hé" not in err
    assert key.strip() not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which models?"),
        (("--cluster", "c.toml"), "1 --cluster and 0 --tokenizer"),
        (("FOLDER", "--key", "a.secret"), "1 --key for 0 --cluster"),
        (
            ("--cluster", "c.toml", "--tokenizer", "FOLDER", "--memory", "1GB"),
            "--memory is for servers on this",
        ),
        (("--cluster", "gone.toml", "--tokenizer", "FOLDER", "--port", "0"), "there is no file gone.toml"),
        (
            ("--cluster", "c.toml", "--tokenizer", "FOLDER", "--model", "a", "--model", "b"),
            "2 --model for 1 --cluster",
        ),
        (("FOLDER/gone", "--port", "0"), "there is no config.json"),
        (("FOLDER", "--host", "0.0.0.0"), "anybody who reaches 0.0.0.0 could use the gateway"),
        (("FOLDER", "--host", "::"), "anybody who reaches :: could use the gateway"),
        (("FOLDER", "--keys", "gone.toml"), "there is no file gone.toml"),
        (("FOLDER", "--certificate", "c.pem"), "go together"),
        (("FOLDER", "--port", "TAKEN"), "cannot listen at 127.0.0.1:TAKEN"),
    ],
)
def test_what_is_refused(cli: Cli, story: Path, arguments: tuple[str, ...], message: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = str(holder.getsockname()[1])
        put = [each.replace("FOLDER", str(story)).replace("TAKEN", taken) for each in arguments]
        status, _, err = cli("gateway", *put)
    assert status == 6
    assert message.replace("TAKEN", taken) in err
    assert "hint: " in err


def test_a_key_is_printed_once(cli: Cli, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    status, out, err = cli("gateway-key", "alice", "--keys", keys, "--requests-per-minute", 60)
    assert status == 0
    assert re.fullmatch(r"sk-onnxpuma-[\w-]{43}\n", out)
    assert out.strip() not in keys.read_text()
    assert "requests_per_minute = 60" in keys.read_text()
    assert "alice is in" in err
    assert "has a key for alice" in cli("gateway-key", "alice", "--keys", keys)[2]
