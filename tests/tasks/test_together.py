"""Several texts written in one batch: each is the text that it is alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from onnxpuma.tasks import pipeline

PROMPTS = ["a", "some words", "xyz!", "To be"]
WIDTH = 6


def model(kit: SimpleNamespace, path: Path, seed: int, generation: dict[str, Any] | None = None) -> Path:
    """A decoder with a cache that sees the mean of the tokens that the mask shows, and where each stands."""
    rng = np.random.default_rng(seed)
    int64, real, size = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT, kit.VOCABULARY
    shapes = {"table": (size, WIDTH), "places": (64, WIDTH), "after": (WIDTH, size), "mean": (WIDTH, size)}
    constants: dict[str, Any] = {n: rng.normal(0, 1, s).astype(np.float32) for n, s in shapes.items()}
    constants |= {"axes": np.array([1, 3]), "one": np.array([1]), "two": np.array([2])}
    sketch = kit.Sketch(constants=constants)
    sketch.take("input_ids", int64, ["batch", "sequence"])
    sketch.take("attention_mask", int64, ["batch", "total"])
    sketch.take("position_ids", int64, ["batch", "sequence"])
    sketch.take("past_key_values.0.key", real, ["batch", 1, "past", WIDTH])
    sketch.add("Gather", ["table", "input_ids"], "read")
    sketch.add("Gather", ["places", "position_ids"], "stands")
    sketch.add("Add", ["read", "stands"], "rows")
    sketch.add("Unsqueeze", ["rows", "one"], "heads")
    sketch.add("Concat", ["past_key_values.0.key", "heads"], "all_rows", axis=2)
    sketch.add("Cast", ["attention_mask"], "shown", to=real)
    sketch.add("Unsqueeze", ["shown", "axes"], "column")
    sketch.add("Mul", ["all_rows", "column"], "masked")
    sketch.add("ReduceSum", ["masked", "two"], "sums", keepdims=0)
    sketch.add("ReduceSum", ["column", "two"], "counts", keepdims=0)
    sketch.add("Div", ["sums", "counts"], "seen")
    sketch.add("MatMul", ["rows", "after"], "a")
    sketch.add("MatMul", ["seen", "mean"], "b")
    sketch.add("Add", ["a", "b"], "logits")
    sketch.give("logits", ["batch", "sequence", size])
    sketch.add("Identity", ["all_rows"], "present.0.key")
    sketch.give("present.0.key", ["batch", 1, "total", WIDTH])
    sketch.save(path / "model.onnx")
    kind = {"model_type": "llama", "max_position_embeddings": 64}
    ids = {"bos_token_id": kit.START, "eos_token_id": kit.END, "pad_token_id": kit.PAD}
    return Path(kit.write_folder(path, kind, ids | (generation or {})))


@pytest.mark.parametrize("seed", range(3))
def test_each_text_is_the_one_that_it_is_alone(kit: SimpleNamespace, tmp_path: Path, seed: int) -> None:
    runner = kit.Watched(model(kit, tmp_path, seed))
    with pipeline(None, folder=tmp_path, runner=runner, max_new_tokens=9, return_tensors=True) as pipe:
        alone = pipe(PROMPTS)
        assert len({tuple(each[0]["generated_token_ids"]) for each in alone}) > 1
        runner.calls.clear()
        assert pipe(PROMPTS, batch_size=4) == alone
        assert len(runner.calls) == 9
        assert runner.calls[0][1]["input_ids"].shape == (4, 10)
        assert runner.calls[1][1]["input_ids"].shape == (4, 1)
        assert not runner.held
        texts = pipe(PROMPTS, batch_size=3, return_tensors=False)
        assert texts == pipe(PROMPTS, return_tensors=False)
        assert texts[1][0]["generated_text"].startswith("some words")


def test_a_text_that_has_ended_stays_as_it_is(kit: SimpleNamespace, tmp_path: Path) -> None:
    with pipeline(None, model(kit, tmp_path, 1), plain=True, max_new_tokens=12, return_tensors=True) as pipe:
        longest = [each[0]["generated_token_ids"] for each in pipe(PROMPTS)]
    end = longest[0][3]
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {end}}}')
    with pipeline(None, tmp_path, plain=True, max_new_tokens=12, return_tensors=True) as pipe:
        found = pipe(PROMPTS, batch_size=4)
        assert found == pipe(PROMPTS)
        assert found[0][0]["generated_token_ids"][-1] == end
        assert len(found[0][0]["generated_token_ids"]) <= 4


def test_what_cannot_be_shared_is_written_apart(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(model(kit, tmp_path, 0))
    with pipeline(None, folder=tmp_path, runner=runner, max_new_tokens=2) as pipe:
        for options in ({"logits": True}, {"fixed_length": True}, {"min_length": 11, "max_new_tokens": 4}):
            pipe(PROMPTS, batch_size=4, **options)
            assert {call[1]["input_ids"].shape[0] for call in runner.calls} == {1}
            runner.calls.clear()
    bare = kit.causal_folder(tmp_path / "bare", kit.drawn())
    with pipeline(None, bare, plain=True, max_new_tokens=2) as pipe:
        assert pipe(PROMPTS, batch_size=4) == pipe(PROMPTS)


def test_each_text_is_drawn_with_penalties_of_its_own(kit: SimpleNamespace, tmp_path: Path) -> None:
    """A bias so large that nothing is left to chance, and a penalty that forbids what was written."""
    runner = kit.Watched(model(kit, tmp_path, 0))
    tokens = kit.byte_tokens("abc")
    options: dict[str, Any] = {
        "do_sample": True,
        "logit_bias": {token: 100.0 - 30 * place for place, token in enumerate(tokens)},
        "presence_penalty": 80.0,
        "repetition_penalty": 1.2,
        "max_new_tokens": 3,
        "return_tensors": True,
    }
    with pipeline(None, folder=tmp_path, runner=runner) as pipe:
        found = pipe(PROMPTS, batch_size=4, **options)
    assert [each[0]["generated_token_ids"] for each in found] == [tokens] * 4
    assert len(runner.calls) == 3
    marked = runner.calls[2][1]["repeated_ids"]
    assert marked.shape[0] == 4
    assert not np.array_equal(marked[0], marked[1]), "each has its own"


def test_an_interrupted_batch_keeps_nothing(kit: SimpleNamespace, tmp_path: Path) -> None:
    runner = kit.Watched(model(kit, tmp_path, 0))
    with pipeline(None, folder=tmp_path, runner=runner, max_new_tokens=5) as pipe:
        runner.fail_at = 2
        with pytest.raises(KeyboardInterrupt):
            pipe(PROMPTS, batch_size=4)
        assert not runner.held


def test_on_shares_four_texts_take_the_rounds_of_one(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = model(kit, tmp_path, 2)
    options: dict[str, Any] = {"max_new_tokens": 3, "return_tensors": True}
    with pipeline(None, made) as pipe, pipeline(None, made, plain=True) as plain:
        pipe(PROMPTS[1], **options)
        alone = pipe.usage
        found = pipe(PROMPTS, batch_size=4, **options)
        assert pipe.usage.requests == alone.requests == 3
        assert pipe.usage.rounds <= 1.2 * alone.rounds
        assert found == plain(PROMPTS, **options)
