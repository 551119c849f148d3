"""The folder that `share` writes: it replaces no model unasked, follows no link, leaves nothing half done."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.plan.draft import Draft
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.weights import load_weights, open_shares

SINGLE = [*(f"party{i}.keys" for i in range(3)), "policy.json", "skeleton.onnx", "words.safetensors"]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("left", [*SINGLE, "model.json"])
def test_a_folder_with_a_part_of_a_model_is_taken(left: str, model_path: Path, tmp_path: Path) -> None:
    (tmp_path / left).write_text("somebody's")
    with pytest.raises(ConfigError, match="holds a shared model") as refused:
        share_model(model_path, tmp_path)
    assert "replace" in refused.value.hint
    assert names(tmp_path) == [left]
    assert (tmp_path / left).read_text() == "somebody's"
    share_model(model_path, tmp_path, replace=True)
    assert names(tmp_path) == SINGLE


def test_what_is_no_model_stays(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "policy.json").write_text("mine too")
    share_model(model_path, tmp_path)
    share_model(model_path, tmp_path, replace=True)
    assert names(tmp_path) == sorted(["deep", "deep/policy.json", "notes.txt", *SINGLE])


def test_files_of_another_layout_go(model_path: Path, graphs_folder: Path, tmp_path: Path) -> None:
    share_model(graphs_folder, tmp_path)
    (tmp_path / "decoder_model" / "notes.txt").write_text("mine")
    several = names(tmp_path)
    assert "encoder_model/policy.json" in several
    share_model(model_path, tmp_path, replace=True)
    assert names(tmp_path) == sorted(["decoder_model", "decoder_model/notes.txt", *SINGLE])
    assert load_weights(tmp_path, 1)
    share_model(graphs_folder, tmp_path, replace=True)
    assert names(tmp_path) == several
    assert load_weights(tmp_path, 1)


@pytest.mark.parametrize("graphs", [[".."], ["../.."], ["/etc"], ["a/b"], [7], 7, None])
def test_an_index_that_somebody_planted_removes_nothing_elsewhere(
    graphs: object, model_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "deep"):
        (folder / "policy.json").write_text("not yours")
    (out / "model.json").write_text(json.dumps({"graphs": graphs}))
    share_model(model_path, out, replace=True)
    assert names(out) == SINGLE
    assert (tmp_path / "policy.json").exists()
    assert (tmp_path / "deep" / "policy.json").exists()


def test_nothing_is_written_through_a_planted_link(model_path: Path, tmp_path: Path) -> None:
    out, victims = tmp_path / "out", tmp_path / "victims"
    out.mkdir()
    victims.mkdir()
    for name in (*SINGLE, *(f".{name}.partial" for name in SINGLE)):
        (victims / name).write_text("mine")
        (out / name).symlink_to(victims / name)
    share_model(model_path, out, replace=True)
    assert {path.read_text() for path in victims.iterdir()} == {"mine"}
    for name in SINGLE:
        assert not (out / name).is_symlink()
    assert load_weights(out, 2)


def test_a_link_in_place_of_a_graph_s_folder_is_refused(graphs_folder: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "decoder_model").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"):
        share_model(graphs_folder, out)
    assert not list(elsewhere.iterdir())
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_the_folder_itself_may_be_a_link(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    share_model(model_path, tmp_path / "out")
    assert names(tmp_path / "real") == SINGLE


@contextmanager
def small_files() -> Iterator[None]:
    """No file may exceed a size, as on a full disk; pytest's own output counts among them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_no_shares(model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the shares") as failed, small_files():
        share_model(model_path, tmp_path / "out")
    assert "on a disk" in failed.value.hint
    assert names(tmp_path / "out") == []


def test_a_full_disk_leaves_the_model_that_was_there(
    model_path: Path, graphs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_model(model_path, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    whole = Draft.finish

    def full(draft: Draft) -> None:
        if str(draft._path).endswith("decoder_with_past_model/policy.json"):  # the last file
            raise OSError(28, "No space left on device")
        whole(draft)

    monkeypatch.setattr(Draft, "finish", full)
    with pytest.raises(ConfigError, match="No space left"):
        share_model(graphs_folder, tmp_path, replace=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert not [name for name in names(tmp_path) if "partial" in name]


def test_what_a_killed_process_left_is_removed(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / f".{'0123456789abcdef' * 2}.partial").write_text("shares")
    (tmp_path / ".notes.partial").write_text("mine")
    share_model(model_path, tmp_path)
    assert names(tmp_path) == sorted([".notes.partial", *SINGLE])


def test_what_a_killed_process_left_in_a_graph_s_folder_is_removed(
    graphs_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "encoder_model").mkdir()
    (tmp_path / "encoder_model" / f".{'0123456789abcdef' * 2}.partial").write_text("a policy")
    share_model(graphs_folder, tmp_path)
    assert not [name for name in names(tmp_path) if "partial" in name]
    assert "encoder_model/policy.json" in names(tmp_path)


def test_modes(model_path: Path, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        share_model(model_path, tmp_path)
    finally:
        os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    public = ("policy.json", "skeleton.onnx")
    assert modes == {name: 0o644 if name in public else 0o600 for name in SINGLE}


@pytest.mark.parametrize("name", ["party1.keys", "words.safetensors"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_of_shares_that_others_may_read_draws_a_warning(
    mode: int, name: str, model_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    share_model(model_path, tmp_path)
    model = SharedModel.read(tmp_path)
    with caplog.at_level(logging.WARNING, "onnxpuma.roles"):
        open_shares(tmp_path, 1, model)
        assert not caplog.records
        (tmp_path / name).chmod(mode)
        open_shares(tmp_path, 1, model)
    assert "users other than its owner may read the shares" in caplog.text
    assert f"chmod 600 {tmp_path / name}" in caplog.text
