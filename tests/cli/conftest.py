"""Fixtures of the command line's tests: a call of it, small models, good and bad, and running servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpuma.cli import main
from onnxpuma.roles.local.cluster import LocalCluster

MODELS = Path(__file__).resolve().parents[2] / "models"
PATIENT = MODELS / "breast-cancer" / "model.onnx"


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The error as one line, without its hint; stderr must contain these two and nothing else."""
        assert self.status != 0
        assert "Traceback" not in self.err
        first, hint = self.err.split("hint: ")
        assert first.startswith("error: ")
        assert hint.strip()
        return " ".join(first.removeprefix("error: ").split())


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command line in this process."""
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        code = end.value.code
        return Ended(code if isinstance(code, int) else int(code is not None), said.out, said.err)

    return call


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three servers of the breast-cancer model."""
    with LocalCluster(PATIENT) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def model() -> Path:
    """The breast-cancer model."""
    return PATIENT


@pytest.fixture(scope="session")
def patient() -> np.ndarray:
    with np.load(MODELS / "breast-cancer" / "heldout.npz") as arrays:
        return np.asarray(arrays["inputs"][:1])


@pytest.fixture
def unsupported(tmp_path: Path) -> Path:
    """A valid model with three nodes that have no kernel; the second and third follow the first."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Det", ["a"], ["d"], name="determinant"),
        helper.make_node("Mine", ["d"], ["m"], name="foreign", domain="my.operators"),
        helper.make_node("Det", ["m"], ["y"], name="again"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.eye(4, dtype=np.float32).reshape(-1) + 0.5)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my.operators", 1)]
    path = tmp_path / "unsupported.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path
