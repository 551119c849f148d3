"""The key pair of a model's owner, to which servers seal what only the owner may read.

A public key is written as "owner:" and 64 hexadecimal digits, so that nobody takes it for a key of another
kind. Sealing is [HPKE] in its base mode: X25519, HKDF-SHA256, ChaCha20-Poly1305.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import read_key_line, write_key_file

SECRET_PREFIX = "ONNXPUMA-OWNER-KEY-"
PUBLIC_PREFIX = "owner:"
_PUBLIC = re.compile(PUBLIC_PREFIX + "[0-9a-f]{64}")
_SECRET = re.compile(SECRET_PREFIX + "[0-9a-f]{64}")
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class OwnerKey:
    """A public key as text, and the secret key that opens what is sealed to it; the repr omits the latter."""

    public: str
    _secret: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> OwnerKey:
        """A fresh key from the operating system's randomness."""
        return cls._of(X25519PrivateKey.generate())

    @classmethod
    def _of(cls, secret: X25519PrivateKey) -> OwnerKey:
        return cls(PUBLIC_PREFIX + secret.public_key().public_bytes_raw().hex(), secret)

    @classmethod
    def read(cls, path: Path) -> OwnerKey:
        """Read the `.secret` file of an owner.

        Raises ConfigError when it is missing, can be read by anyone but its owner, or has no owner's key.
        """
        line = read_key_line(path, SECRET_PREFIX)
        if not _SECRET.fullmatch(line):
            raise ConfigError(
                f"{path} contains no owner's key",
                "name the .secret file that `onnxpuma keygen --owner` wrote",
            )
        return cls._of(X25519PrivateKey.from_private_bytes(bytes.fromhex(line[len(SECRET_PREFIX) :])))

    def write(self, path: Path) -> None:
        """Write `<path>.secret` (mode 0600) and `<path>.public`. ConfigError when one of them exists or
        cannot be written."""
        secret = Path(f"{path}.secret")
        write_key_file(
            secret,
            "# onnxpuma key of a model's owner. Keep it offline: it opens what servers hand over.\n"
            f"# Its public key: {self.public}\n"
            f"{SECRET_PREFIX}{self._secret.private_bytes_raw().hex()}\n",
            mode=0o600,
        )
        try:
            write_key_file(
                Path(f"{path}.public"),
                f"# onnxpuma public key of a model's owner, for `onnxpuma share --owner`.\n{self.public}\n",
                mode=0o644,
            )
        except ConfigError:
            secret.unlink()
            raise

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """What was sealed to this key for this use; None if it was not, or has changed since."""
        try:
            return _SUITE.decrypt(sealed, self._secret, info=context)
        except InvalidTag:
            return None


def seal(owner: str, data: bytes, context: bytes) -> bytes:
    """`data`, encrypted to the owner with this public key, checked, and to nobody else; 48 bytes longer.

    context: the use of it, which whoever opens it must name as well.
    """
    key = X25519PublicKey.from_public_bytes(bytes.fromhex(owner[len(PUBLIC_PREFIX) :]))
    return _SUITE.encrypt(data, key, info=context)


def read_owner_key(path: Path) -> str:
    """The public key in an owner's `.public` file. ConfigError when the file is missing or has none."""
    return check_owner_key(read_key_line(path, SECRET_PREFIX), str(path))


def check_owner_key(text: str, where: str) -> str:
    """Return `text` if it is the public half of an owner's key; `where` tells the error where it was found.

    Raises ConfigError when it is not, or is a secret key.
    """
    if text.startswith(SECRET_PREFIX):
        raise ConfigError(
            f"{where} contains a secret key where a public key belongs",
            "that key is no longer secret: generate another with `onnxpuma keygen --owner`",
        )
    if not is_owner_key(text):
        raise ConfigError(
            f"{where} is not the public half of an owner's key: {text!r}",
            f'it starts with "{PUBLIC_PREFIX}" in the .public file that `onnxpuma keygen --owner` wrote',
        )
    return text


def is_owner_key(text: str) -> bool:
    """Whether this can be the public half of an owner's key."""
    return _PUBLIC.fullmatch(text) is not None
