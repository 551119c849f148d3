"""Several inputs in one call: batches padded to one length, generators, datasets, and the bar that counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.errors import InputError
from onnxpuma.tasks import pipeline

TEXTS = ["a!", "a longer text?", "b", "no!!", "x?y!z"]
WIDTH = 4


def masked_encoder(kit: SimpleNamespace, path: Path, masks: bool = True, batch: str | int = "batch") -> Path:
    """Tokens -> their rows plus the mean over the positions that the mask shows: padding must not count."""
    rng = np.random.default_rng(5)
    table = rng.normal(0, 1, (kit.VOCABULARY, WIDTH)).astype(np.float32)
    sketch = kit.Sketch(constants={"table": table, "one": np.array([1]), "last": np.array([-1])})
    sketch.take("input_ids", onnx.TensorProto.INT64, [batch, "sequence"])
    sketch.add("Gather", ["table", "input_ids"], "rows")
    if masks:
        sketch.take("attention_mask", onnx.TensorProto.INT64, [batch, "sequence"])
        sketch.add("Cast", ["attention_mask"], "shown", to=onnx.TensorProto.FLOAT)
        sketch.add("Unsqueeze", ["shown", "last"], "column")
        sketch.add("Mul", ["rows", "column"], "kept")
        sketch.add("ReduceSum", ["kept", "one"], "total")
        sketch.add("ReduceSum", ["column", "one"], "count")
        sketch.add("Div", ["total", "count"], "mean")
    else:
        sketch.add("ReduceMean", ["rows", "one"], "mean")
    sketch.add("Add", ["rows", "mean"], "last_hidden_state")
    sketch.give("last_hidden_state", [batch, "sequence", WIDTH])
    sketch.save(path / "model.onnx")
    return Path(kit.write_folder(path, {"max_position_embeddings": 32}, {}))


@pytest.fixture(scope="module")
def encoder(kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masked_encoder(kit, tmp_path_factory.mktemp("encoder"))


def test_a_batch_gives_each_text_the_result_that_it_has_alone(kit: SimpleNamespace, encoder: Path) -> None:
    runner = kit.Watched(encoder)
    with pipeline(None, folder=encoder, runner=runner) as pipe:
        alone = pipe(TEXTS, return_tensors=True)
        assert len(runner.calls) == 5
        for size, runs in ((2, 3), (5, 1), (16, 1)):
            runner.calls.clear()
            together = pipe(TEXTS, batch_size=size, return_tensors=True)
            assert len(runner.calls) == runs
            for one, other in zip(alone, together, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6)
        feed = runner.calls[0][1]
        assert feed["input_ids"].shape == feed["attention_mask"].shape == (5, 14)
        assert feed["attention_mask"].sum(axis=1).tolist() == [len(text) for text in TEXTS]
        assert (feed["input_ids"][feed["attention_mask"] == 0] == kit.PAD).all()


def test_a_batch_of_twenty_texts_takes_the_rounds_of_one(encoder: Path) -> None:
    texts = [f"{'text' * (1 + place % 4)} {place}!" for place in range(20)]
    with pipeline(None, encoder) as pipe, pipeline(None, encoder, plain=True) as plain:
        pipe(texts[3])
        alone = pipe.usage
        found = pipe(texts, batch_size=20, return_tensors=True)
        assert pipe.usage.requests == 1
        assert pipe.usage.rounds <= 1.1 * alone.rounds
        for ours, theirs in zip(found, plain(texts, return_tensors=True), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=5e-3)


def test_without_a_mask_only_texts_of_one_length_share_a_run(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(masked_encoder(kit, tmp_path, masks=False))
    with pipeline(None, folder=tmp_path, runner=runner) as pipe:
        found = pipe(["ab", "abc", "xy"], batch_size=3, return_tensors=True)
        assert [call[1]["input_ids"].shape for call in runner.calls] == [(2, 2), (1, 3)]
        np.testing.assert_allclose(found[2], pipe("xy", return_tensors=True), atol=1e-6)


def test_generators_and_datasets_are_read_as_results_are_taken(kit: SimpleNamespace, encoder: Path) -> None:
    taken: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            taken.append(text)
            yield text

    class Dataset:
        def __len__(self) -> int:
            return len(TEXTS)

        def __getitem__(self, place: int) -> str:
            return TEXTS[place]

    with pipeline(None, encoder, plain=True, batch_size=2) as pipe:
        results = pipe(texts())
        assert not taken
        first = next(results)
        assert taken == TEXTS[:2]
        assert [first, *results] == pipe(TEXTS) == list(pipe(Dataset()))
        assert pipe.usage.requests == 3


@pytest.mark.parametrize("shown", [True, False, None])
def test_a_bar_counts_what_is_done(encoder: Path, capsys: pytest.CaptureFixture[str], shown: Any) -> None:
    with pipeline(None, encoder, plain=True) as pipe:
        pipe(TEXTS, batch_size=2, progress=shown)
    said = capsys.readouterr()
    assert said.out == ""
    assert ("5/5" in said.err) is (shown is True)


def test_batches_that_cannot_be(kit: SimpleNamespace, encoder: Path, tmp_path: Path) -> None:
    with pipeline(None, encoder, plain=True) as pipe:
        with pytest.raises(InputError, match="batch_size is 0"):
            pipe(TEXTS, batch_size=0)
        with pytest.raises(InputError, match="the text is empty"):
            pipe([*TEXTS, ""], batch_size=16)
        pipe.folder.tokenizer.pad_token = None
        with pytest.raises(InputError, match="no token to pad with"):
            pipe(TEXTS, batch_size=2)
    fixed = masked_encoder(kit, tmp_path, batch=1)
    with pipeline(None, fixed, plain=True) as pipe:
        assert len(pipe(TEXTS)) == 5
        with pytest.raises(InputError, match="no batch axis: the first dimension of 'input_ids' is 1"):
            pipe(TEXTS, batch_size=2)


def test_positions_count_from_the_first_token_on_either_side(kit: SimpleNamespace) -> None:
    from onnxpuma.tasks.once import padded

    tokenizer = kit.byte_tokenizer()
    feeds = [
        {
            "input_ids": np.arange(7, 7 + n)[None],
            "attention_mask": np.ones((1, n), np.int64),
            "position_ids": np.arange(n)[None],
        }
        for n in (2, 3)
    ]
    tokenizer.padding_side = "left"
    left = padded(tokenizer, feeds)[0]
    assert left["input_ids"].tolist() == [[kit.PAD, 7, 8]]
    assert left["position_ids"].tolist() == [[0, 0, 1]]
    for feed in feeds:
        del feed["position_ids"]
    assert padded(tokenizer, feeds)[0]["input_ids"].tolist() == [[7, 8, kit.PAD]]
