"""Signals become orders; and the log has dates, a level, and no command to a terminal."""

from __future__ import annotations

import json
import logging
import os
import signal
from datetime import datetime
from pathlib import Path

import pytest

from onnxpuma.commands.logs import LogFormat, LogLevel, log_on_stderr
from onnxpuma.commands.signals import obeyed, pid_file, send
from onnxpuma.roles.server.orders import Orders


def orders_after(*numbers: signal.Signals) -> tuple[bool, bool, bool, int]:
    """Whether to leave, to stop, to reload; and how often the audit log was reopened."""
    orders, reopened = Orders(), []
    with obeyed(orders, lambda: reopened.append(1)):
        for number in numbers:
            os.kill(os.getpid(), number)
    return orders.leave.is_set(), orders.stop.is_set(), orders.reload.is_set(), len(reopened)


def test_signals_are_orders() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert orders_after(signal.SIGTERM) == (True, False, False, 0)
    assert orders_after(signal.SIGTERM, signal.SIGTERM) == (True, True, False, 0)
    assert orders_after(signal.SIGTERM, signal.SIGINT) == (True, True, False, 0)
    assert orders_after(signal.SIGINT) == (False, True, False, 0)
    assert orders_after(signal.SIGHUP, signal.SIGHUP) == (False, False, True, 2)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_pid_file_is_there_while_the_server_runs(tmp_path: Path) -> None:
    path, orders = tmp_path / "pid", Orders()
    with pid_file(path), obeyed(orders, lambda: None):
        assert send(path, signal.SIGHUP) == os.getpid()
        assert orders.reload.is_set()
    assert not path.exists()


def logged(
    capsys: pytest.CaptureFixture[str], format: LogFormat, level: LogLevel = LogLevel.info
) -> list[str]:
    log = logging.getLogger("onnxpuma.commands")
    with log_on_stderr(format, level):
        log.debug("a detail")
        log.info("request of %s\x1b[2J begins", "clinic")
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("it failed")
    log.error("after the end")
    return capsys.readouterr().err.splitlines()


def test_a_line_of_text_begins_with_its_date_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *trace = logged(capsys, LogFormat.text)
    date, level, message = first.split(" ", 2)
    assert datetime.fromisoformat(date).tzinfo is not None
    assert (level, message) == ("info:", "request of clinic\ufffd[2J begins")
    assert second.split(" ", 1)[1] == "error: it failed"
    assert trace[-1] == "ValueError: why"


def test_each_line_of_json_is_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = map(json.loads, logged(capsys, LogFormat.json))
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {
        "level": "info",
        "logger": "onnxpuma.commands",
        "message": "request of clinic\x1b[2J begins",
    }
    assert "ValueError: why" in second["traceback"]


def test_the_level_decides_what_gets_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(logged(capsys, LogFormat.json, LogLevel.error)) == 1
    assert len(logged(capsys, LogFormat.json, LogLevel.debug)) == 3
