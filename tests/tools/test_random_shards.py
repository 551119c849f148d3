"""Random checkpoints: exact shapes, the stated distribution; one seed, one file; nothing else overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from exporting import ExportError, architectures, random_shards, skeleton  # noqa: E402
from exporting.random_shards import write_random  # noqa: E402
from exporting.shards import INDEX, read_shards  # noqa: E402
from exporting.tasks import TASKS  # noqa: E402

SHAPES = {
    "embed.weight": (300, 500),
    "norm.weight": (40_000,),
    "layer.weight": (700, 11),
    "layer.bias": (30_000,),
}


def test_distribution(tmp_path: Path) -> None:
    write_random(SHAPES, tmp_path, seed=1)
    held = {name: place.mapped().double() for name, place in read_shards(tmp_path).items()}
    assert {name: tuple(tensor.shape) for name, tensor in held.items()} == SHAPES
    for name, tensor in held.items():
        around = 1.0 if name == "norm.weight" else 0.0
        assert abs(tensor.mean() - around) < 5e-4
        assert abs(tensor.std() - 0.02) < 5e-4
    kurtosis = (held["embed.weight"] ** 4).mean() / (held["embed.weight"] ** 2).mean() ** 2
    assert abs(kurtosis - 3) < 0.1
    rows = np.corrcoef(held["embed.weight"].numpy())
    assert np.abs(rows - np.eye(len(rows))).max() < 0.3


def test_one_seed_gives_one_checkpoint_in_any_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(folder: str, seed: int) -> dict[str, np.ndarray]:
        write_random(SHAPES, tmp_path / folder, seed)
        return {name: place.mapped().numpy() for name, place in read_shards(tmp_path / folder).items()}

    first, other = drawn("first", 1), drawn("other", 2)
    monkeypatch.setattr(random_shards, "_LARGEST_SHARD", 100_000)
    again = drawn("again", 1)
    assert len(list((tmp_path / "again").glob("*.safetensors"))) == 3
    for name in SHAPES:
        np.testing.assert_array_equal(again[name], first[name])
        assert not np.array_equal(other[name], first[name])


def test_transformers_reads_them(tmp_path: Path) -> None:
    config = architectures.random_config("SmolLM2-135M", tiny=True, layers=1)
    config.save_pretrained(tmp_path)
    shapes = skeleton.shapes_of(skeleton.skeleton(config, TASKS["text-generation"]))
    assert "lm_head.weight" not in shapes  # tied
    write_random(shapes, tmp_path, seed=3)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, dtype=torch.float16
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.config.num_hidden_layers == 1
    held = read_shards(tmp_path)["model.norm.weight"].mapped()
    assert torch.equal(model.model.norm.weight, held)


def test_an_earlier_one_is_replaced_and_another_checkpoint_is_not(tmp_path: Path) -> None:
    write_random(SHAPES, tmp_path, seed=1)
    write_random({"norm.weight": (4,)}, tmp_path, seed=1)
    assert list(read_shards(tmp_path)) == ["norm.weight"]
    index = json.loads((tmp_path / INDEX).read_text())
    index["metadata"] = {"total_size": 8}
    (tmp_path / INDEX).write_text(json.dumps(index))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ExportError, match="holds a checkpoint already"):
        write_random(SHAPES, tmp_path, seed=1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = random_shards.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(random_shards.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ExportError, match="free"):
        write_random(SHAPES, tmp_path, seed=1)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = random_shards._draw

    def full(file: Any, size: int, *rest: Any) -> None:
        if size == 30_000:
            raise OSError(28, "No space left on device")
        real(file, size, *rest)

    monkeypatch.setattr(random_shards, "_draw", full)
    with pytest.raises(OSError, match="No space"):
        write_random(SHAPES, tmp_path, seed=1)
    assert not list(tmp_path.iterdir())


def test_layers(tmp_path: Path) -> None:
    config = architectures.random_config("Llama-2-7b", tiny=False, layers=3)
    assert (config.num_hidden_layers, config.hidden_size) == (3, 4096)
    with pytest.raises(ExportError, match="--layers 33 of 32"):
        architectures.random_config("Llama-2-7b", tiny=False, layers=33)
    with pytest.raises(ExportError, match="no single number of layers"):
        architectures.random_config("t5-small", tiny=False, layers=2)
