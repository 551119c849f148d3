"""Three servers in threads that sign, a model whose owner can audit them, and canaries for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxpuma.config import ReceiptConfig
from onnxpuma.roles.audit.judge import judge
from onnxpuma.roles.audit.reading import read_case
from onnxpuma.roles.audit.verdict import Verdict
from onnxpuma.roles.client.asking import Wanted
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.local.canaries import make_canaries
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.canary_file import Canaries
from onnxpuma.roles.server import request_loop
from onnxpuma.transport.sealing import OwnerKey
from onnxpuma.transport.signing import SigningKey
from tests.roles.conftest import Hall, tiny_feed, tiny_model

OWNER = OwnerKey.generate()


def drawn(count: int) -> list[dict[str, np.ndarray]]:
    """Inputs with the mask of `tiny_feed`, which servers see."""
    rng = np.random.default_rng(5)
    return [
        {**tiny_feed(), "ids": rng.integers(0, 50, (2, 3)), "x": rng.normal(0, 1, (2, 8)).astype(np.float32)}
        for _ in range(count)
    ]


class Trio(Hall):
    """Three servers in threads that sign."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__()
        self.folder = folder
        signing = [SigningKey.generate() for _ in range(3)]
        rows = [
            replace(row, signing_key=k.public) for row, k in zip(self.config.parties, signing, strict=True)
        ]
        waits = replace(self.config.timeouts, connect=20.0, heartbeat=20.0)
        self.config = replace(
            self.config,
            parties=(rows[0], rows[1], rows[2]),
            receipts=ReceiptConfig(True, seconds),
            timeouts=waits,
        )
        for party in range(3):
            self.start(party, folder, signing=signing[party])
        assert all(thread.ready.wait(30) for thread in self.started)

    def client(self, mixing: Mixing | None = None) -> Client:
        return Client(self.config, self.client_keys, mixing=mixing)

    @property
    def signers(self) -> tuple[str, ...]:
        assert self.config.signers is not None
        return self.config.signers


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owner")
    onnx.save(tiny_model(), folder / "tiny.onnx")
    share_model(folder / "tiny.onnx", folder / "shared", owner_key=OWNER.public)
    return folder / "shared"


@pytest.fixture(scope="module")
def canaries(shares: Path, tmp_path_factory: pytest.TempPathFactory) -> Canaries:
    """As a client reads them."""
    path = tmp_path_factory.mktemp("canaries") / "c.npz"
    make_canaries(shares, 3, feeds=drawn(3)).write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    return Canaries.read(path)


@pytest.fixture(scope="module")
def trio(shares: Path) -> Iterator[Trio]:
    """They keep the keys of a session for as long as a test may take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_loop, "IDLE_SECONDS", 0.1)
        made = Trio(shares, 600.0)
        yield made
        made.stop()


def verdict_of(file: Path, shares: Path, trio: Trio) -> Verdict:
    case = read_case(file, shares, OWNER, trio.signers)
    return judge(case.evidence, case.plan, case.interpreters)


def wanted() -> Wanted:
    return Wanted(tiny_feed())


def sent_of(client: Client, mixing: Mixing, trio: Trio, opening: bytes) -> Sent:
    """A canary's request, whose answer has come."""
    sent = Sent(opening)
    ridden = mixing.ridden(client.model, tiny_feed(), wanted(), trio.config)
    client.probe(mixing.canaries.every[0], ridden, sent)
    return sent
