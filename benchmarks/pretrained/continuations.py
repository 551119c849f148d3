"""SmolLM2-135M-Instruct: does it continue a text in the same words on shares? Other decoders are measured by
the same calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxpuma.tasks import Runner, pipeline
from onnxpuma.tasks.port import Run, signature
from pretrained.case import Bench, Case, Folders, Measured, Target, average
from pretrained.compare import CLOSE, Errors, first_difference, margins
from pretrained.onnx_files import exported
from pretrained.packages import SMOLLM2
from pretrained.samples import paragraphs

MOST_BYTES, MOST_SECONDS = 25e6, 3.0


@dataclass(frozen=True)
class Extent:
    """The extent of the measurement."""

    prompts: int = 20
    prompt_tokens: int = 40
    new_tokens: int = 32
    context: int = 64  # tokens at which the cost of a token is reported
    held: int = 5  # prompts whose logits are opened as well


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    if not (folder / "model.onnx").exists():
        (checkpoint,) = sources[0].glob("*.gguf")
        exported(checkpoint, "text-generation-with-past", folder)
    return Folders(folder, folder)


def measure(bench: Bench) -> Measured:
    found = measured(bench, Extent())
    token = found.costs[1]
    found.targets += [
        Target("bytes a token", "25 MB", f"{token.bytes_sent / 1e6:.1f} MB", token.bytes_sent <= MOST_BYTES),
        Target("seconds a token", "3 s", f"{token.seconds:.1f} s", token.seconds <= MOST_SECONDS),
    ]
    return found


def measured(bench: Bench, extent: Extent) -> Measured:
    """Continue each prompt twice, and read some at once for their logits."""
    clear, secret = (
        pipeline("text-generation", folder=bench.folder, runner=r) for r in (bench.plain, bench.secure)
    )
    tokenizer = clear.folder.tokenizer
    options = {"max_new_tokens": 8 if bench.quick else extent.new_tokens, "return_tensors": True}
    texts = bench.some(paragraphs(bench.data, extent.prompts), 2)
    prompts = [tokenizer.decode(tokenizer(text)["input_ids"][: extent.prompt_tokens]) for text in texts]
    errors, examples, parted, later, firsts = Errors(), [], [], [], []
    same = tokens = decided = held_same = 0
    gap = 0.0
    for number, prompt in enumerate(prompts):
        plain = clear(prompt, **options)[0]["generated_token_ids"]
        begin = len(bench.secure.runs)
        secure = secret(prompt, **options)[0]["generated_token_ids"]
        runs = bench.secure.runs[begin:]
        firsts.append(runs[0])
        later.append(runs[min(extent.context - extent.prompt_tokens, len(runs) - 1)])
        ids = tokenizer(prompt)["input_ids"] + list(plain)
        logits = _logits(bench.plain, ids)[-len(plain) - 1 : -1]
        apart = margins(logits)
        place = first_difference(plain, secure)
        if place is None:
            same += 1
        else:
            parted.append(float(apart[place]))
        tokens += len(plain) if place is None else place
        if number < (1 if bench.quick else extent.held):
            found = _logits(bench.secure, ids)[-len(plain) - 1 : -1]
            errors.add(found, logits)
            gap = max(gap, float(np.abs(_gaps(found, logits) - apart).max()))
            clear_cut = apart > CLOSE
            decided += int(clear_cut.sum())
            held_same += int((found.argmax(-1) == logits.argmax(-1))[clear_cut].sum())
        examples.append((prompt, tokenizer.decode(plain), tokenizer.decode(secure)))
        bench.say(
            f"prompt {number + 1} of {len(prompts)}: {'same' if place is None else f'differs at {place}'}"
        )
    wrong = sum(margin > CLOSE for margin in parted)
    token = average(f"a token at {_context(bench, extent)} tokens of context", later)
    return Measured(
        samples=f"{len(prompts)} prompts of {extent.prompt_tokens} tokens, {options['max_new_tokens']} more "
        "written",
        metric="continuations word for word those of onnxruntime",
        plain=f"{len(prompts)} of {len(prompts)}",
        secure=f"{same} of {len(prompts)}",
        agreement=_agreement(tokens, parted, held_same, decided),
        error_of="a logit",
        errors=errors,
        costs=[average(f"a prompt of {extent.prompt_tokens} tokens, and the first token", firsts), token],
        targets=[
            Target(
                f"another token where the two best logits are more than {CLOSE} apart",
                "never",
                "never" if not wrong else f"{wrong} times",
                not wrong,
            ),
        ],
        examples=examples[:3],
        remarks=[f"The gap between onnxruntime's two best logits is off by {gap:.3f} at most."],
    )


def _logits(runner: Runner, ids: Sequence[int]) -> np.ndarray:
    """The logits after each of these tokens, read at once: (tokens, vocabulary)."""
    known = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
    }
    ports = signature(runner, "model").inputs
    past = {name: port.empty() for name, port in ports.items() if "past" in name}
    return np.asarray(runner.run(Run("model", known | past, ["logits"])).outputs["logits"][0])


def _gaps(logits: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The distance in `logits` of the reference's best token to its second best: (tokens,)."""
    second, best = np.argpartition(reference, -2, axis=-1)[:, -2:].T
    rows = np.arange(len(logits))
    return np.asarray(logits[rows, best] - logits[rows, second])


def _context(bench: Bench, extent: Extent) -> int:
    return min(extent.context, extent.prompt_tokens + 7) if bench.quick else extent.context


def _agreement(tokens: int, parted: Sequence[float], held_same: int, decided: int) -> str:
    told = f"{tokens} tokens alike before any difference"
    if parted:
        told += (
            "; where they part the two best logits are "
            + ", ".join(f"{m:.3f}" for m in sorted(parted))
            + " apart"
        )
    return (
        f"{told}; read at once, {held_same} of {decided} tokens alike where they are more than {CLOSE} apart"
    )


CASE = Case(
    key="smollm2",
    title="SmolLM2-135M-Instruct, text generation",
    about="Thirty layers of LLaMA's kind with grouped heads and a cache; exported from the package's GGUF "
    "file (four bits a weight, which become floats). Token ids, weights and cache are secret; the cache "
    "stays at the servers, and only the place of the largest logit is opened. "
    "[performance.md](performance.md) gives the cost of a token on an otherwise idle machine.",
    packages=(SMOLLM2,),
    data="text",
    prepare=prepare,
    measure=measure,
)
