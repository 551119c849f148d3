"""Key files: their contents, their mode, and the files that are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import (
    SECRET_PREFIX,
    KeyPair,
    check_public_key,
    generate,
    keygen,
    read_public_key,
    read_secret_key,
)


def test_written_keys_are_read_again(tmp_path: Path) -> None:
    pair = keygen(tmp_path / "keys" / "alice")
    assert read_secret_key(tmp_path / "keys" / "alice.secret") == pair
    assert read_public_key(tmp_path / "keys" / "alice.public") == pair.public
    assert len(pair.public) == len(pair.secret) == 40


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keygen(tmp_path / "alice")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "alice.secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "alice.public").stat().st_mode) == 0o644


def test_pairs_differ() -> None:
    assert len({generate().secret for _ in range(10)}) == 10


def test_a_secret_is_not_printed() -> None:
    pair = generate()
    assert pair.secret not in repr(pair)
    assert pair.public in repr(pair)


@pytest.mark.parametrize("suffix", [".secret", ".public"])
def test_a_key_is_not_overwritten(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"alice{suffix}").write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        keygen(tmp_path / "alice")
    assert (tmp_path / f"alice{suffix}").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1, "no half of a pair is left behind"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keygen(tmp_path / "alice")
    (tmp_path / "alice.secret").chmod(mode)
    with pytest.raises(ConfigError, match="others than its owner may read") as caught:
        read_secret_key(tmp_path / "alice.secret")
    assert "chmod 600" in caught.value.hint


def test_the_wrong_file_is_refused(tmp_path: Path) -> None:
    keygen(tmp_path / "alice")
    (tmp_path / "alice.public").chmod(0o600)
    with pytest.raises(ConfigError, match="contains no secret key"):
        read_secret_key(tmp_path / "alice.public")
    with pytest.raises(ConfigError, match="contains a secret key where a public key belongs"):
        read_public_key(tmp_path / "alice.secret")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "a\nb\n", f"{SECRET_PREFIX}short\n"])
def test_damaged_key_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "alice.secret"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"alice\.secret"):
        read_secret_key(path)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key file") as missing:
        read_secret_key(tmp_path / "nobody.secret")
    assert "name yours" in str(missing.value)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the key file"):
        read_public_key(tmp_path / "binary")


@pytest.mark.parametrize("text", ["", "x" * 39, "x" * 41, " " * 40, '"' * 40, "é" * 40, "#" * 40])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(ConfigError, match="party 1: public_key is not a public key"):
        check_public_key(text, "party 1: public_key")


def test_a_public_key_is_returned_as_it_is() -> None:
    pair: KeyPair = generate()
    assert check_public_key(pair.public, "here") == pair.public
