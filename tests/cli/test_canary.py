"""keygen --owner, share --owner, canary make, infer --canaries and audit, one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnxpuma.cli import main
from onnxpuma.roles.local.cluster import LocalCluster


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder with the owner's key, the shared model and canaries."""
    folder = tmp_path_factory.mktemp("owner")
    patient = folder / "x.npy"
    with np.load(model.parent / "heldout.npz") as arrays:
        np.save(patient, arrays["inputs"][:1])
    for arguments in (
        ("keygen", "--owner", folder / "owner"),
        ("share", model, "--out", folder / "shared", "--owner", folder / "owner.public"),
        ("canary", "make", folder / "shared", "--out", folder / "c.canaries", "--count", 1),
    ):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert end.value.code in (0, None)
    return folder


@pytest.fixture(scope="module")
def signing(owner: Path) -> Iterator[LocalCluster]:
    with LocalCluster(owner / "shared") as servers:
        yield servers


def test_files_of_the_owner(owner: Path):
    for name in ("owner.secret", "c.canaries"):
        assert (owner / name).stat().st_mode & 0o777 == 0o600
    assert "owner:" in (owner / "owner.public").read_text()
    assert '"owner_key": "owner:' in (owner / "shared" / "policy.json").read_text()


def test_canaries_among_requests_and_their_audits(cli, owner: Path, signing: LocalCluster, tmp_path: Path):
    copies = []
    for number in range(2):
        copies.append(tmp_path / f"patient{number}.npy")
        np.save(copies[-1], np.load(owner / "x.npy"))
    inputs = [word for copy in copies for word in ("--inputs", copy)]
    ended = cli(
        "infer", "--cluster", signing.config_path, "--key", signing.folder / "client.secret", *inputs,
        "--out", tmp_path / "out", "--receipt", tmp_path / "receipts", "--canaries", owner / "c.canaries",
        "--rate", "1", "--audit-all", "--audits", tmp_path,
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"patient{n}.npz" for n in range(2)}
    assert {path.name for path in (tmp_path / "receipts").iterdir()} == {f"patient{n}.json" for n in range(2)}
    files = sorted(tmp_path.glob("*.audit"))
    assert f"{len(files)} canaries among 2 requests" in ended.err
    if not files:  # one in 16
        return
    asked = ("audit", files[0], "--shares", owner / "shared", "--key", owner / "owner.secret")
    ended = cli(*asked, "--cluster", signing.config_path)
    assert ended.status == 0, ended.err
    assert "nobody departed" in ended.out
    assert "give --cluster" not in ended.err
    said = json.loads(cli(*asked, "--json").out)
    assert said["keys_checked"] is False
    assert said["audits"][0]["servers"] == []
    cli("keygen", "--owner", tmp_path / "other")
    ended = cli(*asked[:-1], tmp_path / "other.secret")
    assert ended.status == 6
    assert "this is the key of owner:" in ended.message
    files[0].write_bytes(files[0].read_bytes()[:-1])
    ended = cli(*asked)
    assert ended.status == 4
    assert "is damaged" in ended.message


def test_several_inputs_take_a_folder(cli, owner: Path, signing: LocalCluster, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.load(owner / "x.npy"))
    (tmp_path / "file").write_text("")
    asked = ("infer", "--cluster", signing.config_path, "--key", signing.folder / "client.secret")
    one, two = ("--inputs", owner / "x.npy"), ("--inputs", tmp_path / "x.npy")
    assert "two inputs have the same name" in cli(*asked, *one, *two, "--out", tmp_path / "o").message
    np.save(tmp_path / "y.npy", np.load(owner / "x.npy"))
    two = ("--inputs", tmp_path / "y.npy")
    assert "is no folder" in cli(*asked, *one, *two, "--out", tmp_path / "file").message
    said = json.loads(cli(*asked, *one, *two, "--json").out)
    assert len(said["requests"]) == 2
    assert said["requests"][1]["out"] is None


def test_mistakes(cli, owner: Path, model: Path, tmp_path: Path):
    ended = cli("canary", "make", model.parent, "--out", tmp_path / "c")
    assert ended.status == 5
    assert "is not a shared model" in ended.message
    ended = cli("canary", "make", owner / "shared", "--out", tmp_path / "c", "--dim", "rows=2")
    assert "the model has no dimension 'rows'" in ended.message
    ended = cli("share", model, "--out", tmp_path / "s", "--owner", owner / "owner.secret")
    assert "contains a secret key where a public key belongs" in ended.message
    ended = cli("share", model, "--out", tmp_path / "s", "--owner", owner / "x.npy")
    assert ended.status == 6
    assert "first that differs convicts its sender" in " ".join(cli("audit", "--help").out.split())
    assert cli("gateway", model.parent, "--canaries", owner / "c.canaries").status == 6
