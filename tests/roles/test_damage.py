"""Damaged files: a server notices one wrong bit anywhere in its files before it serves anything."""

from __future__ import annotations

import json
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
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.model import INDEX, SharedModel
from onnxpuma.roles.shared.weights import load_weights, open_shares


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
def test_a_bit_of_each_byte_of_a_file_of_keys(party: int, copied: Path) -> None:
    """Keys, seals, dealing, digest, tags and their secret, layout, and the checksum itself."""
    path, model = copied / f"party{party}.keys", SharedModel.read(copied)
    bits = one_of_each_byte(path.stat().st_size, party)
    assert not unnoticed(path, bits, lambda: open_shares(copied, party, model))
    load_weights(copied, party, model)


@pytest.mark.slow
@pytest.mark.parametrize("party", [0, 1, 2])
def test_every_bit_of_a_file_of_keys(party: int, copied: Path) -> None:
    path, model = copied / f"party{party}.keys", SharedModel.read(copied)
    bits = range(8 * path.stat().st_size)
    assert not unnoticed(path, bits, lambda: open_shares(copied, party, model))


@pytest.mark.parametrize("party", [1, 2])
def test_a_bit_of_each_byte_of_the_head_of_the_words(party: int, copied: Path) -> None:
    """Digest, dealing, names, shapes, padding, and the checksum itself. Each party reads every other byte."""
    path, model = copied / "words.safetensors", SharedModel.read(copied)
    bits = one_of_each_byte(head_length(path), party)[party - 1 :: 2]
    assert not unnoticed(path, bits, lambda: open_shares(copied, party, model))


@pytest.mark.slow
def test_every_bit_of_the_head_of_the_words(copied: Path) -> None:
    path, model = copied / "words.safetensors", SharedModel.read(copied)
    assert not unnoticed(path, range(8 * head_length(path)), lambda: open_shares(copied, 1, model))


@pytest.mark.parametrize("party", [1, 2])
def test_bits_of_the_words(party: int, copied: Path) -> None:
    path, model = copied / "words.safetensors", SharedModel.read(copied)
    first, last = 8 * head_length(path), 8 * path.stat().st_size
    bits = [first, last - 1, *range(first + 5, last, 997)]
    assert not unnoticed(path, bits, lambda: load_weights(copied, party, model))


def test_the_array_that_is_damaged_is_named_and_the_others_are_read(copied: Path) -> None:
    path, model = copied / "words.safetensors", SharedModel.read(copied)
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x80
    path.write_bytes(content)
    shares = open_shares(copied, 1, model)
    *sound, last = shares.tensors
    for name in sound:
        assert shares.words(name).shape == shares.tensors[name][0]
    with pytest.raises(PlanError, match=rf"words\.safetensors is damaged: the words of '{last}'") as caught:
        shares.words(last)
    assert "copy it again" in caught.value.hint


@pytest.mark.parametrize("party", [0, 1, 2])
@pytest.mark.parametrize("damage", ["nothing", "a byte less", "a byte more", "half", "noise", "zip", "list"])
def test_a_file_of_another_length_or_kind(damage: str, party: int, copied: Path) -> None:
    model = SharedModel.read(copied)
    for path in (copied / f"party{party}.keys", *([copied / "words.safetensors"] if party else [])):
        content = path.read_bytes()
        changed = {
            "nothing": b"",
            "a byte less": content[:-1],
            "a byte more": content + b"\0",
            "half": content[: len(content) // 2],
            "noise": b"\xff" * 100,
            "zip": b"PK\x03\x04zzzz" + content[8:],
            "list": b"[" * 100_000,
        }
        path.write_bytes(changed[damage])
        with pytest.raises(PlanError, match=rf"{path.name} is damaged") as caught:
            open_shares(copied, party, model)
        assert "copy it again" in caught.value.hint
        path.write_bytes(content)
    open_shares(copied, party, model)


def test_a_file_that_is_cut_short_is_noticed_before_a_word_is_read(copied: Path) -> None:
    path, model = copied / "words.safetensors", SharedModel.read(copied)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 5)
    with pytest.raises(PlanError, match=rf"is cut short: {size - 5:,} bytes, {size:,} are due"):
        open_shares(copied, 2, model)


def test_a_file_that_is_cut_short_while_it_is_read(copied: Path) -> None:
    path, model = copied / "words.safetensors", SharedModel.read(copied)
    shares = open_shares(copied, 2, model)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    *_, last = shares.tensors
    with pytest.raises(PlanError, match="was cut short while it was in use"):
        shares.words(last)


@pytest.mark.parametrize("party", [0, 1, 2])
def test_one_hex_digit_of_each_number(party: int, copied: Path) -> None:
    """An upper-case letter counts as well: the number is the same, the file differs."""
    model = SharedModel.read(copied)
    for path in (copied / f"party{party}.keys", *([copied / "words.safetensors"] if party else [])):
        content = path.read_bytes()
        numbers = list(re.finditer(rb'"[0-9a-f]{32,64}"', content))
        assert len(numbers) == {0: 7, 1: 10, 2: 10}[party] if path.suffix == ".keys" else 3
        for number in numbers:
            for old, new in ((rb"[0-9a-e]", lambda c: bytes([c[0] + 1])), (rb"[a-f]", bytes.upper)):
                found = re.compile(old).search(content, number.start(), number.end())
                assert found
                path.write_bytes(content[: found.start()] + new(found[0]) + content[found.end() :])
                with pytest.raises(PlanError):
                    open_shares(copied, party, model)
        path.write_bytes(content)


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
