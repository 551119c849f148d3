"""Damaged files: a server notices one wrong bit anywhere in its files before it serves anything."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnxpuma.errors import PlanError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.policy_file import digest_of, written
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.network import told
from onnxpuma.roles.server.identity import Identity, shared_component
from onnxpuma.roles.shared.model import INDEX, SharedModel
from onnxpuma.roles.shared.weights import load_weights, open_shares, read_weights
from onnxpuma.transport import wire_pb2

Until = Callable[..., None]


@pytest.fixture
def copied(model_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copied"
    shutil.copytree(model_dir, folder)
    return folder


def unnoticed(path: Path, bits: Iterable[int], read: Callable[[], Any]) -> list[int]:
    """The bits among these that may flip without `read` raising PlanError; restores the file."""
    content = path.read_bytes()
    found = []
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            read()
        except PlanError:
            continue
        found.append(bit)
    path.write_bytes(content)
    return found


def one_of_each_byte(length: int, first: int = 0) -> list[int]:
    return [8 * byte + (byte + first) % 8 for byte in range(length)]


def head_length(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_bit_of_each_byte_of_the_head_of_a_share_file(party: int, copied: Path) -> None:
    """Keys, seals, dealing, digest, names, shapes, padding, and the checksum itself."""
    path, model = copied / f"party{party}.safetensors", SharedModel.read(copied)
    bits = one_of_each_byte(head_length(path), party)
    assert not unnoticed(path, bits, lambda: open_shares(copied, party, model))
    load_weights(copied, party, model)


@pytest.mark.slow
@pytest.mark.parametrize("party", [0, 1, 2])
def test_every_bit_of_the_head_of_a_share_file(party: int, copied: Path) -> None:
    path, model = copied / f"party{party}.safetensors", SharedModel.read(copied)
    bits = range(8 * head_length(path))
    assert not unnoticed(path, bits, lambda: open_shares(copied, party, model))


@pytest.mark.parametrize("party", [1, 2])
def test_bits_of_the_words_of_a_share_file(party: int, copied: Path) -> None:
    path, model = copied / f"party{party}.safetensors", SharedModel.read(copied)
    first, last = 8 * head_length(path), 8 * path.stat().st_size
    bits = [first, last - 1, *range(first + 5, last, 997)]
    assert not unnoticed(path, bits, lambda: load_weights(copied, party, model))
    for change in (b"", path.read_bytes() + b"\0", path.read_bytes()[:-1]):
        shutil.copy(path, copied / "whole")
        path.write_bytes(change)
        with pytest.raises(PlanError, match="is damaged"):
            load_weights(copied, party, model)
        shutil.copy(copied / "whole", path)


@pytest.mark.parametrize("digit", ["key0", "key1", "dealing", "seal0", "seal2", "words", "digest"])
def test_one_hex_digit(digit: str, copied: Path) -> None:
    """An upper-case letter counts as well: the number is the same, the file differs."""
    party = 1 if digit in ("seal2", "words") else 0
    path, model = copied / f"party{party}.safetensors", SharedModel.read(copied)
    content = path.read_bytes()
    place = content.index(f'"{digit}":"'.encode()) + len(digit) + 4
    for old, new in ((rb"[0-9a-e]", lambda c: bytes([c[0] + 1])), (rb"[a-f]", bytes.upper)):
        found = re.compile(old).search(content, place)
        assert found
        path.write_bytes(content[: found.start()] + new(found[0]) + content[found.end() :])
        with pytest.raises(PlanError):
            load_weights(copied, party, model)


@pytest.mark.parametrize("name", ["policy.json", "skeleton.onnx"])
def test_every_byte_of_the_public_part(name: str, copied: Path) -> None:
    path = copied / name
    assert not unnoticed(path, one_of_each_byte(path.stat().st_size), lambda: Blueprint.read(copied))
    SharedModel.read(copied)


def test_another_order_or_another_spelling_of_the_policy_is_damage(copied: Path) -> None:
    """The policy's order is the order in which the weights are stored."""
    path = copied / "policy.json"
    policy = json.loads(path.read_text())
    order = {**policy, "visibility": dict(reversed(policy["visibility"].items()))}
    for text in (json.dumps(policy), json.dumps(order, indent=1) + "\n", path.read_text() + "\n", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(PlanError):
            Blueprint.read(copied)


def test_a_policy_without_a_key_whose_digest_fits(copied: Path) -> None:
    path = copied / "policy.json"
    policy = json.loads(path.read_text())
    for key in ("visibility", "reasons", "public_inputs", "recognised", "derived", "ranges"):
        less = {n: v for n, v in policy.items() if n != key}
        digest = digest_of((copied / "skeleton.onnx").read_bytes(), less)
        path.write_bytes(written({**less, "digest": digest}))
        with pytest.raises(PlanError, match=f"'{key}' is missing"):
            Blueprint.read(copied)


def test_every_byte_of_the_index_of_several_graphs(model_path: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    model = onnx.load(model_path)
    onnx.save(model, models / "encoder_model.onnx")
    del model.graph.output[1:]
    onnx.save(model, models / "decoder_model.onnx")
    out = tmp_path / "out"
    share_model(models, out)
    bits = one_of_each_byte((out / INDEX).stat().st_size)[::7]
    assert not unnoticed(out / INDEX, bits, lambda: SharedModel.read(out))
    SharedModel.read(out)


# ---- two servers with sound files that do not fit together ---------------------------------------------


def rewritten(path: Path, **changes: str) -> None:
    """Other metadata with a matching checksum: no damaged disk does this, but a mistake may."""
    content = path.read_bytes()
    end = head_length(path)
    head = json.loads(content[8:end])
    head["__metadata__"] |= {**changes, "checksum": "0" * 64}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    prefix = len(text).to_bytes(8, "little")
    checksum = hashlib.sha256(prefix + text).hexdigest()
    path.write_bytes(prefix + text.replace(b"0" * 64, checksum.encode(), 1) + content[end:])


@pytest.mark.parametrize(
    ("party", "field", "peer", "component"),
    [(0, "key0", 2, 0), (0, "key1", 1, 1), (1, "key1", 0, 1), (2, "key0", 1, 0), (2, "seal2", 1, 2)],
)
def test_what_two_servers_hold_is_compared(
    party: int, field: str, peer: int, component: int, copied: Path
) -> None:
    if (party, field) == (2, "key0"):
        peer = 0
    rewritten(copied / f"party{party}.safetensors", **{field: "ab" * (32 if "seal" in field else 16)})
    ours = identities(copied)
    for here, there in ((party, peer), (peer, party)):
        error = ours[here].difference(there, greeting(ours[there], here))
        assert isinstance(error, PlanError)
        assert f"component {component} of the weights" in error.message
        assert f"party {here}" in error.message
        assert f"party {there}" in error.message
        assert "copy the share files again" in error.hint
    third = 3 - party - peer
    for other in (party, peer):
        assert ours[third].difference(other, greeting(ours[other], third)) is None


def identities(folder: Path) -> list[Identity]:
    model = SharedModel.read(folder)
    found = []
    for party in range(3):
        shares = open_shares(folder, party, model)
        read_weights(shares, party, model)
        found.append(Identity(party, "1", model.digest, shares.dealing, shares.contents, shares.seals))
    return found


def greeting(sender: Identity, receiver: int) -> wire_pb2.Hello:
    return wire_pb2.Hello(
        version="1",
        model_digest=sender.model_digest,
        party=sender.party,
        components=sender.code(sender.party, receiver),
        network=told(sender.network),
    )


def test_a_code_is_for_one_receiver_under_a_key_that_the_third_server_lacks(model_dir: Path) -> None:
    ours = identities(model_dir)
    codes = {(a, b): ours[a].code(a, b) for a in range(3) for b in range(3) if a != b}
    assert len(set(codes.values())) == 6
    for (a, b), code in codes.items():
        assert ours[b].code(a, b) == code
        assert shared_component(a, b) == shared_component(b, a)
        third = 3 - a - b
        assert shared_component(a, b) not in ours[third].seals
        assert code not in ours[a].contents.values()
        assert ours[b].difference(a, greeting(ours[a], b)) is None
        stolen = greeting(ours[a], b)
        assert stolen.components == code
        assert ours[third].difference(a, stolen)
    assert not any(word in repr(ours[0]) for word in ("seals", "contents"))


def test_servers_with_a_component_that_differs_do_not_become_ready(
    hall: Any, copied: Path, model_dir: Path, feed: Any
) -> None:
    """Both holders end with an error that names both; the third waits, and the right file mends it."""
    rewritten(copied / "party0.safetensors", key0="ab" * 16)
    threads = [hall.start(0, copied), hall.start(1, model_dir), hall.start(2, model_dir)]
    for party, other in ((0, 2), (2, 0)):
        error = threads[party].ended()
        assert isinstance(error, PlanError)
        assert error.message == (
            f"component 0 of the weights is not the same at party {other} and party {party}"
        )
        assert "copy the share files again" in error.hint
    assert not any(thread.ready.is_set() for thread in (threads[0], threads[2]))
    assert threads[1].is_alive()
    again = [hall.start(0, model_dir), threads[1], hall.start(2, model_dir)]
    assert all(thread.ready.wait(10) for thread in again)
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed).outputs["y"].shape == (2, 8)


def test_a_server_that_comes_back_with_a_damaged_file_takes_part_in_nothing(
    hall: Any, copied: Path, model_dir: Path, feed: Any, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """The two others serve again once it has the right file; until then they tell clients why they cannot."""
    rewritten(copied / "party2.safetensors", key0="ab" * 16)
    threads = [hall.start(party, model_dir) for party in range(3)]
    assert all(thread.ready.wait(10) for thread in threads)
    threads[2].stopping.set()
    threads[2].ended()
    caplog.set_level(logging.ERROR, "onnxpuma.roles")
    assert isinstance(hall.start(2, copied).ended(), PlanError)
    until(lambda: any("is not the same at party 2 and party 0" in r.getMessage() for r in caplog.records))
    assert all(thread.is_alive() for thread in threads[:2])
    last = hall.start(2, model_dir)
    assert last.ready.wait(10)
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed).outputs["y"].shape == (2, 8)
