"""What the metrics and the audit log are told of requests, and what they never are."""

from __future__ import annotations

import json
import logging
import os
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.roles.server.audit import Audit
from onnxpuma.roles.server.ledger import DONE, LEFT, Entry, Ledger
from onnxpuma.roles.server.metrics import Metrics
from onnxpuma.roles.server.probes import probes
from onnxpuma.roles.server.standing import Board
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.failure import failure_of
from onnxpuma.transport.request import Request

SECRET = np.arange(12, dtype=np.uint64).tobytes()


def asked(number: int, **changes: Any) -> Request:
    body = wire_pb2.Request(
        id=bytes([number]) * 16, model_digest=b"\xab" * 32, outputs=["logits"], keep=["cache"], model="small"
    )
    body.inputs.add(name="x\nforged", shape=[1, 30], secret=True)
    for name, value in changes.items():
        setattr(body, name, value)
    public, private = [memoryview(b"\x01" * 8)], [memoryview(SECRET)]
    return Request("clinic", body, public, private, b"", (0, 0), "k" * 40)


def ledger() -> tuple[Ledger, list[Entry]]:
    entries: list[Entry] = []
    return Ledger((entries.append,)), entries


def test_each_request_has_one_entry_however_it_ends() -> None:
    book, entries = ledger()
    for number in range(4):
        book.arrived(asked(number))
    book.replied(asked(0), wire_pb2.Queued(ahead=1))
    book.replied(asked(0), wire_pb2.Accepted())
    book.replied(asked(0), wire_pb2.Result(seconds=0.5, bytes_sent=700, rounds=9))
    book.replied(asked(1), failure_of(InputError("no", "yes")))
    book.left(asked(2))
    book.left(asked(2))
    assert [(e.outcome, e.waited is None) for e in entries] == [
        (DONE, False),
        ("InputError", True),
        (LEFT, True),
    ]
    first = entries[0]
    assert (first.client, first.key, first.model, first.graph) == ("clinic", "k" * 40, "small", "ab" * 32)
    assert (first.computed, first.sent, first.rounds, first.kind) == (0.5, 700, 9, "run")
    assert first.shapes == {"x forged": (1, 30)}


def test_requests_for_no_run_are_told_apart() -> None:
    book, entries = ledger()
    fetch, drop = asked(0, model_digest=b""), asked(1, model_digest=b"")
    drop.body.release.add(handle=b"h" * 16, name="cache")
    for request in (fetch, drop):
        book.arrived(request)
        book.replied(request, wire_pb2.Result())
    assert [entry.kind for entry in entries] == ["model", "release"]


def test_a_request_that_names_a_million_inputs_costs_a_short_entry() -> None:
    book, entries = ledger()
    many = asked(0)
    for _ in range(5000):
        many.body.inputs.add(name="n" * 5000, shape=[1] * 1000)
    many.body.outputs.extend(["o" * 5000] * 5000)
    book.arrived(many)
    book.left(many)
    assert len(str(entries[0])) < 200_000


def entries_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(book: Ledger, request: Request) -> None:
    book.arrived(request)
    book.replied(request, wire_pb2.Accepted())
    book.replied(request, wire_pb2.Result(seconds=0.25, bytes_sent=1000, rounds=40))


def test_the_audit_log_has_a_line_for_each_request_and_no_value(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    run(Ledger((audit.write,)), asked(1))
    audit.close()
    (line,) = entries_of(path)
    assert line.pop("time").endswith("+00:00")
    assert line.pop("seconds") >= line.pop("waited") >= 0
    assert line == {
        "request": "01" * 16, "kind": "run", "client": "clinic", "key": "k" * 40, "model": "small",
        "graph": "ab" * 32, "shapes": {"x forged": [1, 30]}, "outputs": ["logits"], "kept": ["cache"],
        "outcome": "done", "sent": 1000, "rounds": 40,
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_was_rotated_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("")
    path.chmod(0o644)
    audit = Audit(path)
    book = Ledger((audit.write,))
    run(book, asked(1))
    path.rename(tmp_path / "audit.jsonl.1")
    run(book, asked(2))
    audit.reopen()
    run(book, asked(3))
    audit.close()
    assert [line["request"][:2] for line in entries_of(tmp_path / "audit.jsonl.1")] == ["01", "02"]
    assert [line["request"][:2] for line in entries_of(path)] == ["03"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o600}


def test_an_audit_log_is_appended_to_and_no_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in (1, 2):
        audit = Audit(path)
        run(Ledger((audit.write,)), asked(number))
        audit.close()
    assert len(entries_of(path)) == 2
    (tmp_path / "link").symlink_to(path)
    for place in (tmp_path / "link", tmp_path / "nowhere" / "audit"):
        with pytest.raises(ConfigError, match="cannot be opened"):
            Audit(place)


def test_a_full_disk_is_said_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    audit = Audit.__new__(Audit)
    audit._path, audit._failed, audit._stale = Path("/dev/full"), False, False
    audit._file = os.open("/dev/full", os.O_WRONLY)
    book = Ledger((audit.write,))
    run(book, asked(1))
    run(book, asked(2))
    audit.close()
    assert caplog.text.count("cannot be written") == 1


def figures(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_and_name_no_client_unless_asked() -> None:
    board = Board()
    metrics = Metrics(lambda: board.status)
    book = Ledger((metrics.count,))
    run(book, asked(1))
    book.arrived(asked(2))
    book.replied(asked(2), failure_of(InputError("clinic", "x")))
    board.show(
        wire_pb2.Status(state="idle", waiting=3, kept_bytes=12, peers=[wire_pb2.PeerSeen(connected=True)])
    )
    found = figures(metrics)
    assert found['onnxpuma_requests_total{kind="run",model="small",outcome="done"}'] == 1
    assert found['onnxpuma_requests_total{kind="run",model="small",outcome="failed"}'] == 1
    assert found['onnxpuma_errors_total{error="InputError"}'] == 1
    assert found["onnxpuma_sent_bytes_total"] == 1000
    assert found["onnxpuma_rounds_total"] == 40
    assert found['onnxpuma_computing_seconds_sum{model="small"}'] == 0.25
    assert found["onnxpuma_waiting_seconds_count"] == 1
    assert (found["onnxpuma_queue"], found["onnxpuma_kept_bytes"], found["onnxpuma_peers"]) == (3, 12, 1)
    assert found['onnxpuma_state{state="idle"}'] == found["onnxpuma_ready"] == 1
    assert "clinic" not in metrics.text().decode()
    named = Metrics(lambda: board.status, clients=True)
    run(Ledger((named.count,)), asked(1))
    assert 'client="clinic"' in named.text().decode()


def fetch(port: int, page: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_probes_tell_a_live_server_from_a_ready_one() -> None:
    board = Board()
    with probes(("127.0.0.1", 0), board, Metrics(lambda: board.status), stuck=5.0) as port:
        assert fetch(port, "/healthz") == (200, "alive\n")
        assert fetch(port, "/readyz")[0] == 503, "the model is not loaded"
        board.show(wire_pb2.Status(state="degraded", detail="party 2 is gone"))
        assert fetch(port, "/healthz")[0] == 200
        assert fetch(port, "/readyz") == (503, "degraded: party 2 is gone\n")
        board.show(wire_pb2.Status(state="running"))
        assert fetch(port, "/readyz") == (200, "running\n")
        assert "onnxpuma_ready 1.0" in fetch(port, "/metrics")[1]
        board.looked -= 6.0
        assert fetch(port, "/healthz")[0] == 503, "it has not looked at its clients"
        assert fetch(port, "/secrets")[0] == 404
        with (
            pytest.raises(ConfigError, match="nothing can listen"),
            probes(("127.0.0.1", port), board, Metrics(lambda: board.status), 5.0),
        ):
            pass
