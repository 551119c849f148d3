"""Damage in policy.json, model.json or skeleton.onnx is an error of this package, with a hint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import PlanError
from onnxpuma.plan.blueprint import POLICY, SKELETON, Blueprint
from onnxpuma.plan.policy_file import digest_of, written
from onnxpuma.plan.prepare import prepare
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.model import SharedModel

MODEL = Path(__file__).resolve().parents[2] / "models" / "breast-cancer" / "model.onnx"
OTHERS = (
    None,
    True,
    -1,
    1.5,
    10**400,
    "",
    "text",
    "\x1b[31m",
    "\ud800",
    [],
    [1],
    ["x"],
    [[]],
    {},
    {"x": 1},
    {"x": {}},
)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return prepare(MODEL)[0].files()


@pytest.fixture(scope="module")
def several(graphs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return share_model(graphs_folder, tmp_path_factory.mktemp("several")).files()


def taken(menu: Sequence[bytes]) -> SharedModel | None:
    """The model of these files, with all its properties read; None if they were refused with a hint."""
    with suppress(Hinted), hinted():
        read = SharedModel.from_menu(menu)
        sides = [(graph.inputs, graph.outputs, graph.weights) for graph in read.graphs.values()]
        assert len(sides) == len(read.graphs)
        assert read.arrays is not None
        return read
    return None


class Hinted(Exception):
    """An error of this package with a hint."""


@contextmanager
def hinted() -> Iterator[None]:
    try:
        yield
    except PlanError as error:
        if error.hint:
            raise Hinted from error
        raise


def refused(files: Mapping[str, bytes]) -> None:
    assert taken(list(files.values())) is None


def changed(entries: Any) -> Iterator[Any]:
    """The JSON value with one entry removed, or one value replaced, at any depth."""
    if isinstance(entries, dict):
        for key in list(entries)[:4] if len(entries) > 20 else list(entries):
            yield {k: v for k, v in entries.items() if k != key}
            for other in changed(entries[key]):
                yield {**entries, key: other}
        yield {**entries, "more": 1}
    if isinstance(entries, list):
        for place in range(min(len(entries), 4)):
            yield entries[:place] + entries[place + 1 :]
            for other in changed(entries[place]):
                yield [*entries[:place], other, *entries[place + 1 :]]
    yield from (other for other in OTHERS if other != entries)


def test_every_key_of_a_policy_is_there_and_of_its_type(files: dict[str, bytes]) -> None:
    """With the old digest, and with one that fits, as an attacker would write it."""
    policy = json.loads(files[POLICY])
    tried = 0
    for other in changed(policy):
        tried += 1
        refused({**files, POLICY: written(other) if isinstance(other, dict) else json.dumps(other).encode()})
        if isinstance(other, dict):
            read = taken([files[SKELETON], fitting(files[SKELETON], other)])
            same = {**other, "digest": policy["digest"]} == policy
            assert read is None or (read.blueprint.digest == policy["digest"]) == same
    assert tried > 400


@pytest.mark.parametrize("key", ["digest", "visibility", "derived", "ranges", "version", "public_inputs"])
def test_a_policy_without_a_key_is_refused_as_such(key: str, files: dict[str, bytes], tmp_path: Path) -> None:
    policy = json.loads(files[POLICY])
    del policy[key]
    (tmp_path / SKELETON).write_bytes(files[SKELETON])
    (tmp_path / POLICY).write_text(json.dumps(policy))
    with pytest.raises(PlanError, match="damaged") as caught:
        Blueprint.read(tmp_path)
    assert key in caught.value.message
    assert "copy" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"version": NaN}', b"{}" * 2]
)
def test_what_is_no_policy_is_refused(content: bytes, files: dict[str, bytes]) -> None:
    refused({**files, POLICY: content})


def test_one_byte_of_a_file_that_is_another(files: dict[str, bytes]) -> None:
    rng = np.random.default_rng(0)
    for name, content in files.items():
        for place in range(0, len(content), 97):
            bad = bytearray(content)
            bad[place] ^= int(rng.integers(1, 256))
            refused({**files, name: bytes(bad)})
        for end in (0, 1, len(content) // 2, len(content) - 2):
            refused({**files, name: content[:end]})


def fitting(skeleton: bytes, policy: Mapping[str, Any]) -> bytes:
    """The policy with a digest that fits this skeleton, as an attacker would write it."""
    return written({**policy, "digest": digest_of(skeleton, policy)})


def flip(files: dict[str, bytes], step: int) -> int:
    """Read skeletons with one byte changed, every `step`, under a digest that fits; count those accepted."""
    rng = np.random.default_rng(1)
    content, policy, count = files[SKELETON], json.loads(files[POLICY]), 0
    for place in range(0, len(content), step):
        bad = bytearray(content)
        bad[place] ^= 1 << int(rng.integers(8))
        count += taken([bytes(bad), fitting(bytes(bad), policy)]) is not None
    return count


def test_a_changed_skeleton_under_a_digest_that_fits(files: dict[str, bytes]) -> None:
    assert flip(files, 211) > 0


@pytest.mark.slow
def test_every_byte_of_a_skeleton_under_a_digest_that_fits(files: dict[str, bytes]) -> None:
    assert flip(files, 3) > 0


def test_an_index_that_is_another(several: dict[str, bytes]) -> None:
    index = json.loads(several["model.json"])
    for other in changed(index):
        bad = [
            written(other) if isinstance(other, dict) else json.dumps(other).encode(),
            *list(several.values())[1:],
        ]
        assert taken(bad) is None
