"""A server in a process of its own that departs as a file tells it, and notes what it could hand over."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

from onnxpuma.mpc.prf import fresh_part
from onnxpuma.roles.local import party as local_party
from onnxpuma.roles.request.receipt import BEGUN
from onnxpuma.roles.server import run, runs
from onnxpuma.roles.server.run import Begun
from onnxpuma.transport.link import PARTIES
from tests.roles.cheating import deviations

PLAN = "deviation.json"  # {"party": 1, "kind": "OtherWeights"}, in the folder of cluster.toml
_PARTS: dict[bytes, list[bytes]] = {}  # by session


def main(arguments: list[str]) -> int:
    """As local/party.py."""
    folder, party = Path(arguments[0]), int(arguments[1])
    real_compute, real_open = runs.compute, run.open_session

    def open_session(link: Any, batch: Any, sides: Any, identities: Any, label: str, draw: Any = None) -> Any:
        def drawn() -> bytes:
            parts.append((draw or fresh_part)())
            return parts[-1]

        parts = _PARTS.setdefault(batch.session, [])
        return real_open(link, batch, sides, identities, label, drawn)

    def compute(begun: Begun, interpreter: Any, *rest: Any) -> Any:
        told = json.loads((folder / PLAN).read_text())
        acting = deviations.Honest(party)
        if told["party"] == party:
            acting = getattr(deviations, told["kind"])(party)
        known = _known(begun)
        assert begun.witness is not None
        begun.witness.link.inner = acting.link(begun.witness.link.inner)
        with acting.active():
            done = real_compute(begun, acting.interpreter(interpreter._weights), *rest)
        (folder / f"known{party}.pickle").write_bytes(pickle.dumps({**known, **_seen(begun)}))
        return done

    run.open_session = open_session  # type: ignore[assignment]
    runs.compute = compute  # type: ignore[assignment]
    return local_party.main(arguments)


def _known(begun: Begun) -> dict[str, Any]:
    """What the run would use up."""
    ((job, _),) = begun.requests
    return {
        "session": begun.session,
        "coins": job.coins,
        "parts": tuple(_PARTS[begun.session]),
        "keys": dict(begun.keys._keys),
        "client_key": job.client_key,
        "body": job.request.body.SerializeToString(),
        "public": [bytes(buffer) for buffer in job.request.public],
        "private": [bytes(buffer) for buffer in job.request.private],
    }


def _seen(begun: Begun) -> dict[str, Any]:
    """What it saw and signed."""
    witness, me = begun.witness, begun.link.party
    assert witness is not None
    digests = {}
    for peer in {*range(PARTIES)} - {me}:
        digests[me, peer] = tuple(witness.link.sent[peer].digests)
        digests[peer, me] = tuple(witness.link.received[peer].digests)
    return {
        "digests": digests,
        "begun": {name: witness._statement[name] for name in BEGUN},
        "at_begin": witness._begun,
        "salt": next(iter(witness._salts.values())),
    }
