"""keygen and init."""

from __future__ import annotations

import stat
from pathlib import Path

import tomlkit

from onnxpuma.transport.curve import read_public_key, read_secret_key
from onnxpuma.transport.signing import SigningKey


def test_keygen_writes_a_pair_that_belongs_together(cli, tmp_path: Path):
    ended = cli("keygen", tmp_path / "alice")
    assert ended.status == 0
    public = read_public_key(tmp_path / "alice.public")
    assert read_secret_key(tmp_path / "alice.secret").public == public
    assert public in ended.out
    assert read_secret_key(tmp_path / "alice.secret").secret not in ended.out + ended.err


def test_only_the_owner_may_read_the_secret_key(cli, tmp_path: Path):
    cli("keygen", tmp_path / "alice")
    assert stat.S_IMODE((tmp_path / "alice.secret").stat().st_mode) == 0o600


def test_keygen_writes_a_signing_key_beside_the_pair(cli, tmp_path: Path):
    ended = cli("keygen", tmp_path / "alice")
    public = SigningKey.read(tmp_path / "alice.signing").public
    assert public in ended.out
    assert public in (tmp_path / "alice.public").read_text()
    assert stat.S_IMODE((tmp_path / "alice.signing").stat().st_mode) == 0o600


def test_keygen_does_not_overwrite(cli, tmp_path: Path):
    cli("keygen", tmp_path / "alice")
    before = (tmp_path / "alice.secret").read_text()
    ended = cli("keygen", tmp_path / "alice")
    assert ended.status == 6
    assert "exists already" in ended.message
    assert (tmp_path / "alice.secret").read_text() == before


def test_init_writes_three_parties_to_be_filled_in(cli, tmp_path: Path):
    path = tmp_path / "cluster.toml"
    assert cli("init", path).status == 0
    assert len(tomlkit.parse(path.read_text()).unwrap()["party"]) == 3
    ended = cli("infer", "--cluster", path, "--key", path, "--inputs", path, "--out", path)
    assert ended.status == 6
    assert "is not filled in" in ended.message


def test_init_does_not_overwrite(cli, tmp_path: Path):
    path = tmp_path / "cluster.toml"
    path.write_text("mine")
    assert "exists already" in cli("init", path).message
    assert path.read_text() == "mine"
