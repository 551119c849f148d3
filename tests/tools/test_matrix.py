"""tools/matrix.py: its runs, its feeds and its page; with -m slow, the whole matrix by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import matrix
from matching import feeds
from matching.combinations import ARCHITECTURES, FUSED, Combination, combinations
from matching.page import page, worst

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exports.md"
BERT = Combination("BERT", "bert-base-uncased", "text-classification", "dynamo23")
CACHED = {
    "input_ids": ["batch", "sequence"],
    "attention_mask": ["batch", "total"],
    "position_ids": ["batch", "sequence"],
    "past_key_values.0.key": ["batch", 2, "past", 16],
}


def record(
    error: float, largest: float = 1.0, graph: str = "model.onnx", fine: bool = True
) -> dict[str, object]:
    case = {"case": "1 x 9", "ok": fine, "rounds": 7, "bytes": 8000, "outputs": {"logits": [error, largest]}}
    return {"graph": graph, "cases": [case]}


def test_an_export_is_made_changed_run_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cache", str(tmp_path), "--exporters", "int8", "--only", "distilbert"]
    assert matrix.main([*options, "--page", str(tmp_path / "page.md")]) == 0
    assert "ok, largest error" in capsys.readouterr().out
    assert "DistilBERT" in (tmp_path / "page.md").read_text()
    (result,) = tmp_path.glob("int8/*/*/on_shares.json")
    (found,) = json.loads(result.read_text())
    assert all(case["rounds"] > 10 and case["bytes"] > 1000 for case in found["cases"])
    made = result.stat().st_mtime_ns
    assert matrix.main(options) == 0
    assert result.stat().st_mtime_ns == made


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "one", combinations(["dynamo20", "dynamo23", "torchscript17", "fused", "int8"]), ids=lambda one: one.name
)
def test_every_architecture_from_every_exporter(tmp_path: Path, one: Combination) -> None:
    options = ["--cache", str(tmp_path), "--exporters", one.exporter, "--only", one.name]
    assert matrix.main(options) == 0


def test_an_export_that_fails_is_told_and_not_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "no-python")
    (tmp_path / "no-python").write_text("#!/bin/sh\necho no optimum here\nexit 1\n")
    (tmp_path / "no-python").chmod(0o755)
    options = [
        "--cache",
        str(tmp_path),
        "--exporters",
        "optimum",
        "--only",
        "distilbert",
        "--optimum",
        missing,
    ]
    assert matrix.main([*options, "--page", str(tmp_path / "page.md")]) == 1
    assert "no optimum here" in capsys.readouterr().out
    assert "no optimum here" in (tmp_path / "page.md").read_text().partition("Not exported:")[2]
    (tmp_path / "no-python").write_text("#!/bin/sh\necho asked again\nexit 1\n")
    assert matrix.main(options) == 1
    assert "asked again" not in capsys.readouterr().out
    assert matrix.main([*options, "--retry"]) == 1
    assert "asked again" in capsys.readouterr().out


def test_one_row_an_architecture_and_task_and_graph() -> None:
    other = Combination(BERT.title, BERT.model, BERT.task, "torchscript17")
    made = page({BERT: [record(3e-5)], other: [record(2e-4, 30.0)]})
    assert "| BERT | text-classification | model | 3.0e-05 | 2.0e-04 of 30 | 7 | 8 |" in made
    assert "2 exports, 2 graphs, 2 runs on shares; all of them match. Made with torch" in made


def test_what_does_not_match_stands_out() -> None:
    made = page({BERT: [record(0.5, fine=False)]})
    assert f"these do not match: {BERT.name}." in made
    assert "**5.0e-01**" in made
    assert not worst([record(0.5, fine=False)])[1]
    assert not worst([record(1e-5), {"graph": "model.onnx", "cases": [], "error": "refused"}])[1]
    assert worst([record(1e-5), record(1e-4)]) == (1e-4, True)


def test_a_merged_decoder_stands_with_its_two_graphs() -> None:
    t5 = Combination("T5", "t5-small", "text2text-generation-with-past", "optimum")
    first = record(1e-5, graph="decoder_model.onnx")
    made = page({t5: [first, record(2e-5, graph="decoder_model_merged.onnx, first run")]})
    assert "| decoder_model | 2.0e-05 |" in made
    assert "merged |" not in made


def test_page_in_the_documentation_has_every_architecture_and_all_match() -> None:
    text = PAGE.read_text()
    assert "all of them match." in text
    for title, _, tasks in ARCHITECTURES:
        assert all(f"| {title} | {task} |" in text for task in tasks)
    known = {model for _, model, _ in ARCHITECTURES}
    assert set(FUSED) <= known


def test_caches_are_tried_full_and_empty() -> None:
    tried = feeds.cases(CACHED, 7)
    assert {case.past > 0 for case in tried} == {True, False}
    assert {case.batch for case in tried} == {1, 2}


def test_feed_fits_the_graph() -> None:
    case = feeds.Case(2, 3, 4)
    made = feeds.feed(CACHED, case, {"text_config": {"vocab_size": 50}})
    assert list(made) == list(CACHED)
    assert made["input_ids"].max() < 50
    assert made["attention_mask"].tolist() == [[1] * 7, [0, 0, 1, 1, 1, 1, 1]]
    assert made["position_ids"].tolist() == [[4, 5, 6], [2, 3, 4]]
    assert made["past_key_values.0.key"].shape == (2, 2, 4, 16)


def test_feed_reads_the_symbols_of_optimum() -> None:
    symbols = {
        "input_ids": ["batch_size", "decoder_sequence_length"],
        "encoder_attention_mask": ["batch_size", "encoder_sequence_length"],
        "past_key_values.0.decoder.key": ["batch_size", 2, "past_decoder_sequence_length", 8],
        "past_key_values.0.encoder.key": ["batch_size", 2, "encoder_sequence_length_out", 8],
        "decoder_attention_mask": ["batch_size", "past_decoder_sequence_length + 1"],
    }
    made = feeds.feed(symbols, feeds.Case(2, 1, 5, 7), {"vocab_size": 99})
    assert [value.shape for value in made.values()] == [(2, 1), (2, 7), (2, 2, 5, 8), (2, 2, 7, 8), (2, 6)]
    with pytest.raises(KeyError, match="strange"):
        feeds.feed({"input_ids": ["batch", "strange"]}, feeds.Case(1, 1), {"vocab_size": 99})


def test_hidden_words_are_not_compared() -> None:
    case = feeds.Case(2, 3, 2)
    given = {"attention_mask": np.array([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])}
    seen = feeds.meant(np.zeros((2, 3, 4)), "logits", given, case)
    assert seen[:, :, 0].tolist() == [[True] * 3, [False, True, True]]
    present = feeds.meant(np.zeros((2, 1, 5, 4)), "present.0.key", given, case)
    assert present[1, 0, :, 0].tolist() == [False, False, False, True, True]
    assert feeds.meant(np.zeros((2, 4)), "pooler_output", given, case).all()
