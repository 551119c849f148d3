"""opus-mt-en-fr: are translations the same on shares?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxpuma.tasks import Runner, pipeline
from pretrained.case import Bench, Case, Folders, Measured, Target, average
from pretrained.compare import Errors, first_difference
from pretrained.cut_archive import extract
from pretrained.onnx_files import exported
from pretrained.packages import OPUS_MT
from pretrained.samples import sentences

INSIDE = "aait_store/Models/NLP/helsinki_en_fr"
SENTENCES, LONGEST, NEW_TOKENS = 9, 90, 48
HELD = 2  # sentences whose logits are opened as well


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    made = folder / "onnx"
    if not (made / "decoder_with_past_model.onnx").exists():
        parts = {n: source / f"aait_store.zip.{n:03d}" for n, source in zip(OPUS_MT, sources, strict=True)}
        extract(parts, INSIDE, folder / "checkpoint")
        exported(folder / "checkpoint", "translation", made)
    return Folders(made, made)


def measure(bench: Bench) -> Measured:
    texts = bench.some(sentences(bench.data, SENTENCES, LONGEST), 2)
    errors, examples, encoder, first, later = Errors(), [], [], [], []
    same = 0
    for number, text in enumerate(texts):
        logits = number < (1 if bench.quick else HELD)
        plain = _translated(bench, bench.plain, text, logits)
        begin = len(bench.secure.runs)
        secure = _translated(bench, bench.secure, text, logits)
        runs = bench.secure.runs[begin:]
        encoder.append(runs[0])
        if not logits or bench.quick:
            first.append(runs[1])
            later += runs[2:]
        ids = [result["generated_token_ids"] for result in (plain, secure)]
        same += list(ids[0]) == list(ids[1])
        if logits:
            alike = first_difference(*ids)
            alike = len(ids[0]) if alike is None else alike
            errors.add(secure["logits"][:alike], plain["logits"][:alike])
        examples.append((text, *(_spelled(bench, one) for one in ids)))
        bench.say(f"sentence {number + 1} of {len(texts)}: {examples[-1][2]!r}")
    return Measured(
        samples=f"{len(texts)} sentences of WikiText-2",
        metric="translations token for token those of onnxruntime",
        plain=f"{len(texts)} of {len(texts)}",
        secure=f"{same} of {len(texts)}",
        agreement=f"{same} of {len(texts)} translations the same",
        error_of="a logit",
        errors=errors,
        costs=[
            average("the encoder, a sentence", encoder),
            average("the first token", first),
            average("a token", later),
        ],
        targets=[
            Target("equal translations", f"{len(texts)} of {len(texts)}", f"{same}", same == len(texts))
        ],
        examples=examples[:3],
    )


def _translated(bench: Bench, runner: Runner, text: str, logits: bool) -> dict[str, Any]:
    pipe = pipeline("text2text-generation", folder=bench.folder, runner=runner)
    made = pipe(text, max_new_tokens=NEW_TOKENS, return_tensors=True, logits=logits)
    result: dict[str, Any] = made[0] if isinstance(made, list) else made
    return result


def _spelled(bench: Bench, ids: Sequence[int]) -> str:
    tokenizer = pipeline("text2text-generation", folder=bench.folder, runner=bench.plain).folder.tokenizer
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


CASE = Case(
    key="opus",
    title="opus-mt-en-fr, translation",
    about="Six layers each of Marian, encoder and decoder with a cache; exported from the checkpoint in the "
    "packages, which is part of an archive cut into sixteen. Text, weights and cache are secret; "
    "only the tokens are opened.",
    packages=tuple(OPUS_MT.values()),
    data="text",
    prepare=prepare,
    measure=measure,
)
