"""Prompt-Guard (DeBERTa): does it recognise the same attacks on a language model on shares?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxpuma.graph.load import load
from onnxpuma.graph.precision import to_single
from onnxpuma.tasks import Runner
from onnxpuma.tasks.port import Run
from pretrained.case import Bench, Case, Folders, Measured, Target, average
from pretrained.compare import Errors
from pretrained.packages import GUARD
from pretrained.samples import paragraphs, prompts

TEXTS, LETTERS = 4, 160
NAMES = ("harmless", "an attack")


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    """half/ as in the package, and single/ with the same weights in single precision."""
    folders = Folders(folder / "half", folder / "single")
    if not (folders.plain / "tokenizer.json").exists():
        for made in (folders.secure, folders.plain):
            made.mkdir(parents=True, exist_ok=True)
        shutil.copy(sources[0] / "model.onnx", folders.secure)
        model = load(sources[0] / "model.onnx")
        to_single(model)
        ir.save(model, folders.plain / "model.onnx")
        shutil.copy(sources[0] / "tokenizer.json", folders.plain)
    return folders


def measure(bench: Bench) -> Measured:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bench.folder / "tokenizer.json"))
    calm = [text[:LETTERS] for text in paragraphs(bench.data, TEXTS)]
    texts = bench.some([*prompts(), *calm], 2)
    errors, examples, lengths = Errors(), [], []
    same = 0
    for number, text in enumerate(texts):
        ids = tokenizer.encode(text).ids
        lengths.append(len(ids))
        plain, secure = (_logits(runner, ids) for runner in (bench.plain, bench.secure))
        errors.add(secure, plain)
        found = [NAMES[int(logits.argmax())] for logits in (plain, secure)]
        same += found[0] == found[1]
        examples.append((text, *found))
        bench.say(f"text {number + 1} of {len(texts)}: {found[0]}, {found[1]}")
    return Measured(
        samples=f"{len(texts)} texts, prompts and the beginnings of paragraphs of WikiText-2",
        metric="classes that are those of onnxruntime",
        plain=f"{len(texts)} of {len(texts)}",
        secure=f"{same} of {len(texts)}",
        agreement=f"{same} of {len(texts)} classes the same",
        error_of="a logit",
        errors=errors,
        costs=[average(f"a text, {np.mean(lengths):.0f} tokens on average", bench.secure.runs)],
        targets=[Target("equal classes", f"{len(texts)} of {len(texts)}", f"{same}", same == len(texts))],
        examples=examples[:4],
    )


def _logits(runner: Runner, ids: Sequence[int]) -> np.ndarray:
    array = np.array([ids], np.int64)
    feed = {"input_ids": array, "attention_mask": np.ones_like(array)}
    return np.asarray(runner.run(Run("model", feed, ["logits"])).outputs["logits"][0])


CASE = Case(
    key="guard",
    title="Prompt-Guard 2 (DeBERTa), attacks on prompts",
    about="Twelve layers of DeBERTa, whose attention looks up distances between words; the package's ONNX "
    "file in half precision, written by TorchScript, with an embedding of eight bits. Plain is the same file "
    "in single precision.",
    packages=(GUARD,),
    data="text",
    prepare=prepare,
    measure=measure,
)
