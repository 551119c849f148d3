"""Canaries ride beside requests at three servers, which cannot tell them apart; misfits are refused."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.config import ReceiptConfig
from onnxpuma.errors import CanaryError, ConfigError, InputError, ReceiptError
from onnxpuma.roles.audit.verdict import Finding
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.local.canaries import make_canaries
from onnxpuma.roles.request.canary_file import Canaries, Canary
from onnxpuma.roles.request.commitment import commitment_of, fresh_opening
from onnxpuma.roles.server import request_loop
from onnxpuma.transport import wire_pb2
from tests.roles.audit.conftest import Trio, verdict_of, wanted
from tests.roles.conftest import tiny_feed

SIZES = {"batch": 2, "sequence": 3}


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
