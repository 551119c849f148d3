"""What servers hand over of a canary, and whom the owner's judge names."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxpuma.errors import CanaryError, ConfigError, InputError, ReceiptError, TransportError
from onnxpuma.roles.audit.judge import judge
from onnxpuma.roles.audit.reading import read_case
from onnxpuma.roles.audit.verdict import Finding
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.mixing import Mixing
from onnxpuma.roles.request.audit_file import read_audit, write_audit
from onnxpuma.roles.request.canary_file import Canaries
from onnxpuma.roles.request.commitment import fresh_opening
from onnxpuma.roles.request.receipt import begun
from onnxpuma.roles.server import run
from onnxpuma.transport.sealing import OwnerKey
from onnxpuma.transport.signing import is_signed
from tests.roles.audit.conftest import OWNER, Trio, sent_of, verdict_of, wanted
from tests.roles.conftest import tiny_feed


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
