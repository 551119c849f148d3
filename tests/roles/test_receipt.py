"""Receipts: three honest servers sign alike; whoever lies is found, and the error names who."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxpuma.errors import ConfigError, LockstepError, ReceiptError, RemoteError, TransportError
from onnxpuma.roles.request.receipt import Receipt, begun, canonical
from onnxpuma.roles.server.receipt import LABEL
from onnxpuma.transport.chained import WrappedLink
from onnxpuma.transport.cluster import Answer
from onnxpuma.transport.link import Buffer, Link, Tag, as_bytes
from onnxpuma.transport.signing import SigningKey
from tests.roles.conftest import tiny_feed, tiny_model
from tests.roles.three import Ended, Three

WAYS = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2)]


@pytest.fixture(scope="module")
def three() -> Three:
    return Three(tiny_model(layers=3), tiny_feed())  # each server sends words to both others


@pytest.fixture(scope="module")
def ended(three: Three) -> Ended:
    return three.run()


@pytest.fixture(scope="module")
def receipt(ended: Ended) -> Receipt:
    taken = ended.taken()
    assert taken is not None
    return taken


# ---- honest servers -------------------------------------------------------------------------------------


def test_honest_servers_sign_what_fits_together(three: Three, ended: Ended, receipt: Receipt) -> None:
    assert not ended.errors
    receipt.check(ended.keys)
    said = [signed.statement for signed in receipt.servers]
    assert [statement["name"] for statement in said] == ["p0", "p1", "p2"]
    assert {statement["model"] for statement in said} == {three.model.blueprint.digest}
    assert {statement["plan"] for statement in said} == {three.plan.digest}
    assert receipt.session == (b"s" * 16).hex()
    chains = {tuple(sorted(s[way].items())) for s in said for way in ("sent", "received")}
    assert len(chains) == 6


def test_what_it_costs(three: Three, ended: Ended) -> None:
    """One message of two chains and a signature to each neighbour, and no byte else."""
    without = three.run(signers=[None] * 3)
    for party in range(3):
        more, less = ended.traffic[party], without.traffic[party]
        assert more.messages_sent - less.messages_sent == 2
        assert more.payload_sent - less.payload_sent == 2 * (2 * 32 + 64)


def test_without_signing_keys_there_is_no_receipt(three: Three) -> None:
    ended = three.run(signers=[None] * 3)
    assert ended.taken(signers=None) is None
    with pytest.raises(ReceiptError, match="server 0 sent no receipt"):
        ended.taken()


def test_a_client_that_wants_none_takes_the_answers(ended: Ended) -> None:
    assert ended.taken(signers=None) is None


def test_two_runs_of_one_request_have_nothing_in_common(three: Three, receipt: Receipt) -> None:
    """Codes and chains are under fresh keys and salts: equal inputs and outputs do not show."""
    again = three.run().taken()
    assert again is not None
    for one, two in zip(receipt.servers, again.servers, strict=True):
        for name in ("inputs", "outputs", "sent", "received", "vouched", "keys"):
            assert one.statement[name] != two.statement[name]


# ---- servers that depart --------------------------------------------------------------------------------


class Spoiled(WrappedLink):
    """Changes one bit of message `number` of the run to `peer`, after the sender has taken its digest."""

    def __init__(self, link: Link, peer: int, number: int) -> None:
        super().__init__(link)
        self.peer, self.number, self.seen = peer, number, 0

    def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
        if peer == self.peer and tag.label != LABEL and any(len(as_bytes(buffer)) for buffer in buffers):
            if self.seen == self.number:
                changed = [bytearray(as_bytes(buffer)) for buffer in buffers]
                next(buffer for buffer in changed if buffer)[0] ^= 1
                buffers = changed
            self.seen += 1
        super().send(peer, tag, buffers)


@pytest.mark.parametrize(("sender", "receiver"), WAYS)
def test_a_word_that_changes_on_its_way(three: Three, sender: int, receiver: int) -> None:
    """The chains of the two ends differ: both keep their terms, so no output can be opened, and say so.

    The third server fails as well, unless it was done before it heard of it.
    """
    ended = three.run(lambda link: Spoiled(link, receiver, 1) if link.party == sender else link)
    third = 3 - sender - receiver
    assert set(ended.answers) <= {third}
    named = f"what party {sender} sent is not what party {receiver} received"
    for error in ended.errors.values():
        assert named in str(error)
    assert third in ended.answers or isinstance(ended.errors[third], RemoteError)


@pytest.mark.parametrize("sent", [True, False])
def test_a_server_that_lies_about_its_chain(three: Three, sent: bool) -> None:
    """Party 1 compares another chain than that of what passed."""

    class Lying(WrappedLink):
        def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
            if tag.label == "receipts" and peer == 2:
                buffers = [bytes(32), *buffers[1:]] if sent else [buffers[0], bytes(32), buffers[2]]
            super().send(peer, tag, buffers)

    ended = three.run(lambda link: Lying(link) if link.party == 1 else link)
    assert not ended.answers.get(2)
    named = "what party 1 sent is not what party 2" if sent else "what party 2 sent is not what party 1"
    assert named in str(ended.errors[2])


def test_a_server_that_does_not_sign_its_chains(three: Three) -> None:
    """Its neighbours have compared them with their own, and keep their terms nevertheless."""

    class Unsigned(WrappedLink):
        def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
            super().send(peer, tag, [*buffers[:2], bytes(64)] if tag.label == "receipts" else buffers)

    ended = three.run(lambda link: Unsigned(link) if link.party == 1 else link)
    assert not {0, 2} & set(ended.answers)
    told = [str(ended.errors[party]) for party in (0, 2)]
    assert any("party 1 did not sign what passed between it and party" in text for text in told)


def test_a_malformed_comparison_is_a_difference(three: Three) -> None:
    class Short(WrappedLink):
        def send(self, peer: int, tag: Tag, buffers: Sequence[Buffer]) -> None:
            super().send(peer, tag, buffers[:1] if tag.label == "receipts" else buffers)

    ended = three.run(lambda link: Short(link) if link.party == 0 else link)
    assert isinstance(ended.errors[1], TransportError)
    assert not {1, 2} & set(ended.answers)


def test_servers_that_do_not_agree_on_receipts(three: Three) -> None:
    ended = three.run(signers=[*three.signers[:2], None])
    assert not ended.answers
    texts = [str(error) for error in ended.errors.values() if isinstance(error, LockstepError)]
    assert texts
    assert any("(opening)" in text and "(opening with receipts)" in text for text in texts)


# ---- servers that sign something else -------------------------------------------------------------------


def altered(ended: Ended, party: int, change: Callable[[dict[str, Any]], None]) -> list[Answer]:
    """The answers, with that of `party` changed by `change` in the wire form of its receipt."""
    answers = [ended.answers[i] for i in range(3)]
    row = json.loads(bytes(answers[party].buffers[-1]))
    change(row)
    changed = memoryview(json.dumps(row).encode())
    answers[party] = replace(answers[party], buffers=[*answers[party].buffers[:-1], changed])
    return answers


def signed_again(three: Three, who: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    """The server signs other things, rightly, with its own key."""

    def change(row: dict[str, Any]) -> None:
        row["statement"].update(changes)
        key = three.signing[who]
        row["begun"] = key.sign(begun(row["statement"])).hex()
        row["ended"] = key.sign(b"end" + canonical(row["statement"])).hex()

    return change


def flipped(name: str) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        text = row[name]
        row[name] = ("1" if text[0] == "0" else "0") + text[1:]

    return change


@pytest.mark.parametrize("party", [0, 1, 2])
@pytest.mark.parametrize("name", ["begun", "ended"])
def test_a_wrong_signature(ended: Ended, party: int, name: str) -> None:
    with pytest.raises(ReceiptError, match=f"server {party} "):
        ended.taken(answers=altered(ended, party, flipped(name)))


@pytest.mark.parametrize("name", ["sent", "received", "vouched"])
def test_another_chain_rightly_signed(three: Three, ended: Ended, name: str) -> None:
    """It has signed the true chain to its neighbour, which shows that signature."""
    other = {"0": "ab" * 32, "2": "cd" * 32}
    named = "server 0 and server 1 are at odds about what passed between them: server 1 signed it one way"
    with pytest.raises(ReceiptError, match=named):
        ended.taken(answers=altered(ended, 1, signed_again(three, 1, **{name: other})))


def test_another_session_key_rightly_signed(three: Three, ended: Ended) -> None:
    keys = {"1": "ab" * 32, "2": "cd" * 32}
    with pytest.raises(ReceiptError, match="server 0 and server 1 name different keys"):
        ended.taken(answers=altered(ended, 1, signed_again(three, 1, keys=keys)))


def test_keys_that_were_not_signed_at_the_start(three: Three, ended: Ended) -> None:
    def change(row: dict[str, Any]) -> None:
        row["statement"]["began"] = "2000-01-01T00:00:00.000+00:00"
        row["ended"] = three.signing[2].sign(b"end" + canonical(row["statement"])).hex()

    with pytest.raises(ReceiptError, match="server 2 did not sign at the start"):
        ended.taken(answers=altered(ended, 2, change))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("session", "ab" * 16, "server 2 and the two others signed different things: 'session'"),
        ("model", "ab" * 32, "server 2 and the two others signed different things: 'model'"),
        ("jobs", ["ab" * 32], "server 2 and the two others signed different things: 'jobs'"),
        ("inputs", "ab" * 32, "server 2 signed for another input than"),
        ("outputs", "ab" * 32, "server 2 signed for another output than"),
        ("party", 1, "the receipt of server 2 is not of the form"),
        ("plan", 5, "the receipt of server 2 is not of the form"),
        ("plan", "xy", "the receipt of server 2 is not of the form"),
        ("more", "ab", "the receipt of server 2 is not of the form"),
    ],
)
def test_another_fact_rightly_signed(
    three: Three, ended: Ended, name: str, value: object, message: str
) -> None:
    with pytest.raises(ReceiptError, match=message):
        ended.taken(answers=altered(ended, 2, signed_again(three, 2, **{name: value})))


def test_all_three_sign_for_another_request(three: Three, ended: Ended) -> None:
    """The jobs of the run do not include the request that they name."""
    answers = [ended.answers[i] for i in range(3)]
    for party in range(3):
        answers[party] = altered(ended, party, signed_again(three, party, request="ab" * 32))[party]
    with pytest.raises(ReceiptError, match="server 0 signed for a run that does not serve this request"):
        ended.taken(answers=answers)


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_receipt_of_another_run(three: Three, ended: Ended, party: int) -> None:
    other = three.run(session=b"t" * 16)
    answers = [ended.answers[i] for i in range(3)]
    answers[party] = replace(
        answers[party], buffers=[*answers[party].buffers[:-1], other.answers[party].buffers[-1]]
    )
    with pytest.raises(ReceiptError, match=f"server {party} and the two others signed different things"):
        ended.taken(answers=answers)
    with pytest.raises(ReceiptError, match="signed for another input than this client's"):
        ended.taken(answers=[other.answers[i] for i in range(3)])


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_term_that_changed_after_it_was_signed(ended: Ended, party: int) -> None:
    answers = [ended.answers[i] for i in range(3)]
    term = bytearray(answers[party].buffers[0])
    term[-1] ^= 1
    answers[party] = replace(answers[party], buffers=[memoryview(term), *answers[party].buffers[1:]])
    with pytest.raises(ReceiptError, match=f"server {party} signed for another output than this client's"):
        ended.taken(answers=answers)


def test_a_server_that_says_it_was_given_something_else(ended: Ended) -> None:
    private = [[bytearray(as_bytes(buffer)) for buffer in own] for own in ended.private]
    private[1][0][0] ^= 1
    with pytest.raises(ReceiptError, match="server 1 signed for another input than this client's"):
        ended.taken(private=private)


def test_a_key_that_is_not_in_cluster_toml(ended: Ended, receipt: Receipt) -> None:
    keys = [*ended.keys[:2], SigningKey.generate().public]
    with pytest.raises(ReceiptError, match=r"the receipt of server 2 has changed .* or its signing key"):
        ended.taken(signers=keys)
    with pytest.raises(ReceiptError, match=r"the receipt of server 2 is signed with .* cluster.toml lists"):
        receipt.check(keys)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"salt": 5}', b"\xff", b"[" * 100_000])
def test_a_malformed_receipt(ended: Ended, data: bytes) -> None:
    answers = [ended.answers[i] for i in range(3)]
    answers[1] = replace(answers[1], buffers=[*answers[1].buffers[:-1], memoryview(data)])
    with pytest.raises(ReceiptError, match="server 1 sent a malformed receipt"):
        ended.taken(answers=answers)


# ---- the file -------------------------------------------------------------------------------------------


def test_the_file_is_read_again(receipt: Receipt, tmp_path: Path) -> None:
    receipt.write(tmp_path / "r.json")
    assert Receipt.read(tmp_path / "r.json") == receipt
    assert (tmp_path / "r.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="cannot write"):
        receipt.write(tmp_path / "no" / "r.json")
    with pytest.raises(ConfigError, match="cannot read"):
        Receipt.read(tmp_path / "none.json")


def test_any_changed_byte_of_the_file_is_found(receipt: Receipt, tmp_path: Path) -> None:
    """One byte in 29, so that every kind of place is met, and every byte of the first line or two."""
    path, data = tmp_path / "r.json", receipt.render().encode()
    places = sorted({*range(40), *range(0, len(data), 29), len(data) - 1})
    for place in places:
        changed = bytearray(data)
        changed[place] = ord("0") if changed[place] != ord("0") else ord("1")
        path.write_bytes(changed)
        with pytest.raises(ReceiptError):
            Receipt.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + " ", "changed after it was written"),
        (
            lambda text: text.replace('"name": "p1"', '"name":  "p1"'),
            "was changed after it was written, at line",
        ),
        (lambda text: text.replace('"name": "p1"', '"name": "p2"'), "the receipt of server 1 has changed"),
        (lambda text: text.replace("ed25519:", "ed25518:", 1), "server 0: key is not the public half"),
        (lambda text: '{"receipts": []}\n', "has 0 receipts"),
        (lambda text: text[:-40], "is not a receipt, or is damaged"),
    ],
)
def test_what_changed_is_named(
    receipt: Receipt, tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "r.json"
    path.write_text(change(receipt.render()))
    with pytest.raises(ReceiptError, match=message):
        Receipt.read(path)
