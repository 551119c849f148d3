"""A small T5 that writes titles (traceforge): are the titles the same on shares?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from onnxpuma.tasks import PlainRunner, Runner, pipeline
from pretrained.case import Bench, Case, Folders, Measured, Target, average
from pretrained.compare import Errors, first_difference
from pretrained.onnx_files import without_rounding, write_json
from pretrained.packages import TITLES
from pretrained.samples import steps

PREFIX = "summarize agent step: "
FILES = {"encoder.onnx": "encoder_model.onnx", "decoder.onnx": "decoder_model.onnx"}
NEW_TOKENS = 24
HELD = 5  # texts whose logits are opened as well
LEAST = 0.95


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    """int8/ as in the package, and float/ with the same weights and activations that are not rounded."""
    folders = Folders(folder / "int8", folder / "float")
    if not (folders.plain / "tokenizer_config.json").exists():
        for made in (folders.secure, folders.plain):
            made.mkdir(parents=True, exist_ok=True)
            write_json(
                made / "config.json", {"model_type": "t5", "is_encoder_decoder": True, "vocab_size": 32128}
            )
            write_json(
                made / "generation_config.json",
                {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0},
            )
            shutil.copy(sources[0] / "tokenizer.json", made)
        for name, ours in FILES.items():
            shutil.copy(sources[0] / name, folders.secure / ours)
            onnx.save(without_rounding(onnx.load(sources[0] / name)), folders.plain / ours)
        for made in (folders.secure, folders.plain):
            write_json(
                made / "tokenizer_config.json",
                {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"},
            )
    return folders


def measure(bench: Bench) -> Measured:
    texts = [PREFIX + step for step in bench.some(steps(), 2)]
    rounded = PlainRunner(bench.folder.parent / "int8")
    errors, examples, costs = Errors(), [], []
    same = same_rounded = 0
    for number, text in enumerate(texts):
        logits = number < (1 if bench.quick else HELD)
        plain, clear = _title(bench, bench.plain, text, logits)
        begin = len(bench.secure.runs)
        secure, found = _title(bench, bench.secure, text, logits)
        if not logits or bench.quick:
            costs.append(bench.secure.runs[begin:])
        same += plain == secure
        same_rounded += _title(bench, rounded, text, False)[0] == plain
        if logits:
            alike = first_difference(plain, secure)
            alike = len(plain) if alike is None else alike
            errors.add(found[:alike], clear[:alike])
        examples.append((text, *(_spelled(bench, ids) for ids in (plain, secure))))
        bench.say(f"text {number + 1} of {len(texts)}: {'same' if plain == secure else 'differs'}")
    share = same / len(texts)
    return Measured(
        samples=f"{len(texts)} notes of a programmer's steps",
        metric="titles token for token those of onnxruntime",
        plain=f"{len(texts)} of {len(texts)}",
        secure=f"{same} of {len(texts)}",
        agreement=f"{100 * share:.0f} % of the titles",
        error_of="a logit",
        errors=errors,
        costs=[
            average("the encoder, 25 to 55 tokens", [runs[0] for runs in costs]),
            average("a token, the decoder without a cache", [run for runs in costs for run in runs[1:]]),
        ],
        targets=[
            Target("titles with the same tokens", "95 % or more", f"{100 * share:.0f} %", share >= LEAST)
        ],
        examples=examples[:3],
        remarks=[
            "Plain is the float graph with the same weights. The package's int8 graph also rounds every "
            "activation to eight bits, which shares omit, and which changes far more: onnxruntime's int8 "
            f"run has {same_rounded} of {len(texts)} titles in common with the float one."
        ],
    )


def _title(bench: Bench, runner: Runner, text: str, logits: bool) -> tuple[list[int], Any]:
    pipe = pipeline("text2text-generation", folder=bench.folder, runner=runner)
    made = pipe(text, max_new_tokens=NEW_TOKENS, return_tensors=True, logits=logits)
    result = made[0] if isinstance(made, list) else made
    return list(result["generated_token_ids"]), result.get("logits")


def _spelled(bench: Bench, ids: Sequence[int]) -> str:
    tokenizer = pipeline("text2text-generation", folder=bench.folder, runner=bench.plain).folder.tokenizer
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


CASE = Case(
    key="t5",
    title="T5-small, titles (traceforge)",
    about="Eight layers each of flan-t5-small, fine-tuned, as int8 ONNX files in the package; the servers "
    "get the weights as they are there. Activations reach 240,000 in the encoder. No cache: each token "
    "runs the decoder over all tokens before it.",
    packages=(TITLES,),
    data="",
    prepare=prepare,
    measure=measure,
)
