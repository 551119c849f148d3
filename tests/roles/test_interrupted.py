"""Sharing that ends before its time: killed anywhere, or on a full disk; and how much memory it takes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxpuma
from onnxpuma.errors import ConfigError, PlanError
from onnxpuma.roles.owner import destination
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.shared.weights import load_weights
from onnxpuma.roles.shared.words_file import WordsWriter

SINGLE = [*(f"party{i}.keys" for i in range(3)), "policy.json", "skeleton.onnx", "words.safetensors"]
ROOT = str(Path(onnxpuma.__file__).parent.parent)

KILLED = """
import os, signal, sys
from onnxpuma.plan import draft
from onnxpuma.roles.owner.owner import share_model
model, out, place, replace = sys.argv[1:]
place, moved = int(place), 0

def end():
    os.kill(os.getpid(), signal.SIGKILL)

def move(old, new, real=os.replace):
    global moved
    if moved == place:
        end()
    moved += 1
    real(old, new)

def progress(done, total, name):
    if place < 0 and done == total + place:
        end()

os.replace = move
share_model(model, out, replace=replace == "replace", progress=progress)
"""


def share_and_be_killed(model: Path, out: Path, place: int, replace: bool = False) -> None:
    """A process shares the model and is killed: at the file that is moved as number `place`; if it is
    negative, at the weight that is number `place` from the end."""
    arguments = [str(model), str(out), str(place), "replace" if replace else ""]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], cwd=ROOT, capture_output=True, timeout=300
    )
    assert ended.returncode == -9, ended.stderr.decode()


@pytest.mark.parametrize("place", [-1, 0, 5])
def test_after_a_kill_the_next_call_starts_over(place: int, model_path: Path, tmp_path: Path) -> None:
    share_and_be_killed(model_path, tmp_path, place)
    left = {path.name for path in tmp_path.iterdir()}
    assert left
    assert left != set(SINGLE)
    share_model(model_path, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == SINGLE
    for party in range(3):
        assert load_weights(tmp_path, party)


@pytest.mark.parametrize("place", [-1, 2])
def test_a_model_that_was_to_be_replaced(place: int, model_path: Path, tmp_path: Path) -> None:
    """It is whole until all of the new one is written; a server never loads a mixture."""
    share_model(model_path, tmp_path)
    share_and_be_killed(model_path, tmp_path, place, replace=True)
    for party in range(3):
        if place < 0:
            assert load_weights(tmp_path, party)
        elif party:  # the words are new, and of the keys those of party 0 alone
            with pytest.raises(PlanError, match="different calls"):
                load_weights(tmp_path, party)
    share_model(model_path, tmp_path, replace=place < 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == SINGLE
    for party in range(3):
        assert load_weights(tmp_path, party)


def test_a_disk_that_is_too_small_is_refused_before_a_byte_is_written(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_model(model_path, tmp_path / "first")
    needed = sum(path.stat().st_size for path in (tmp_path / "first").iterdir())
    free = needed - 1
    monkeypatch.setattr(destination.os, "statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1))
    monkeypatch.setattr(WordsWriter, "__init__", lambda *_: pytest.fail("something is written"))
    with pytest.raises(ConfigError, match=f"{needed - 1:,} bytes free, .* take {needed:,}") as refused:
        share_model(model_path, tmp_path / "second")
    assert "another disk" in refused.value.hint
    assert not list((tmp_path / "second").iterdir())
    monkeypatch.undo()
    free = needed
    monkeypatch.setattr(destination.os, "statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1))
    share_model(model_path, tmp_path / "second")
    assert load_weights(tmp_path / "second", 1)


def test_a_disk_that_fills_up_meanwhile(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, written = WordsWriter.append, 0

    def append(writer: WordsWriter, packed: memoryview) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(writer, packed)

    monkeypatch.setattr(WordsWriter, "append", append)
    with pytest.raises(ConfigError, match=r"cannot write the shares to .*: No space left") as failed:
        share_model(model_path, tmp_path)
    assert "bytes free" in failed.value.hint
    assert not list(tmp_path.iterdir())


MEASURED = """
import resource, sys
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.local.memory import MemoryModel  # so that all modules are there
model, out, small, out_small = sys.argv[1:]
share_model(small, out_small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
share_model(model, out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def stack(path: Path, layers: int, width: int) -> Path:
    """A model of square matrices, whose weights lie outside of the protobuf."""
    path.mkdir()
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for layer in range(layers):
        values = rng.normal(0, width**-0.5, (width, width)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"h{layer + 1}"]))
    entries = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, width]) for n in ("h0", f"h{layers}")]
    graph = helper.make_graph(nodes, "stack", entries[:1], entries[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    return path / "model.onnx"


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Words of 150 MB, made of 100 MB in matrices of 4 MB."""
    small, large = stack(tmp_path / "small", 1, 1024), stack(tmp_path / "large", 24, 1024)
    arguments = [str(large), str(tmp_path / "out"), str(small), str(tmp_path / "other")]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], cwd=ROOT, capture_output=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert (tmp_path / "out" / "words.safetensors").stat().st_size > 140e6
    assert int(ended.stdout) * 1024 < 80e6
