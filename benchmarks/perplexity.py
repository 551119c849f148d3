"""Is a language model on shares as sure of real text as in the clear? Its perplexity, both ways.

    python benchmarks/perplexity.py --model FOLDER --text FILE [--tokens 128] [--passages 2] [--json]

FOLDER: one that tools/export.py wrote for text-generation-with-past, with its tokenizer. The first passages
of the text, so many tokens each, go through three servers on this machine and through onnxruntime; every
position but the last is scored by the token that follows. The weights rest in the rings that sharing chooses
by default.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

import onnxpuma
from onnxpuma.check.validation import run_in_the_clear


def feed_of(session: onnxpuma.InferenceSession, ids: list[int]) -> dict[str, npt.NDArray[np.generic]]:
    """The inputs for a text from its start: an empty cache, every position seen."""
    count = len(ids)
    feed: dict[str, npt.NDArray[np.generic]] = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, count), np.int64),
        "position_ids": np.arange(count)[None],
    }
    for wanted in session.get_inputs():
        if wanted.name not in feed:
            _, heads, _, width = wanted.shape
            assert isinstance(heads, int)
            assert isinstance(width, int)
            feed[wanted.name] = np.zeros((1, heads, 0, width), np.float32)
    names = {wanted.name for wanted in session.get_inputs()}
    return {name: value for name, value in feed.items() if name in names}


def surprise(logits: npt.NDArray[np.generic], ids: list[int]) -> float:
    """The mean of -log p of each token but the first, in nats. logits: (1, tokens, vocabulary)."""
    scores = np.asarray(logits[0, :-1], np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return float(-logs[np.arange(len(ids) - 1), ids[1:]].mean())


def measure(model: Path, text: str, tokens: int, passages: int) -> dict[str, object]:
    """Both perplexities over all passages, and the largest difference of a logit."""
    from transformers import AutoTokenizer  # after onnxpuma, which forbids telemetry

    ids = AutoTokenizer.from_pretrained(model)(text)["input_ids"]
    parts = [ids[tokens * i : tokens * (i + 1)] for i in range(passages)]
    if len(parts[-1]) < tokens:
        raise SystemExit(f"the text has {len(ids)} tokens, too few for {passages} passages of {tokens}")
    secure, clear, apart = [], [], 0.0
    with onnxpuma.InferenceSession(model) as session:
        for part in parts:
            feed = feed_of(session, part)
            plain = run_in_the_clear(model / "model.onnx", feed)["logits"]
            (found,) = session.run(["logits"], feed)
            secure.append(surprise(found, part))
            clear.append(surprise(plain, part))
            apart = max(apart, float(np.abs(found - plain).max()))
    return {
        "tokens": tokens * passages,
        "perplexity": math.exp(float(np.mean(secure))),
        "perplexity_in_the_clear": math.exp(float(np.mean(clear))),
        "max_abs_error": apart,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a folder that tools/export.py wrote")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=128, help="of a passage")
    parser.add_argument("--passages", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.model, options.text.read_text(), options.tokens, options.passages)
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"perplexity of {found['tokens']} tokens: {found['perplexity']:.4f} on shares,"
            f" {found['perplexity_in_the_clear']:.4f} in the clear;"
            f" logits differ by {found['max_abs_error']:.4f} at the most"
        )


if __name__ == "__main__":
    main()
