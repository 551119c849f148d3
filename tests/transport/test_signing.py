"""Signing keys: files, texts and signatures."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import read_public_key, read_secret_key
from onnxpuma.transport.signing import (
    SIGNATURE_BYTES,
    SigningKey,
    check_signing_key,
    is_signed,
    keygen_with_signing,
)


def test_a_key_signs_for_its_public_half_alone() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(b"text")
    assert len(signature) == SIGNATURE_BYTES
    assert is_signed(key.public, b"text", signature)
    assert not is_signed(key.public, b"texu", signature)
    assert not is_signed(other.public, b"text", signature)
    assert not is_signed(key.public, b"text", b"")
    assert repr(key) == f"SigningKey(public='{key.public}')"


def test_keygen_writes_three_files_that_belong_together(tmp_path: Path) -> None:
    pair, signing = keygen_with_signing(tmp_path / "alice")
    assert read_secret_key(tmp_path / "alice.secret") == pair
    assert read_public_key(tmp_path / "alice.public") == pair.public
    assert signing.public in (tmp_path / "alice.public").read_text()
    read = SigningKey.read(tmp_path / "alice.signing")
    assert read.public == signing.public
    assert is_signed(signing.public, b"x", read.sign(b"x"))
    assert stat.S_IMODE((tmp_path / "alice.signing").stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="exists already"):
        keygen_with_signing(tmp_path / "alice")
    assert SigningKey.read(tmp_path / "alice.signing").public == signing.public


def test_a_pair_that_exists_leaves_no_signing_key_behind(tmp_path: Path) -> None:
    keygen_with_signing(tmp_path / "bob")
    (tmp_path / "bob.signing").unlink()
    with pytest.raises(ConfigError, match="exists already"):
        keygen_with_signing(tmp_path / "bob")
    assert not (tmp_path / "bob.signing").exists()


def test_files_that_are_no_signing_key(tmp_path: Path) -> None:
    keygen_with_signing(tmp_path / "alice")
    with pytest.raises(ConfigError, match="contains no signing key"):
        SigningKey.read(tmp_path / "alice.secret")
    (tmp_path / "alice.signing").chmod(0o644)
    with pytest.raises(ConfigError, match="others than its owner may read"):
        SigningKey.read(tmp_path / "alice.signing")
    with pytest.raises(ConfigError, match="there is no key file"):
        SigningKey.read(tmp_path / "none.signing")


def test_texts_that_are_no_signing_key(tmp_path: Path) -> None:
    pair, signing = keygen_with_signing(tmp_path / "alice")
    assert check_signing_key(signing.public, "here") == signing.public
    secret = (tmp_path / "alice.signing").read_text().splitlines()[-1]
    with pytest.raises(ConfigError, match="here contains a secret key"):
        check_signing_key(secret, "here")
    for text in (pair.public, signing.public[:-1], signing.public.upper(), ""):
        with pytest.raises(ConfigError, match="here is not the public half"):
            check_signing_key(text, "here")
