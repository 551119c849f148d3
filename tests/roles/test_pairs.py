"""Sound files that do not belong together: a server refuses them, and two servers refuse each other."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxpuma.errors import PlanError
from onnxpuma.roles.client.client import Client
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.network import told
from onnxpuma.roles.server.holdings import warn_of_strange_files
from onnxpuma.roles.server.identity import Identity, Part, shared_component
from onnxpuma.roles.shared.keys_file import sealed
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.weights import load_weights, open_shares
from onnxpuma.transport import wire_pb2

Until = Callable[..., None]


@pytest.fixture
def copied(model_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copied"
    shutil.copytree(model_dir, folder)
    return folder


@pytest.fixture
def again(model_path: Path, tmp_path: Path) -> Path:
    """The same model from another call of `share`."""
    share_model(model_path, tmp_path / "again")
    return tmp_path / "again"


# ---- at one server --------------------------------------------------------------------------------------


def test_a_missing_file_is_named(copied: Path) -> None:
    model = SharedModel.read(copied)
    (copied / "words.safetensors").unlink()
    load_weights(copied, 0, model)
    for party in (1, 2):
        with pytest.raises(PlanError, match=r"there is no file .*words\.safetensors") as caught:
            open_shares(copied, party, model)
        assert "parties 1 and 2 need it" in caught.value.hint
    for party in range(3):
        (copied / f"party{party}.keys").unlink()
        with pytest.raises(PlanError, match=rf"there is no file .*party{party}\.keys") as caught:
            open_shares(copied, party, model)
        assert "copy it from the model's owner" in caught.value.hint


@pytest.mark.parametrize("party", [0, 1, 2])
def test_the_keys_of_another_party(party: int, copied: Path, model_dir: Path) -> None:
    for other in {0, 1, 2} - {party}:
        shutil.copy(model_dir / f"party{other}.keys", copied / f"party{party}.keys")
        with pytest.raises(PlanError, match=f"holds the keys of party {other}, this is party {party}"):
            open_shares(copied, party, SharedModel.read(copied))


@pytest.mark.parametrize("party", [1, 2])
@pytest.mark.parametrize("file", ["words.safetensors", "party{party}.keys"])
def test_words_and_keys_of_different_sharings(file: str, party: int, copied: Path, again: Path) -> None:
    name = file.format(party=party)
    shutil.copy(again / name, copied / name)
    with pytest.raises(PlanError, match="come from different calls of `onnxpuma share`") as caught:
        open_shares(copied, party, SharedModel.read(copied))
    assert "from one and the same folder" in caught.value.hint


def test_words_of_another_sharing_under_this_one_s_head(copied: Path, again: Path) -> None:
    """The tags notice what the heads hide."""
    ours, theirs = (folder / "words.safetensors" for folder in (copied, again))
    words = theirs.read_bytes()
    head = ours.read_bytes()[: 8 + int.from_bytes(words[:8], "little")]
    ours.write_bytes(head + words[len(head) :])
    shares = open_shares(copied, 1, SharedModel.read(copied))
    for name in shares.tensors:
        with pytest.raises(PlanError, match="are not those that its owner wrote"):
            shares.words(name)


def test_two_arrays_in_each_other_s_place(model_dir: Path, copied: Path) -> None:
    """A tag belongs to one array: the right words of another one do not have it."""
    path = copied / "words.safetensors"
    shares = open_shares(model_dir, 2, SharedModel.read(model_dir))
    bias, kernel = (shares.source(name) for name in ("bias", "kernel"))
    part = bytearray(bias.size)
    kernel.read(0, memoryview(part))
    content = bytearray(path.read_bytes())
    place = bias.offset
    content[place : place + bias.size] = part
    path.write_bytes(content)
    with pytest.raises(PlanError, match="the words of 'bias'"):
        load_weights(copied, 2, SharedModel.read(copied))


@pytest.mark.parametrize("party", [0, 1, 2])
def test_files_of_another_model(party: int, long_model_dir: Path, copied: Path) -> None:
    model = SharedModel.read(copied)
    with pytest.raises(PlanError, match="another model than the skeleton"):
        load_weights(long_model_dir, party, model)
    if party:
        shutil.copy(long_model_dir / "words.safetensors", copied)
        with pytest.raises(PlanError, match=r"words\.safetensors belongs to another model than the skeleton"):
            open_shares(copied, party, model)


def test_files_of_another_version(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SharedModel.read(copied)
    monkeypatch.setattr("onnxpuma.roles.shared.keys_file.FILES", "99.0")
    with pytest.raises(PlanError, match=r"made with onnxpuma .*, this reads the files of 99\.0"):
        load_weights(copied, 0, model)


def test_keys_in_place_of_words_and_words_in_place_of_keys(copied: Path) -> None:
    model = SharedModel.read(copied)
    words, keys = ((copied / name).read_bytes() for name in ("words.safetensors", "party1.keys"))
    (copied / "words.safetensors").write_bytes(keys)
    with pytest.raises(PlanError, match=r"words\.safetensors is damaged"):
        open_shares(copied, 1, model)
    (copied / "party1.keys").write_bytes(words)
    with pytest.raises(PlanError, match=r"party1\.keys is damaged"):
        open_shares(copied, 1, model)


@pytest.mark.parametrize(
    ("place", "value"),
    [(("keys", "1"), "ab"), (("seals", "2"), "zz" * 32), (("secret",), "ab" * 31), (("dealing",), "ab")],
)
def test_keys_that_are_none(place: tuple[str, ...], value: str, copied: Path) -> None:
    rewritten(copied / "party1.keys", *place, value=value)
    with pytest.raises(PlanError, match="lacks keys that this party holds"):
        open_shares(copied, 1, SharedModel.read(copied))


@pytest.mark.parametrize("party", [0, 1, 2])
def test_a_server_warns_of_files_that_it_must_not_have(
    party: int, hall: Any, model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Parties on one host may use one folder."""
    rows = list(hall.config.parties)
    warn_of_strange_files({"": model_dir}, party, hall.config)
    assert not caplog.records
    rows[2] = replace(rows[2], host="localhost")
    config = replace(hall.config, parties=tuple(rows))
    warn_of_strange_files({"": model_dir}, party, config)
    others = " and ".join(f"party{other}.keys" for other in range(3) if other != party)
    assert f"party {party} must not have {others}{'' if party else ' and words.safetensors'}:" in caplog.text


# ---- at two servers -------------------------------------------------------------------------------------


def rewritten(path: Path, *place: str, value: str) -> None:
    """A file of keys with another entry at this place, and a checksum that matches: no damaged disk does
    this, but a mistake may."""
    entries = json.loads(path.read_bytes())
    del entries["checksum"]
    inner = entries
    for name in place[:-1]:
        inner = inner[name]
    assert inner[place[-1]] != value
    inner[place[-1]] = value
    path.write_bytes(sealed(entries))


@pytest.mark.parametrize(
    ("party", "place", "peer", "component"),
    [
        (0, ("keys", "0"), 2, 0),
        (0, ("keys", "1"), 1, 1),
        (1, ("keys", "1"), 0, 1),
        (2, ("keys", "0"), 0, 0),
        (2, ("seals", "2"), 1, 2),
        (1, ("secret",), 2, 2),
        (2, ("tags", "kernel"), 1, 2),
    ],
)
def test_what_two_servers_hold_is_compared(
    party: int, place: tuple[str, ...], peer: int, component: int, copied: Path
) -> None:
    """Without a word read: of words the tags are compared, and their secret."""
    long = {"keys": 16, "tags": 16, "seals": 32, "secret": 32}[place[0]]
    rewritten(copied / f"party{party}.keys", *place, value="ab" * long)
    ours = identities(copied)
    for here, there in ((party, peer), (peer, party)):
        error = ours[here].difference(there, greeting(ours[there], here))
        assert isinstance(error, PlanError)
        assert f"component {component} of the weights" in error.message
        assert f"party {here}" in error.message
        assert f"party {there}" in error.message
        assert "copy the key files again" in error.hint
    third = 3 - party - peer
    for other in (party, peer):
        assert ours[third].difference(other, greeting(ours[other], third)) is None


def identities(folder: Path) -> list[Identity]:
    model = SharedModel.read(folder)
    found = []
    for party in range(3):
        shares = open_shares(folder, party, model)
        shares.close()
        part = Part(model.digest, shares.dealing, shares.contents, shares.seals)
        found.append(Identity(party, "1", {"": part}))
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
        assert shared_component(a, b) not in ours[third].parts[""].seals
        assert code not in ours[a].parts[""].contents.values()
        assert ours[b].difference(a, greeting(ours[a], b)) is None
        stolen = greeting(ours[a], b)
        assert stolen.components == code
        assert ours[third].difference(a, stolen)
    assert not any(word in repr(ours[0]) for word in ("seals", "contents"))


def test_servers_with_a_component_that_differs_do_not_become_ready(
    hall: Any, copied: Path, model_dir: Path, feed: Any
) -> None:
    """Both holders end with an error that names both; the third waits, and the right file mends it."""
    rewritten(copied / "party0.keys", "keys", "0", value="ab" * 16)
    threads = [hall.start(0, copied), hall.start(1, model_dir), hall.start(2, model_dir)]
    for party, other in ((0, 2), (2, 0)):
        error = threads[party].ended()
        assert isinstance(error, PlanError)
        assert error.message == (
            f"component 0 of the weights is not the same at party {other} and party {party}"
        )
        assert "copy the key files again" in error.hint
    assert not any(thread.ready.is_set() for thread in (threads[0], threads[2]))
    assert threads[1].is_alive()
    again = [hall.start(0, model_dir), threads[1], hall.start(2, model_dir)]
    assert all(thread.ready.wait(60) for thread in again)
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed).outputs["y"].shape == (2, 8)


def test_a_server_that_comes_back_with_a_damaged_file_takes_part_in_nothing(
    hall: Any, copied: Path, model_dir: Path, feed: Any, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """The two others serve again once it has the right file; until then they tell clients why they cannot."""
    rewritten(copied / "party2.keys", "keys", "0", value="ab" * 16)
    threads = [hall.start(party, model_dir) for party in range(3)]
    assert all(thread.ready.wait(60) for thread in threads)
    threads[2].stopping.set()
    threads[2].ended()
    caplog.set_level(logging.ERROR, "onnxpuma.roles")
    assert isinstance(hall.start(2, copied).ended(), PlanError)
    until(lambda: any("is not the same at party 2 and party 0" in r.getMessage() for r in caplog.records))
    assert all(thread.is_alive() for thread in threads[:2])
    last = hall.start(2, model_dir)
    assert last.ready.wait(60)
    with Client(hall.config, hall.client_keys) as client:
        assert client.run(feed).outputs["y"].shape == (2, 8)
