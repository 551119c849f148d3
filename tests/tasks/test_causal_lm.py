"""Logits after texts that go on, and the object that Transformers' generate takes (which needs PyTorch)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks import pipeline
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.logits import NextLogits

START, REST = [7, 9, 30, 4], [8, 11, 3]


@pytest.fixture
def watched(kit: SimpleNamespace, tmp_path: Path) -> Any:
    return kit.Watched(cached(kit, tmp_path))


def cached(kit: SimpleNamespace, path: Path) -> Path:
    """A decoder with a cache whose logits follow from the sum of all tokens."""
    import onnx

    rng, size, width = np.random.default_rng(5), kit.VOCABULARY, 6
    int64, real = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    table, head = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((size, width), (width, size)))
    sketch = kit.Sketch(constants={"table": table, "head": head, "one": np.array([1]), "two": np.array([2])})
    sketch.take("input_ids", int64, ["batch", "sequence"])
    sketch.take("past_key_values.0.key", real, ["batch", 1, "past", width])
    sketch.add("Gather", ["table", "input_ids"], "rows")
    sketch.add("Unsqueeze", ["rows", "one"], "heads")
    sketch.add("Concat", ["past_key_values.0.key", "heads"], "present.0.key", axis=2)
    sketch.add("ReduceMean", ["present.0.key", "two"], "seen", keepdims=0)
    sketch.add("Add", ["rows", "seen"], "both")
    sketch.add("MatMul", ["both", "head"], "logits")
    sketch.give("logits", ["batch", "sequence", size])
    sketch.give("present.0.key", ["batch", 1, "total", width])
    sketch.save(path / "model.onnx")
    return Path(kit.write_folder(path, {"model_type": "llama", "max_position_embeddings": 64}, {}))


def alone(runner: Any, text: list[int]) -> Any:
    decoder = causal_decoder(runner, logits=True)
    found = decoder.read(text).logits
    decoder.close()
    return found


def read(runner: Any) -> list[int]:
    """How many tokens each run has read; and begin anew."""
    counts = [call[1]["input_ids"].shape[1] for call in runner.calls]
    runner.calls.clear()
    return counts


def test_of_a_text_that_goes_on_only_what_is_new_is_read(watched: Any) -> None:
    expected = [alone(watched, START), alone(watched, START + REST)]
    read(watched)
    logits = NextLogits(watched)
    np.testing.assert_allclose(logits([START])[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(logits([START + REST])[0], expected[1], atol=1e-5)
    assert read(watched) == [4, 3]
    # the same text once more, and one that leaves it: both go back
    np.testing.assert_allclose(logits([START + REST])[0], expected[1], atol=1e-5)
    np.testing.assert_allclose(logits([START])[0], expected[0], atol=1e-5)
    assert read(watched) == [1, 1]
    logits.close()
    assert not watched.held


def test_texts_side_by_side_keep_a_cache_each(watched: Any) -> None:
    other = [50, 51, 52]
    expected = [alone(watched, text) for text in ([*START, 1], [*other, 2], [*START, 3])]
    read(watched)
    logits = NextLogits(watched)
    logits([START, other])
    assert read(watched) == [4, 3]
    # the order has changed, and two go on from one text, as beams do: one of them is read from its beginning
    found = logits([[*other, 2], [*START, 1], [*START, 3]])
    np.testing.assert_allclose(found, [expected[1], expected[0], expected[2]], atol=1e-5)
    assert read(watched) == [1, 1, 5]
    logits([[*other, 2]])
    assert len(watched.held) == 1
    logits.close()
    assert not watched.held


def test_a_failure_keeps_nothing(watched: Any) -> None:
    logits = NextLogits(watched)
    with pytest.raises(InputError, match="no tokens"):
        logits([START, []])
    logits([START])
    watched.fail_at = len(watched.calls) + 1
    with pytest.raises(KeyboardInterrupt):
        logits([[*START, 1], [5]])
    logits.close()
    assert not watched.held


def test_without_pytorch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "onnxpuma.tasks.causal_lm", raising=False)
    with pytest.raises(ConfigError, match="needs the library torch") as found:
        importlib.import_module("onnxpuma.tasks.causal_lm")
    assert "pip install" in str(found.value.hint)


def test_generate_writes_what_the_pipeline_writes(kit: SimpleNamespace, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from onnxpuma.tasks.causal_lm import OnnxpumaForCausalLM

    text = "some words"
    with pipeline(None, cached(kit, tmp_path)) as pipe:
        model, tokenizer = OnnxpumaForCausalLM(pipe), pipe.folder.tokenizer
        (expected,) = pipe(text, max_new_tokens=4, return_tensors=True)
        given = tokenizer(text, return_tensors="pt")
        usual = {"attention_mask": given["attention_mask"], "max_new_tokens": 4, "do_sample": False}
        found = model.generate(given["input_ids"], **usual)
        length = given["input_ids"].shape[1]
        assert found[0, length:].tolist() == expected["generated_token_ids"]
        beams = model.generate(given["input_ids"], num_beams=2, **usual)
        assert beams.shape[1] > length
        drawn = []
        for _ in range(2):
            torch.manual_seed(3)
            drawn.append(model.generate(given["input_ids"], **{**usual, "do_sample": True}).tolist())
        assert drawn[0] == drawn[1]
        tokenizer.padding_side = "left"
        both = tokenizer(["a", text], return_tensors="pt", padding=True)
        found = model.generate(**{**usual, **both})
        assert found[1, length:].tolist() == expected["generated_token_ids"]
        model.close()


def test_a_pipeline_for_something_else_is_refused() -> None:
    pytest.importorskip("torch")
    from onnxpuma.tasks.causal_lm import OnnxpumaForCausalLM

    with pytest.raises(InputError, match="this pipeline is for feature-extraction"):
        OnnxpumaForCausalLM(SimpleNamespace(task="feature-extraction"))  # type: ignore[arg-type]
