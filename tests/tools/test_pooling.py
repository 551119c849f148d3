"""The sentence-transformers files that an export takes with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from exporting.pooling import save_pooling


def test_the_settings_of_pooling_are_copied(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "1_Pooling").mkdir(parents=True)
    out.mkdir()
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": at, "type": f"sentence_transformers.models.{kind}"} for at, kind in kinds.items()]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    save_pooling(str(source), out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.json")) == [
        "1_Pooling/config.json",
        "modules.json",
    ]


def test_a_model_without_them(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    save_pooling(str(tmp_path), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
