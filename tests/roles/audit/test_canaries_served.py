"""Canaries at three servers: mixed in, opened, audited; and all that servers refuse."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.config import ReceiptConfig
from onnxpuma.errors import CanaryError, ConfigError, InputError, ReceiptError, TransportError
from onnxpuma.roles.audit.judge import judge
from onnxpuma.roles.audit.reading import read_case
from onnxpuma.roles.audit.verdict import Finding, Verdict
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.local.canaries import make_canaries
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.audit_file import read_audit, write_audit
from onnxpuma.roles.request.canary_file import Canaries, Canary
from onnxpuma.roles.request.commitment import commitment_of, fresh_opening
from onnxpuma.roles.request.receipt import begun
from onnxpuma.roles.server import request_loop, run
from onnxpuma.transport import wire_pb2
from onnxpuma.transport.sealing import OwnerKey
from onnxpuma.transport.signing import SigningKey, is_signed
from tests.roles.conftest import Hall, tiny_feed, tiny_model

OWNER = OwnerKey.generate()
SIZES = {"batch": 2, "sequence": 3}


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


def test_canaries_ride_beside_requests_and_honest_servers_pass_their_audits(
    trio: Trio, canaries: Canaries, shares: Path, tmp_path: Path
) -> None:
    mixing = Mixing(canaries, 1.0, audited=1.0, folder=tmp_path, draw=random.Random(3))
    with trio.client(mixing) as client:
        plain = [client.run(tiny_feed()).outputs["y"] for _ in range(4)]
    assert 1 <= mixing.sent <= 8
    assert mixing.wrong == 0
    assert len(mixing.files) == mixing.sent
    assert max(float(np.abs(plain[0] - each).max()) for each in plain) < 0.02
    verdict = verdict_of(mixing.files[0], shares, trio)
    assert verdict.finding is Finding.NOBODY, str(verdict)


def wrong(canaries: Canaries, name: str = "y") -> Canaries:
    """Canaries whose answers are not those of the program."""
    every = [Canary(each.feed, {**each.outputs, name: each.outputs[name] + 1}) for each in canaries.every]
    return replace(canaries, every=every)


def test_receipts_that_are_no_receipts_are_the_judges_matter(
    trio: Trio, canaries: Canaries, shares: Path, tmp_path: Path
) -> None:
    """A malformed one and one that was not signed as it stands: their server is named."""
    mixing = Mixing(canaries, 0.0, folder=tmp_path)
    with trio.client(mixing) as client:
        file, _ = client.complain(sent_of(client, mixing, trio, fresh_opening()), tmp_path)
    whole = read_audit(file)
    said = whole.servers[1].receipt
    for spoiled in (b"", b"{}", said.replace(b'"party":1', b'"party":0'), said.replace(b'"session"', b'"s"')):
        whole.servers[1].receipt = spoiled
        write_audit(file, whole)
        verdict = verdict_of(file, shares, trio)
        assert verdict.finding is Finding.SILENT
        assert verdict.who == 1


def run_often(client: Client) -> None:
    for _ in range(60):  # each comes without a canary with probability 1/4
        client.run(tiny_feed())


def test_a_wrong_answer_tells_what_to_do_and_loses_nothing(
    trio: Trio, canaries: Canaries, shares: Path, tmp_path: Path
) -> None:
    mixing = Mixing(wrong(canaries), 1.0, folder=tmp_path)
    outcomes = []
    for _ in range(60):
        with trio.client(mixing) as client:
            with pytest.raises(CanaryError, match="'y' is off by 1, where honest runs stay") as caught:
                run_often(client)
            assert f"onnxpuma audit {mixing.files[-1]} --shares" in caught.value.hint
            outcomes.append(caught.value.outcome)
        if None in outcomes and any(outcome is not None for outcome in outcomes):
            break
    else:  # one in 2^60
        pytest.fail("canaries came before requests alone, or after them alone")
    assert next(o for o in outcomes if o is not None).outputs["y"].shape == (2, 8)  # type: ignore[attr-defined]
    assert mixing.wrong == mixing.sent == len(mixing.files)
    # The servers did what they should: the canary was wrong.
    assert verdict_of(mixing.files[-1], shares, trio).finding is Finding.NOBODY


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_server_that_changes_its_term_is_named(
    party: int, trio: Trio, canaries: Canaries, shares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = run.outgoing

    def outgoing(one: Any, *of: Any) -> Any:
        term = honest(one, *of)
        if one.index == party:
            term.words[...] += 1 << 20
        return term

    mixing = Mixing(canaries, 1.0, folder=tmp_path)
    with trio.client(mixing) as client:
        ridden = mixing.ridden(client.model, tiny_feed(), wanted(), trio.config)
        with monkeypatch.context() as patch:
            patch.setattr(run, "outgoing", outgoing)
            with pytest.raises(CanaryError, match="the answer to a canary is wrong"):
                mixing.probe(client, ridden)
    verdict = verdict_of(mixing.files[0], shares, trio)
    assert verdict.finding is Finding.SERVERS
    assert verdict.who == party
    assert verdict.statements[0].key == trio.signers[party]


def test_a_run_that_ends_early_leaves_its_beginning(
    trio: Trio, canaries: Canaries, shares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No receipt, but what each server signed at the start, its keys, and what had passed until then."""
    honest = run.outgoing

    def outgoing(one: Any, *of: Any) -> Any:
        if one.index == 1:
            raise TransportError("server 1 ends it", "x")
        return honest(one, *of)

    mixing = Mixing(canaries, 1.0, folder=tmp_path)
    with trio.client(mixing) as client:
        ridden = mixing.ridden(client.model, tiny_feed(), wanted(), trio.config)
        monkeypatch.setattr(run, "outgoing", outgoing)
        with pytest.raises(CanaryError, match=r"the run of a canary failed: .*server 1 ends it"):
            mixing.probe(client, ridden)
        monkeypatch.undo()
    case = read_case(mixing.files[0], shares, OWNER, trio.signers)
    assert case.evidence.receipts == (None, None, None)
    assert "server 1 ends it" in case.evidence.error
    for told, signer in zip(case.evidence.testimonies, trio.signers, strict=True):
        assert told is not None
        assert is_signed(signer, begun(told.begun), told.at_begin)
    assert verdict_of(mixing.files[0], shares, trio).finding is Finding.NOBODY


def wanted() -> Any:
    from onnxpuma.roles.client.asking import Wanted

    return Wanted(tiny_feed())


def sent_of(client: Client, mixing: Mixing, trio: Trio, opening: bytes) -> Sent:
    """A canary's request, whose answer has come."""
    sent = Sent(opening)
    ridden = mixing.ridden(client.model, tiny_feed(), wanted(), trio.config)
    client.probe(mixing.canaries.every[0], ridden, sent)
    return sent


def test_servers_hand_over_nothing_but_an_opened_canary(
    trio: Trio, canaries: Canaries, tmp_path: Path
) -> None:
    mixing = Mixing(canaries, 0.0, folder=tmp_path)
    with trio.client(mixing) as client:
        sent = sent_of(client, mixing, trio, fresh_opening())
        file, refusals = client.complain(replace(sent, opening=fresh_opening()), tmp_path)
        assert all("does not open the commitment" in why for why in refusals)
        assert [server.testimony for server in read_audit(file).servers] == [b"", b"", b""]
        file, refusals = client.complain(sent, tmp_path)
        assert refusals == ["", "", ""]
        assert all(server.testimony for server in read_audit(file).servers)
        ordinary = Sent(fresh_opening())
        client._tried(replace(wanted(), sent=ordinary))
        _, refusals = client.complain(ordinary, tmp_path)
        assert all(f"no keys of request {ordinary.id.hex()[:8]}" in why for why in refusals)
        client.run(tiny_feed())  # with a commitment that nobody can open
        ordinary.id = client._cluster.latest
        _, refusals = client.complain(ordinary, tmp_path)
        assert all("does not open the commitment" in why for why in refusals)


def test_an_opening_that_comes_too_late(shares: Path, canaries: Canaries, tmp_path: Path) -> None:
    short = Trio(shares, 0.01)
    try:
        mixing = Mixing(canaries, 0.0, folder=tmp_path)
        with short.client(mixing) as client:
            sent = sent_of(client, mixing, short, fresh_opening())
            time.sleep(0.2)
            file, refusals = client.complain(sent, tmp_path)
    finally:
        short.stop()
    assert all(f"no keys of request {sent.id.hex()[:8]}" in why for why in refusals)
    case = read_case(file, shares, OWNER)
    assert case.evidence.refusals.keys() == {0, 1, 2}
    verdict = judge(case.evidence, case.plan, case.interpreters)
    assert verdict.finding is Finding.SILENT
    assert "did not hand over the keys" in str(verdict)


def test_a_server_that_is_silent_is_recorded_with_what_the_others_handed_over(
    shares: Path, canaries: Canaries, tmp_path: Path
) -> None:
    other = Trio(shares, 600.0)
    try:
        mixing = Mixing(canaries, 0.0, folder=tmp_path)
        with other.client(mixing) as client:
            sent = sent_of(client, mixing, other, fresh_opening())
            other.started[2].stopping.set()
            other.started[2].join(20)
            client._cluster.connect_timeout = 3.0
            file, refusals = client.complain(sent, tmp_path)
    finally:
        other.stop()
    assert refusals[:2] == ["", ""]
    assert "no answer from server 2" in refusals[2]
    verdict = verdict_of(file, shares, other)
    assert verdict.finding is Finding.SILENT
    assert verdict.who == 2
    assert "no answer from server 2" in str(verdict)


def test_a_canary_and_an_ordinary_request_have_the_same_form(trio: Trio, canaries: Canaries) -> None:
    """All that servers see of the two: same fields, same lengths, same kinds of values."""
    seen: list[Sent] = []
    mixing = Mixing(canaries, 0.0)
    with trio.client(mixing) as client:
        real = client._tried

        def watched(request: Any) -> Any:
            seen.append(request.sent or Sent())
            return real(replace(request, sent=seen[-1]))

        client._tried = watched  # type: ignore[method-assign]
        client.run(tiny_feed())
        ridden = mixing.ridden(client.model, tiny_feed(), wanted(), trio.config)
        opening = fresh_opening()
        client.probe(canaries.every[0], ridden, Sent(opening))
    one, other = seen
    assert other.body.commitment == commitment_of(opening)
    assert len(one.body.commitment) == len(other.body.commitment) == 32
    assert one.body.commitment != other.body.commitment
    plain = [wire_pb2.Request.FromString(sent.body.SerializeToString()) for sent in seen]
    for body in plain:
        body.commitment = b""
    assert plain[0] == plain[1]
    assert [len(bytes(b)) for b in one.public] == [len(bytes(b)) for b in other.public]
    for mine, theirs in zip(one.private, other.private, strict=True):
        assert [memoryview(b).nbytes for b in mine] == [memoryview(b).nbytes for b in theirs]
    assert one.public[0] == other.public[0]  # the plan


def test_requests_of_a_client_with_canaries_run_alone(trio: Trio, canaries: Canaries) -> None:
    """Also those that are none, so that no keys open another client's values."""
    alone: list[bool] = []
    real = request_loop.Leader.pick

    def pick(self: Any, able: Any) -> Any:
        batch = real(self, able)
        if batch is not None:
            alone.extend(job.alone for job in batch.present)
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_loop.Leader, "pick", pick)
        with trio.client(Mixing(canaries, 0.0)) as client:
            client.run(tiny_feed())
        with trio.client() as client:
            client.run(tiny_feed())
    assert alone == [True, False]


def test_canaries_that_do_not_fit_are_refused_before_anything_is_sent(
    trio: Trio, canaries: Canaries, tmp_path: Path
) -> None:
    with trio.client(Mixing(canaries, 0.5)) as client:
        assert client.model
        before = client._cluster.latest
        other = {**tiny_feed(), "attention_mask": np.ones((2, 3), np.int64)}
        with pytest.raises(InputError, match=r"no canary fits a request of ids \(2, 3\)"):
            client.run(other)
        with pytest.raises(InputError, match=r"no canary fits a request of ids \(3, 3\)"):
            client.run(tiny_feed(batch=3))
        assert client._cluster.latest == before
    with (
        trio.client(Mixing(replace(canaries, digest="ab" * 32), 0.5)) as client,
        pytest.raises(InputError, match="the canaries are for model abababab"),
    ):
        client.run(tiny_feed())
    with pytest.raises(ConfigError, match=r"rate of canaries is 1\.5"):
        Mixing(canaries, 1.5)


def test_models_and_servers_without_audits(
    model_dir: Path, trio: Trio, canaries: Canaries, hall: Any, feed: dict[str, np.ndarray]
) -> None:
    with pytest.raises(InputError, match="names no owner's key"):
        make_canaries(model_dir, 1, sizes=SIZES)
    off = replace(trio.config, receipts=ReceiptConfig(False))
    with (
        Client(off, trio.client_keys, mixing=Mixing(canaries)) as client,
        pytest.raises(InputError, match="sign no receipts"),
    ):
        client.run(feed)
    for party in range(3):
        hall.start(party, model_dir)
    assert all(thread.ready.wait(30) for thread in hall.started)
    with Client(hall.config, hall.client_keys) as client:
        with pytest.raises(InputError, match="sign no receipts"):
            client._tried(replace(wanted(), commitment=bytes(32)))
        assert client.run(feed).receipt is None
    due = replace(hall.config, parties=trio.config.parties)
    places = zip(hall.config.parties, due.parties, strict=True)
    rows = [replace(place, signing_key=row.signing_key) for place, row in places]
    with (
        Client(replace(due, parties=(rows[0], rows[1], rows[2])), hall.client_keys) as client,
        pytest.raises(ReceiptError, match="server 0 signs no receipts"),
    ):
        client.run(feed)


def test_files_of_others_and_damaged_ones(
    trio: Trio, canaries: Canaries, shares: Path, model_dir: Path, tmp_path: Path
) -> None:
    mixing = Mixing(canaries, 0.0, folder=tmp_path)
    with trio.client(mixing) as client:
        file, _ = client.complain(sent_of(client, mixing, trio, fresh_opening()), tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match=f"the model names {OWNER.public}, this is the key of"):
        read_case(file, shares, OwnerKey.generate())
    with pytest.raises(InputError, match=r"is about model .*, the shares are of"):
        read_case(file, model_dir, OWNER)
    with pytest.raises(ReceiptError, match=r"other signing keys than cluster\.toml lists"):
        read_case(file, shares, OWNER, tuple(reversed(trio.signers)))
    data = file.read_bytes()
    for place in (0, 20, 60, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 4
        file.write_bytes(changed)
        with pytest.raises(InputError, match="or is damaged"):
            read_case(file, shares, OWNER)
    file.write_bytes(data[:-1])
    with pytest.raises(InputError, match="or is damaged"):
        read_case(file, shares, OWNER)


def test_damaged_canaries(canaries: Canaries, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    canaries.write(path)
    data = path.read_bytes()
    for place in (0, len(data) // 3, len(data) // 2, len(data) - 30):
        changed = bytearray(data)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(InputError, match="is no file of canaries, or is damaged"):
            Canaries.read(path)
    with pytest.raises(ConfigError, match="cannot read"):
        Canaries.read(tmp_path / "none.npz")


def test_honest_answers_stay_within_the_tolerance(shares: Path, canaries: Canaries) -> None:
    again = make_canaries(shares, len(canaries.every), feeds=[{**canary.feed} for canary in canaries.every])
    for canary, other in zip(canaries.every, again.every, strict=True):
        assert canaries.difference(canary, other.outputs) is None
    spoiled = {**canaries.every[0].outputs, "y": np.full((2, 8), np.nan)}
    assert "'y' is off by nan" in str(canaries.difference(canaries.every[0], spoiled))
