"""Receipts: what each server signs about a run, and the check that three of them fit together.

A server signs twice. At the start of a run, before a word moves:

    party, session, jobs       the requests that this run serves, by their digests
    keys                       commitments to its two session keys, by component
    began                      its clock

and at the end all of this and

    sent, received             the chain of its messages, by neighbour (transport/chained.py)
    vouched                    the neighbour's signature under the same chains (passage.py)
    model, plan, request, client, earlier    what the digest of this client's job is made of
    inputs, outputs            codes of the private buffers that it was given, of the terms that it returns
    name, version, ended       its own name, its version of this package, its clock

The two holders of a key must commit to the same one, and what one server sent another must have received. So
if two servers are honest, the third cannot change afterwards what it sent them, and is named if it tries.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from onnxpuma.errors import ConfigError, ReceiptError
from onnxpuma.mpc.prf import framed
from onnxpuma.roles.request.passage import at_fault
from onnxpuma.roles.request.whole_file import write_private
from onnxpuma.transport.link import PARTIES, Buffer, as_bytes
from onnxpuma.transport.signing import SIGNATURE_BYTES, check_signing_key, is_signed

FORM = "onnxpuma receipt 1"
SALT_BYTES = 32
BEGUN = ("form", "party", "session", "jobs", "keys", "began")  # what the first signature covers
ALIKE = ("form", "session", "jobs", "model", "plan", "request", "client", "earlier")
ALL = (*BEGUN, "name", "model", "plan", "request", "client", "earlier", "version", "sent", "received",
       "vouched", "inputs", "outputs", "ended")  # fmt: skip
CODES = ("session", "jobs", "earlier", "model", "plan", "request", "client", "inputs", "outputs")
BY_SERVER = ("keys", "sent", "received", "vouched")  # "keys": by component
_CODE = re.compile("([0-9a-f]{2})+")
_HINT = "keep the file: it names who signed what; ask the owners of these servers"


def canonical(statement: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: JSON in ASCII with sorted keys and no spaces."""
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode("ascii")


def begun(statement: Mapping[str, Any]) -> bytes:
    """The bytes that are signed at the start."""
    return b"begin" + canonical({name: statement[name] for name in BEGUN})


def code_of(salt: bytes, what: str, buffers: Sequence[Buffer]) -> str:
    """A code of some buffers under a salt, SALT_BYTES of randomness; hex.

    A server knows much of what another server was given or returns. The salt, which the client keeps to
    itself, prevents that it tests guesses of the rest against a receipt.
    """
    total = blake3(framed(what.encode()), key=salt)
    for buffer in buffers:
        view = as_bytes(buffer)
        total.update(len(view).to_bytes(8, "little"))
        total.update(view)
    return total.hexdigest()


def client_code(key: str) -> bytes:
    """How the digest of a job names its client, whose public key this is."""
    return hashlib.sha256(key.encode()).digest()


def job_digest(client: bytes, request: bytes, plan: bytes, earlier: Sequence[bytes]) -> bytes:
    """Who asks, the request, the client's plan, and the sessions that made the kept values that it takes."""
    return hashlib.sha256(client + request + plan + b"".join(earlier)).digest()


@dataclass(frozen=True)
class Signed:
    """One server's statement, and its two signatures."""

    statement: Mapping[str, Any]
    at_begin: bytes
    at_end: bytes
    key: str  # public

    def check(self, party: int) -> None:
        """ReceiptError unless this is the statement of `party`, and it signed all of it."""
        said = self.statement
        if not _well_formed(said) or said["form"] != FORM or said["party"] != party:
            raise ReceiptError(f"the receipt of server {party} is not of the form '{FORM}'", _HINT)
        if not is_signed(self.key, b"end" + canonical(said), self.at_end):
            raise ReceiptError(
                f"the receipt of server {party} has changed since it was signed, or its signing key is not"
                f" {self.key}",
                _HINT,
            )
        if not is_signed(self.key, begun(said), self.at_begin):
            raise ReceiptError(
                f"server {party} did not sign at the start of the run what it signed at the end", _HINT
            )


@dataclass(frozen=True)
class Receipt:
    """The receipts of the three servers for one answer."""

    servers: tuple[Signed, ...]

    @property
    def session(self) -> str:
        """The run's session, hex."""
        return str(self.servers[0].statement["session"])

    def check(self, signers: Sequence[str] | None = None) -> None:
        """Check the signatures, and that the three statements fit together.

        signers: the signing keys of the three servers; None trusts the keys in the receipt. Raises
        ReceiptError, which names the servers that are at odds.
        """
        for party, signed in enumerate(self.servers):
            if signers is not None and signed.key != signers[party]:
                raise ReceiptError(
                    f"the receipt of server {party} is signed with {signed.key}, cluster.toml lists"
                    f" {signers[party]}",
                    _HINT,
                )
            signed.check(party)
        said = [signed.statement for signed in self.servers]
        for name in ALIKE:
            _check_alike(name, [statement[name] for statement in said])
        for one in range(PARTIES):
            other = (one + 1) % PARTIES  # the two hold component `other`
            if said[one]["keys"].get(str(other)) != said[other]["keys"].get(str(other)):
                raise ReceiptError(f"{_pair(one, other)} name different keys for this session", _HINT)
            odd = at_fault(said, [signed.key for signed in self.servers], one, other)
            if odd:
                who = " and ".join(f"server {party}" for party in sorted(odd))
                raise ReceiptError(
                    f"{_pair(one, other)} are at odds about what passed between them: {who} signed it one way"
                    " to its neighbour and another way here, or shows no signature of its neighbour",
                    _HINT,
                )
        for party, statement in enumerate(said):
            client, request, plan = (bytes.fromhex(statement[name]) for name in ("client", "request", "plan"))
            earlier = [bytes.fromhex(session) for session in statement["earlier"]]
            if job_digest(client, request, plan, earlier).hex() not in statement["jobs"]:
                raise ReceiptError(f"server {party} signed for a run that does not serve this request", _HINT)

    def render(self) -> str:
        """The text of its file: JSON."""
        rows = [
            {"key": s.key, "begun": s.at_begin.hex(), "ended": s.at_end.hex(), "statement": dict(s.statement)}
            for s in self.servers
        ]
        return json.dumps({"receipts": rows}, indent=1, sort_keys=True) + "\n"

    def write(self, path: Path) -> None:
        """Write the file, for its owner alone to read, whole or not at all. ConfigError when that fails."""
        write_private(path, self.render().encode("ascii"))

    @classmethod
    def read(cls, path: Path) -> Receipt:
        """Read what `write` wrote, and `check` it with the keys in it.

        Raises ConfigError for a file that cannot be read, ReceiptError when a single byte of it has changed.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}: {error.strerror}", "name a file that `onnxpuma infer --receipt` wrote"
            ) from error
        try:
            text = data.decode("ascii")
            rows = json.loads(text)["receipts"]
            receipt = cls(tuple(_row(row, f"{path}: server {party}") for party, row in enumerate(rows)))
            rendered = receipt.render()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ReceiptError(
                f"{path} is not a receipt, or is damaged: {type(error).__name__}: {error}", _HINT
            ) from None
        if len(receipt.servers) != PARTIES:
            raise ReceiptError(f"{path} has {len(receipt.servers)} receipts of servers, not {PARTIES}", _HINT)
        if text != rendered:
            pairs = zip(text.split("\n"), rendered.split("\n"), strict=False)
            line = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), text.count("\n") + 1)
            raise ReceiptError(f"{path} was changed after it was written, at line {line}", _HINT)
        receipt.check()
        return receipt


def _row(row: Mapping[str, Any], where: str) -> Signed:
    key = check_key(row["key"], where)
    at_begin, at_end = (bytes.fromhex(row[name]) for name in ("begun", "ended"))
    return Signed(row["statement"], at_begin, at_end, key)


def check_key(key: object, where: str) -> str:
    """`key`, if it can be a signing key; else ReceiptError."""
    try:
        return check_signing_key(str(key), f"{where}: key")
    except ConfigError as error:
        raise ReceiptError(error.message, _HINT) from None


def heard(party: int, data: bytes | memoryview, key: str) -> tuple[Signed, bytes]:
    """A server's receipt as it travels, and its salt. key: the one with which it must sign.

    Raises ReceiptError when it is malformed.
    """
    try:
        row = json.loads(bytes(data))
        salt, at_begin, at_end = (bytes.fromhex(row[name]) for name in ("salt", "begun", "ended"))
        statement = row["statement"]
        sizes = len(salt), len(at_begin), len(at_end)
        if sizes != (SALT_BYTES, SIGNATURE_BYTES, SIGNATURE_BYTES) or not isinstance(statement, dict):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ReceiptError(
            f"server {party} sent a malformed receipt", "install the same version on all servers"
        ) from None
    return Signed(statement, at_begin, at_end, key), salt


def told(statement: Mapping[str, Any], at_begin: bytes, at_end: bytes, salt: bytes) -> bytes:
    """What `heard` reads."""
    return canonical(
        {"statement": statement, "begun": at_begin.hex(), "ended": at_end.hex(), "salt": salt.hex()}
    )


def _well_formed(statement: Mapping[str, Any]) -> bool:
    """Whether a statement has all fields, each of its kind, and no others."""
    if set(statement) != set(ALL):
        return False
    kinds = {"party": int, "jobs": list, "earlier": list, **dict.fromkeys(BY_SERVER, dict)}
    texts = list[Any]()
    for name, value in statement.items():
        if type(value) is not kinds.get(name, str):
            return False
        if isinstance(value, dict):
            texts += value.values()
        elif name in CODES:
            texts += value if isinstance(value, list) else [value]
    return all(isinstance(text, str) and _CODE.fullmatch(text) for text in texts)


def _check_alike(name: str, values: Sequence[Any]) -> None:
    """ReceiptError, which names the odd one, unless the three servers said the same."""
    texts = [canonical({"": value}) for value in values]
    common, count = Counter(texts).most_common(1)[0]
    if count == PARTIES:
        return
    odd = [f"server {party}" for party, text in enumerate(texts) if text != common]
    who = "the three servers" if count == 1 else f"{odd[0]} and the two others"
    raise ReceiptError(f"{who} signed different things: '{name}'", _HINT)


def _pair(one: int, other: int) -> str:
    first, second = sorted((one, other))
    return f"server {first} and server {second}"
