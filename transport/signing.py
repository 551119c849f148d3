"""Ed25519 keys with which servers sign receipts: generated, written, read and checked.

A public key is written as "ed25519:" and 64 hexadecimal digits, so that nobody takes it for a CURVE key. The
secret key stands in a file of its own beside the CURVE key, `NAME.signing` beside `NAME.secret`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from onnxpuma.errors import ConfigError
from onnxpuma.transport.curve import KeyPair, keygen, read_key_line, write_key_file

SUFFIX = ".signing"
SECRET_PREFIX = "ONNXPUMA-SIGNING-KEY-"
PUBLIC_PREFIX = "ed25519:"
SIGNATURE_BYTES = 64
_PUBLIC = re.compile(PUBLIC_PREFIX + "[0-9a-f]{64}")
_SECRET = re.compile(SECRET_PREFIX + "[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key as text, and the secret key that signs for it; the repr omits the secret key."""

    public: str
    _secret: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key from the operating system's randomness."""
        return cls._of(Ed25519PrivateKey.generate())

    @classmethod
    def _of(cls, secret: Ed25519PrivateKey) -> SigningKey:
        return cls(PUBLIC_PREFIX + secret.public_key().public_bytes_raw().hex(), secret)

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Read a `.signing` file.

        Raises ConfigError when it is missing, can be read by anyone but its owner, or has no signing key.
        """
        line = read_key_line(path, SECRET_PREFIX)
        if not _SECRET.fullmatch(line):
            raise ConfigError(
                f"{path} contains no signing key", "name the .signing file that `onnxpuma keygen` wrote"
            )
        return cls._of(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(line[len(SECRET_PREFIX) :])))

    def write(self, path: Path) -> None:
        """Write the key to a new file of mode 0600. ConfigError when it exists or cannot be written."""
        write_key_file(
            path,
            "# onnxpuma signing key of a server. Keep it on this machine, readable by its owner alone.\n"
            f"# Its public key: {self.public}\n"
            f"{SECRET_PREFIX}{self._secret.private_bytes_raw().hex()}\n",
            mode=0o600,
        )

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, SIGNATURE_BYTES long."""
        return self._secret.sign(message)


def keygen_with_signing(path: Path) -> tuple[KeyPair, SigningKey]:
    """Generate a CURVE pair, written as by `curve.keygen`, and a signing key, written to `<path>.signing`.

    The `.public` file names both public keys. Raises ConfigError when one of the files exists or cannot be
    written.
    """
    key, file = SigningKey.generate(), Path(f"{path}{SUFFIX}")
    key.write(file)
    try:
        return keygen(path, f"# Of a server also, as its signing_key: {key.public}\n"), key
    except ConfigError:
        file.unlink()
        raise


def read_public_signing_key(path: Path) -> str:
    """The public signing key that a `.public` file names beside the CURVE key; "" if it names none.

    Raises ConfigError when the file cannot be read.
    """
    try:
        found = _PUBLIC.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", "name the .public file that `onnxpuma keygen` wrote"
        ) from None
    return found.group() if found else ""


def check_signing_key(text: str, where: str) -> str:
    """Return `text` if it is the public half of a signing key; `where` tells the error where it was found.

    Raises ConfigError when it is not, or is a secret key.
    """
    if text.startswith(SECRET_PREFIX):
        raise ConfigError(
            f"{where} contains a secret key where a public key belongs",
            "that key is no longer secret: generate another with `onnxpuma keygen`, write its public key",
        )
    if not _PUBLIC.fullmatch(text):
        raise ConfigError(
            f"{where} is not the public half of a signing key: {text!r}",
            f'copy the text that starts with "{PUBLIC_PREFIX}" from the .public file of that server',
        )
    return text


def is_signed(public: str, message: bytes, signature: bytes) -> bool:
    """Whether the owner of `public`, checked, has signed `message`."""
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public[len(PUBLIC_PREFIX) :]))
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
