"""The key pair of a model's owner: its files, and what is sealed to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import keygen
from onnxpuma.transport.sealing import OwnerKey, check_owner_key, is_owner_key, read_owner_key, seal


def test_files(tmp_path: Path) -> None:
    key = OwnerKey.generate()
    key.write(tmp_path / "owner")
    assert (tmp_path / "owner.secret").stat().st_mode & 0o777 == 0o600
    assert read_owner_key(tmp_path / "owner.public") == key.public
    read = OwnerKey.read(tmp_path / "owner.secret")
    assert read.public == key.public
    assert read.open(seal(key.public, b"words", b"use"), b"use") == b"words"
    assert "SECRET" not in repr(read).upper().replace("_SECRET", "")
    with pytest.raises(ConfigError, match="keys are never overwritten"):
        key.write(tmp_path / "owner")
    (tmp_path / "owner.secret").unlink()
    with pytest.raises(ConfigError, match="keys are never overwritten"):  # of the public half
        key.write(tmp_path / "owner")
    assert not (tmp_path / "owner.secret").exists()


def test_another_key_in_its_place(tmp_path: Path) -> None:
    keygen(tmp_path / "client")
    OwnerKey.generate().write(tmp_path / "owner")
    with pytest.raises(ConfigError, match="contains no owner's key"):
        OwnerKey.read(tmp_path / "client.secret")
    with pytest.raises(ConfigError, match="is not the public half of an owner's key"):
        read_owner_key(tmp_path / "client.public")
    with pytest.raises(ConfigError, match="contains a secret key where a public key belongs"):
        read_owner_key(tmp_path / "owner.secret")
    (tmp_path / "owner.secret").chmod(0o644)
    with pytest.raises(ConfigError, match="others than its owner may read"):
        OwnerKey.read(tmp_path / "owner.secret")
    assert not is_owner_key("owner:12")
    with pytest.raises(ConfigError, match="policy is not"):
        check_owner_key("ed25519:" + "0" * 64, "policy")


def test_what_is_sealed_is_opened_by_its_key_for_its_use_alone() -> None:
    key = OwnerKey.generate()
    data = seal(key.public, b"words", b"use")
    assert len(data) == len(b"words") + 48
    assert seal(key.public, b"words", b"use") != data
    assert key.open(data, b"other") is None
    assert OwnerKey.generate().open(data, b"use") is None
    for cut in (b"", data[:20], data[:-1], data + b"!"):
        assert key.open(cut, b"use") is None
