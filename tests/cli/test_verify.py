"""verify, and the receipt that infer writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tomlkit

from onnxpuma.roles.local.cluster import LocalCluster


@pytest.fixture
def receipt(cli, servers: LocalCluster, patient: np.ndarray, tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", measurements=patient)
    ended = cli(
        "infer", "--cluster", servers.config_path, "--key", servers.folder / "client.secret",
        "--inputs", tmp_path / "x.npz", "--out", tmp_path / "y.npz", "--receipt", tmp_path / "r.json",
    )  # fmt: skip
    assert ended.status == 0
    return tmp_path / "r.json"


def test_a_receipt_is_verified_with_and_without_the_keys(cli, servers: LocalCluster, receipt: Path):
    ended = cli("verify", receipt, "--cluster", servers.config_path)
    assert ended.status == 0
    assert "the three servers signed the same run" in ended.out
    assert ended.err == ""
    for name in ("alice", "bob", "carol"):
        assert name in ended.out
    said = json.loads(cli("verify", receipt, "--cluster", servers.config_path, "--json").out)
    assert said["keys_checked"] is True
    assert [row["party"] for row in said["servers"]] == [0, 1, 2]
    assert said["servers"][0]["model"] in ended.out
    assert said["servers"][0]["plan"] in ended.out
    alone = cli("verify", receipt)
    assert alone.status == 0
    assert "give --cluster" in alone.err


def test_a_receipt_that_changed_or_is_of_other_servers(
    cli, servers: LocalCluster, receipt: Path, tmp_path: Path
):
    tables = tomlkit.parse(servers.config_path.read_text())
    rows = tables["party"]
    rows[0]["signing_key"], rows[1]["signing_key"] = rows[1]["signing_key"], rows[0]["signing_key"]
    other = tmp_path / "other.toml"
    other.write_text(tomlkit.dumps(tables))
    ended = cli("verify", receipt, "--cluster", other)
    assert ended.status == 11
    assert "the receipt of server 0 is signed with ed25519:" in ended.message
    tables["receipts"]["on"] = False
    other.write_text(tomlkit.dumps(tables))
    assert "lists no signing keys" in cli("verify", receipt, "--cluster", other).message
    receipt.write_text(receipt.read_text().replace('"name": "bob"', '"name": "rob"'))
    ended = cli("verify", receipt)
    assert ended.status == 11
    assert "the receipt of server 1 has changed since it was signed" in ended.message


def test_no_receipt_of_servers_that_sign_none(cli, servers: LocalCluster, receipt: Path, tmp_path: Path):
    tables = tomlkit.parse(servers.config_path.read_text())
    tables["receipts"]["on"] = False
    other = tmp_path / "other.toml"
    other.write_text(tomlkit.dumps(tables))
    asked = (
        "infer", "--cluster", other, "--key", servers.folder / "client.secret",
        "--inputs", tmp_path / "x.npz", "--out", tmp_path / "z.npz",
    )  # fmt: skip
    assert "these servers sign no receipts" in cli(*asked, "--receipt", tmp_path / "s.json").message
    assert cli(*asked).status == 0
    assert not (tmp_path / "s.json").exists()
