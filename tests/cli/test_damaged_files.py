"""A file with one bit flipped: its reader accepts it or reports what is wrong; nothing else happens."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.cluster_template import write_cluster_template
from onnxpuma.commands.arrays import read_arrays
from onnxpuma.config import PartyConfig, read_cluster
from onnxpuma.errors import ModelError, OnnxpumaError
from onnxpuma.graph.load import load
from onnxpuma.plan.prepare import prepare
from onnxpuma.transport.curve import keygen, read_public_key, read_secret_key


def flip(path: Path, read: Callable[[Path], Any], step: int, seed: int = 0) -> None:
    """Read the file with one bit of every `step`th byte flipped, one at a time."""
    rng = np.random.default_rng(seed)
    content, bad = path.read_bytes(), path.with_name(f"bad{path.suffix}")
    for place in range(int(rng.integers(step)), len(content), step):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        bad.write_bytes(changed)
        bad.chmod(0o600)
        with suppress(OnnxpumaError):
            read(bad)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("seed", range(8))
def test_inputs(save: Callable[..., None], seed: int, tmp_path: Path) -> None:
    save(tmp_path / "x.npz", a=np.arange(50.0), b=np.ones((3, 4), bool))
    flip(tmp_path / "x.npz", read_arrays, 5, seed)


def test_keys_and_cluster(tmp_path: Path) -> None:
    keys = [keygen(tmp_path / f"k{i}") for i in range(4)]
    rows = [
        PartyConfig(f"p{i}", "127.0.0.1", 9000 + i, 9100 + i, keys[i].public, "127.0.0.1") for i in range(3)
    ]
    write_cluster_template(tmp_path / "cluster.toml", rows, {"client": keys[3].public})
    flip(tmp_path / "cluster.toml", read_cluster, 11)
    flip(tmp_path / "k0.secret", read_secret_key, 1)
    flip(tmp_path / "k0.public", read_public_key, 1)


def test_a_name_that_is_no_text(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    old = proto.graph.node[3].output[0].encode()
    content = proto.SerializeToString().replace(old, old[:-1] + b"\xb3")
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="not text"):
        load(tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_model(model: Path, seed: int, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path / "model.onnx")
    flip(tmp_path / "model.onnx", prepare, 4999, seed)
