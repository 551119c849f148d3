"""From the file that a client stored about a canary to what a judge takes; testimonies are unsealed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from onnxpuma import __version__
from onnxpuma.errors import ConfigError, InputError, PlanError, ReceiptError
from onnxpuma.interpreter import Interpreter
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.audit.evidence import Evidence
from onnxpuma.roles.request.audit_file import read_audit
from onnxpuma.roles.request.commitment import is_opened
from onnxpuma.roles.request.message import read_public_part
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.request.receipt import Signed, check_key, heard
from onnxpuma.roles.request.testimony import Testimony, unsealed
from onnxpuma.roles.server.lockstep import code_of, lockstep_code
from onnxpuma.roles.server.opening import SIGNED_LABEL
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.weights import load_weights
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.link import PARTIES
from onnxpuma.transport.request import Request
from onnxpuma.transport.sealing import OwnerKey


class Case(NamedTuple):
    """All that a judge takes."""

    evidence: Evidence
    plan: Plan
    interpreters: Sequence[Interpreter]


def read_case(path: Path, folder: Path, owner: OwnerKey, signers: Sequence[str] | None = None) -> Case:
    """The case of one canary. folder: of the shared model, with the keys of all three parties and the words.

    signers: the signing keys of the three servers; None trusts those in the file. Raises ConfigError for
    another owner's key and files that cannot be read, InputError for a file that is damaged, about no canary
    or about another model, PlanError where this version plans otherwise than the servers or the shares are
    damaged, ReceiptError for other servers than `signers`. Memory: 48 bytes a weight.
    """
    content = read_audit(path)
    model = SharedModel.read(folder)
    name, blueprint = _graph(model, content.request.model_digest, path)
    if blueprint.owner_key != owner.public:
        raise ConfigError(
            f"the model names {blueprint.owner_key or 'no owner'}, this is the key of {owner.public}",
            "use the .secret file of the key with which the model was shared (--owner)",
        )
    evidence = evidence_of(content, blueprint, owner, str(path), signers)
    plan = _plan(blueprint, evidence)
    weights = [load_weights(folder, party, model)[name] for party in range(PARTIES)]
    return Case(evidence, plan, [Interpreter(each) for each in weights])


def evidence_of(
    content: wire_pb2.AuditFile,
    blueprint: Blueprint,
    owner: OwnerKey,
    where: str,
    signers: Sequence[str] | None = None,
) -> Evidence:
    """What the file says, its testimonies unsealed. where: its name, for errors. Raises as `read_case`."""
    body = content.request
    if not is_opened(body.commitment, content.opening):
        raise InputError(f"{where} is not about a canary", "only the session of a canary can be audited")
    keys = [check_key(server.signing_key, f"{where}: server {i}") for i, server in enumerate(content.servers)]
    if signers is not None and list(signers) != keys:
        raise ReceiptError(
            f"{where} is about servers with other signing keys than cluster.toml lists",
            "use the cluster.toml of the servers that the client asked",
        )
    public = [memoryview(part) for part in content.public]
    one, two, three = (
        Request("", body, public, [memoryview(part) for part in server.private], b"", (0, 0))
        for server in content.servers
    )
    receipts: list[tuple[Signed | None, bytes]] = []
    testimonies: list[Testimony | None] = []
    refusals: dict[int, str] = {}
    for party, (server, key) in enumerate(zip(content.servers, keys, strict=True)):
        receipts.append(_receipt(party, server.receipt, key))
        found = unsealed(server.testimony, owner, key) if server.testimony else server.refusal
        testimonies.append(found if isinstance(found, Testimony) else None)
        if not isinstance(found, Testimony):
            refusals[party] = found
    signed = [one for party, (one, _) in enumerate(receipts) if _is_sound(party, one)]
    sessions = [bytes.fromhex(one.statement["session"]) for one in signed if one is not None]
    sessions += [found.session for found in testimonies if found is not None]
    if not sessions:
        raise InputError(
            f"no server signed or handed over anything about the session of {where}",
            "nothing can be said of it: its servers refused all three, or the client was cut off from them",
        )
    return Evidence(
        session=Counter(sessions).most_common(1)[0][0],
        label=SIGNED_LABEL,
        identities=(content.servers[0].key, content.servers[1].key, content.servers[2].key),
        signers=(keys[0], keys[1], keys[2]),
        client_key=content.client_key,
        requests=(one, two, three),
        asked=read_public_part(one, blueprint),
        receipts=(receipts[0][0], receipts[1][0], receipts[2][0]),
        salts=(receipts[0][1], receipts[1][1], receipts[2][1]),
        testimonies=(testimonies[0], testimonies[1], testimonies[2]),
        refusals=refusals,
        error=content.error,
    )


def _receipt(party: int, data: bytes, key: str) -> tuple[Signed | None, bytes]:
    """A receipt and its salt, as it came; none where it is malformed."""
    try:
        return heard(party, data, key)
    except ReceiptError:
        return None, b""


def _is_sound(party: int, signed: Signed | None) -> bool:
    """Whether this is a statement that the server signed."""
    if signed is None:
        return False
    try:
        signed.check(party)
    except ReceiptError:
        return False
    return True


def _graph(model: SharedModel, digest: bytes, path: Path) -> tuple[str, Blueprint]:
    for name, blueprint in model.graphs.items():
        if blueprint.digest == digest.hex():
            return name, blueprint
    raise InputError(
        f"{path} is about model {digest.hex()[:8]}, the shares are of {model.digest[:8]}",
        "give the folder of the model that the servers had",
    )


def _plan(blueprint: Blueprint, evidence: Evidence) -> Plan:
    """The plan that all parties ran. PlanError where this version cannot have made it."""
    ran = [str(signed.statement.get("version")) for signed in evidence.receipts if signed is not None]
    theirs, _ = Counter(ran).most_common(1)[0] if ran else ("", 0)
    if theirs and code_of(theirs) != lockstep_code():
        raise PlanError(
            f"the servers ran version {theirs}, this is {__version__}+{lockstep_code()}",
            "audit with the version that the servers ran: another one sends other messages",
        )
    asked = evidence.asked
    plan = Plans(blueprint, asked.network).get(asked.shapes, asked.public, asked.selection)
    if plan.digest != asked.plan_digest:
        raise PlanError(
            "this request is planned differently here than at its client",
            "install the same versions of onnxpuma, onnx, onnxruntime and numpy as there",
        )
    return plan
