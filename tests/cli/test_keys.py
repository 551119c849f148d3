"""keygen and init."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import tomlkit

from onnxpuma.config import read_cluster
from onnxpuma.transport.curve import keygen, read_public_key, read_secret_key
from onnxpuma.transport.signing import SigningKey, keygen_with_signing


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


def test_init_writes_a_cluster_that_is_ready_to_use(cli, tmp_path: Path):
    names = ("alice", "bob", "carol", "ann")
    keys = {name: keygen(tmp_path / name).public for name in names}
    path = tmp_path / "cluster.toml"
    ended = cli(
        *("init", path),
        *("--party", f"alice=alice.example.org:{keys['alice']}"),
        *("--party", f"bob=10.0.0.2:{tmp_path / 'bob.public'}"),
        *("--party", f"carol=10.0.0.2:{keys['carol']}"),
        *("--client", f"ann={keys['ann']}"),
    )
    assert ended.status == 0
    config = read_cluster(path)
    assert [party.host for party in config.parties] == ["alice.example.org", "10.0.0.2", "10.0.0.2"]
    assert [party.peer_port for party in config.parties] == [7000, 7000, 7001]
    assert [party.public_key for party in config.parties] == [keys[name] for name in names[:3]]
    assert config.clients == {"ann": keys["ann"]}


def test_init_lists_the_signing_keys_that_public_files_name(cli, tmp_path: Path):
    signing = {name: keygen_with_signing(tmp_path / name)[1].public for name in ("alice", "bob", "carol")}
    client, path = keygen(tmp_path / "ann").public, tmp_path / "cluster.toml"
    parties = [word for name in signing for word in ("--party", f"{name}=h{name}:{tmp_path / name}.public")]
    assert cli("init", path, *parties, "--client", f"ann={client}").status == 0
    assert [party.signing_key for party in read_cluster(path).parties] == list(signing.values())


def test_a_key_with_the_signs_that_separate_is_read_whole(cli, tmp_path: Path):
    keys = [read for read in (keygen(tmp_path / f"k{i}").public for i in range(60)) if set(read) & set("=:")]
    path = tmp_path / "cluster.toml"
    parties = [word for i in range(3) for word in ("--party", f"p{i}=h{i}:{keys[i]}")]
    assert cli("init", path, *parties, "--client", f"ann={keys[3]}").status == 0
    assert [party.public_key for party in read_cluster(path).parties] == keys[:3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--party", "alice=h:k"], "--party names 1 of three servers"),
        (["--party", "alice=h:k"] * 3, "the key of --party alice, 'k', is neither a public key nor"),
        (["--party", "alice=h:alice.secret"] * 3, "names the secret key alice.secret"),
        (["--party", "alice"] * 3, "--party alice is not NAME=HOST:KEY"),
        (["--party", "alice=host"] * 3, "is not NAME=HOST:KEY"),
        (["--client", "ann=short"], "not a public key"),
        (["--client", "ann"], "--client ann is not NAME=KEY"),
    ],
)
def test_init_refuses_what_it_cannot_read(cli, tmp_path: Path, options: list[str], said: str):
    ended = cli("init", tmp_path / "cluster.toml", *options)
    assert ended.status == 6
    assert said in ended.message
    assert not (tmp_path / "cluster.toml").exists()


def test_init_leaves_no_file_that_names_one_server_twice(cli, tmp_path: Path):
    key, other = keygen(tmp_path / "a").public, keygen(tmp_path / "b").public
    parties = [word for i in range(3) for word in ("--party", f"p{i}=h{i}:{key}")]
    ended = cli("init", tmp_path / "cluster.toml", *parties, "--client", f"ann={other}")
    assert "the same public key" in ended.message
    assert not (tmp_path / "cluster.toml").exists()
