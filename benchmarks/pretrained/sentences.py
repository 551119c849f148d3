"""all-MiniLM-L6-v2: are embeddings the same on shares, and is the same sentence the nearest?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnxpuma.tasks import Runner, pipeline
from pretrained.case import Bench, Case, Folders, Measured, Target, average
from pretrained.compare import Errors, cosine
from pretrained.onnx_files import exported
from pretrained.packages import MINILM
from pretrained.samples import paragraphs

SENTENCES = 40
WANTED = 0.9999


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    if not (folder / "model.onnx").exists():
        exported(sources[0], "sentence-similarity", folder)
    return Folders(folder, folder)


def measure(bench: Bench) -> Measured:
    texts = [text[:400] for text in bench.some(paragraphs(bench.data, SENTENCES), 4)]
    plain, secure = (_embeddings(bench, runner, texts) for runner in (bench.plain, bench.secure))
    cosines = [cosine(a, b) for a, b in zip(secure, plain, strict=True)]
    errors = Errors()
    errors.add(secure, plain)
    near = [_nearest(e) for e in (plain, secure)]
    same = sum(a == b for a, b in zip(*near, strict=True))
    worst = min(cosines)
    return Measured(
        samples=f"{len(texts)} paragraphs of WikiText-2",
        metric="cosine of an embedding with onnxruntime's, the lowest",
        plain="1",
        secure=f"{worst:.7f}",
        agreement=f"nearest other paragraph the same for {same} of {len(texts)}",
        error_of="an embedding's element",
        errors=errors,
        costs=[average(f"a paragraph, {_tokens(bench, texts):.0f} tokens on average", bench.secure.runs)],
        targets=[Target("cosine, secure to plain", f"{WANTED} or more", f"{worst:.7f}", worst >= WANTED)],
    )


def _embeddings(bench: Bench, runner: Runner, texts: Sequence[str]) -> np.ndarray:
    pipe = pipeline("feature-extraction", folder=bench.folder, runner=runner)
    rows = []
    for number, text in enumerate(texts):
        rows.append(pipe(text, return_tensors=True, truncation=True).reshape(-1))
        bench.say(f"{type(runner).__name__}: text {number + 1} of {len(texts)}")
    return np.stack(rows)


def _tokens(bench: Bench, texts: Sequence[str]) -> float:
    tokenizer = pipeline("feature-extraction", folder=bench.folder, runner=bench.plain).folder.tokenizer
    return float(np.mean([len(tokenizer(text)["input_ids"]) for text in texts]))


def _nearest(embeddings: np.ndarray) -> list[int]:
    likeness = embeddings @ embeddings.T
    np.fill_diagonal(likeness, -np.inf)
    return [int(row.argmax()) for row in likeness]


CASE = Case(
    key="minilm",
    title="all-MiniLM-L6-v2, sentence embeddings",
    about="Six layers of BERT, mean pooling and normalisation inside the graph; exported from the package's "
    "safetensors. Token ids and weights are secret, the mask is public.",
    packages=(MINILM,),
    data="text",
    prepare=prepare,
    measure=measure,
)
