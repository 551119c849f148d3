"""Servers in processes of their own, over encrypted connections, one of which departs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
import pytest

from onnxpuma.errors import TransportError, UnreliableError
from onnxpuma.interpreter import Interpreter
from onnxpuma.roles.audit.evidence import Evidence
from onnxpuma.roles.audit.evidence import Testimony as Told
from onnxpuma.roles.audit.judge import judge
from onnxpuma.roles.audit.verdict import Finding, Verdict
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.local import cluster as cluster_module
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.message import read_public_part
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.request.receipt import Receipt
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.weights import load_weights
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.request import Request
from tests.roles.cheating.conftest import mixed_feed, mixed_model
from tests.roles.cheating.process import PLAN
from tests.roles.cheating.trio import SERVERS
from tests.roles.conftest import TIMEOUTS

ROOT = Path(__file__).resolve().parents[3]
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tests.roles.cheating.process import main"


def start(module: str, arguments: Sequence[str], folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """As isolated.start, of process.py in place of `module`."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{START}; sys.exit(main(sys.argv[1:]))", str(ROOT), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=folder,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cheated")
    onnx.save(mixed_model(), made / "mixed.onnx")
    share_model(made / "mixed.onnx", made)
    return made


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_module.isolated, "start", start)
        with LocalCluster(folder, timeouts=replace(TIMEOUTS, heartbeat=20.0)) as made:
            yield made


@pytest.fixture
def client(servers: LocalCluster) -> Iterator[Client]:
    with servers.client() as made:
        yield made


def audited(servers: LocalCluster, folder: Path, receipt: Receipt) -> Verdict:
    """The judgement of the run that has this receipt."""
    known = [pickle.loads((servers.folder / f"known{party}.pickle").read_bytes()) for party in SERVERS]
    model = SharedModel.read(folder)
    ((name, blueprint),) = model.graphs.items()
    body = wire_pb2.Request.FromString(known[0]["body"])
    public = [memoryview(buffer) for buffer in known[0]["public"]]
    requests = [Request("c", body, public, list(map(memoryview, k["private"])), b"", (0, 0)) for k in known]
    asked = read_public_part(requests[0], blueprint)
    plan = Plans(blueprint, asked.network).get(asked.shapes, asked.public, asked.selection)
    handed = ("session", "coins", "parts", "keys", "digests", "begun", "at_begin")
    told: Any = [Told(party=i, payload=b"", **{f: k[f] for f in handed}) for i, k in enumerate(known)]
    rows: Any = servers.config.parties
    evidence = Evidence(
        session=known[0]["session"],
        label="opening with receipts",
        identities=tuple(row.public_key for row in rows),  # type: ignore[arg-type]
        signers=tuple(row.signing_key for row in rows),  # type: ignore[arg-type]
        client_key=known[0]["client_key"],
        requests=(requests[0], requests[1], requests[2]),
        asked=asked,
        receipts=tuple(receipt.servers),  # type: ignore[arg-type]
        salts=tuple(k["salt"] for k in known),  # type: ignore[arg-type]
        testimonies=tuple(told),  # type: ignore[arg-type]
        refusals={},
    )
    weights = [load_weights(folder, party, model)[name] for party in SERVERS]
    return judge(evidence, plan, [Interpreter(each) for each in weights])


def tell(servers: LocalCluster, party: int, kind: str) -> None:
    (servers.folder / PLAN).write_text(json.dumps({"party": party, "kind": kind}))


def outcome_of(client: Client) -> Any:
    """The outcome, also where the cheat has moved a value out of its range."""
    try:
        return client.run(mixed_feed())
    except UnreliableError as error:
        return error.outcome


def test_servers_in_processes_are_judged(servers: LocalCluster, client: Client, folder: Path) -> None:
    tell(servers, -1, "Honest")
    honest = client.run(mixed_feed())
    assert honest.receipt is not None
    assert audited(servers, folder, honest.receipt).finding is Finding.NOBODY
    for party, kind in ((0, "OtherWeights"), (1, "SkipsATruncation"), (2, "AddsToATerm")):
        tell(servers, party, kind)
        outcome = outcome_of(client)
        assert np.abs(outcome.outputs["y"] - honest.outputs["y"]).max() > 0.1
        assert outcome.receipt is not None
        verdict = audited(servers, folder, outcome.receipt)
        assert (verdict.finding, verdict.who) == (Finding.SERVERS, party), str(verdict)


def test_a_process_that_sends_an_old_message_or_lies(servers: LocalCluster, client: Client) -> None:
    """The run ends with an error that names it, and the next one is served."""
    for party, kind in ((1, "Stale"), (2, "LiesToANeighbour")):
        tell(servers, party, kind)
        with pytest.raises(TransportError, match=f"party {party}"):
            client.run(mixed_feed())
    tell(servers, -1, "Honest")
    client.run(mixed_feed())
