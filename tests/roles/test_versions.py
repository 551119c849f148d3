"""What another version made: files are read while their form is the same; servers must compute alike."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnxpuma
from onnxpuma.errors import PlanError
from onnxpuma.roles.server import lockstep
from onnxpuma.roles.server.identity import Identity
from onnxpuma.roles.server.lockstep import ROOMS, lockstep_code
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport import wire_pb2
from onnxpuma.versions import FILES
from tests.roles.conftest import tiny_feed, tiny_model

# Made by `share_model(tiny_model(seed=7))` of the version in its name. As long as FILES names that version,
# these files are never made anew: a change that cannot read them needs another name there, and other files.
MADE = Path(__file__).with_name(f"shared_by_{FILES.replace('.', '_')}")
DIGEST = "6f02c415c5983091b4065c9452461fa94b57d38c59f196cc33db9eaf3f3e63c8"


def test_files_of_the_version_that_introduced_their_form_are_read_and_served(
    in_threads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxpuma, "__version__", "99.0")
    assert SharedModel.read(MADE).digest == DIGEST
    for path in MADE.iterdir():
        shutil.copy(path, tmp_path)
        (tmp_path / path.name).chmod(0o600)
    onnx.save(tiny_model(seed=7), tmp_path / "tiny.onnx")
    feed = tiny_feed()
    expected = onnxruntime.InferenceSession(tmp_path / "tiny.onnx").run(["y"], feed)[0]
    with in_threads(tmp_path) as servers, servers.client() as client:
        assert client.run(feed).outputs["y"] == pytest.approx(expected, abs=1e-3)


def test_files_of_another_form_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxpuma.plan.policy_file.FILES", "99.0")
    with pytest.raises(PlanError, match=r"shared with onnxpuma 0\.1\.0, this reads the files of 99\.0"):
        SharedModel.read(MADE)


def difference(ours: str, theirs: str) -> PlanError | None:
    network = wire_pb2.Network(latency=1e-4, bandwidth=1e9)
    hello = wire_pb2.Hello(version=theirs, model_digest=b"", network=network)
    return Identity(0, ours, {}).difference(1, hello)


def test_servers_that_compute_alike_may_be_of_different_versions() -> None:
    assert difference("0.1.0+abc", "0.2.0+abc") is None
    error = difference("0.1.0+abc", "0.1.0+abd")
    assert error is not None
    assert "party 1 has onnxpuma 0.1.0+abd, party 0 has 0.1.0+abc" in error.message


def test_the_code_covers_what_servers_do_in_lockstep_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(onnxpuma.__file__).parent
    copy = tmp_path / "onnxpuma"
    for room in ROOMS:
        source = root / room
        if source.is_dir():
            shutil.copytree(source, copy / room, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            (copy / room).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy / room)
    monkeypatch.setattr(lockstep, "__file__", str(copy / "roles" / "server" / "lockstep.py"))
    code = lockstep_code.__wrapped__
    before = code()
    assert before == lockstep_code()
    (copy / "roles" / "server" / "metrics.py").write_text("x = 1\n")
    assert code() == before
    (copy / "mpc" / "prf.py").write_text("x = 1\n")
    assert code() != before
