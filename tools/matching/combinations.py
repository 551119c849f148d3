"""The combinations: an architecture, its task, the exporter or the tool that changes it, the folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent

# Architecture for the reader, its catalogue name, the tasks it is exported for.
ARCHITECTURES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("BERT", "bert-base-uncased", ("text-classification", "feature-extraction")),
    ("RoBERTa", "roberta-base", ("token-classification",)),
    ("DistilBERT", "distilbert-base-uncased", ("question-answering",)),
    ("MPNet", "all-mpnet-base-v2", ("feature-extraction",)),
    ("GPT-2", "gpt2", ("text-generation", "text-generation-with-past")),
    ("LLaMA", "TinyLlama-1.1B", ("text-generation", "text-generation-with-past")),
    ("LLaMA 3.2", "Llama-3.2-1B", ("text-generation-with-past",)),
    ("SmolLM2", "SmolLM2-135M", ("text-generation", "text-generation-with-past")),
    ("Qwen2", "Qwen2-0.5B", ("text-generation", "text-generation-with-past")),
    ("Mistral", "Mistral-7B-v0.3", ("text-generation", "text-generation-with-past")),
    ("Gemma", "gemma-2b", ("text-generation", "text-generation-with-past")),
    ("T5", "t5-small", ("text2text-generation-with-past",)),
    ("Flan-T5", "flan-t5-small", ("text2text-generation-with-past",)),
    ("BART", "bart-base", ("text2text-generation-with-past",)),
    ("Marian", "opus-mt-en-de", ("text2text-generation-with-past",)),
    ("Whisper", "whisper-tiny", ("automatic-speech-recognition-with-past",)),
    ("ViT", "vit-base-patch16-224", ("image-classification",)),
    ("CLIP, vision half", "clip-vit-base-patch32", ("image-feature-extraction",)),
    ("ViT + GPT-2", "vit-gpt2-image-captioning", ("image-to-text-with-past",)),
    ("TrOCR", "trocr-base-printed", ("image-to-text-with-past",)),
    ("BLIP", "blip-image-captioning-base", ("image-to-text-with-past",)),
)
EXPORTERS = ("dynamo20", "dynamo23", "torchscript17", "optimum", "fused", "int8")
REFERENCE = "reference"  # folder of onnxruntime's model, where that differs
CHANGED = "torchscript17"  # its files are fused and converted to int8, as it has most to fuse
# Model types of onnxruntime's optimizer; it has none for the others.
FUSED = {
    "bert-base-uncased": "bert", "roberta-base": "bert", "distilbert-base-uncased": "bert", "gpt2": "gpt2",
    "t5-small": "t5", "bart-base": "bart", "whisper-tiny": "bart", "vit-base-patch16-224": "vit",
    "clip-vit-base-patch32": "clip",
}  # fmt: skip


@dataclass(frozen=True)
class Combination:
    """One architecture, one task, one exporter."""

    title: str
    model: str
    task: str
    exporter: str

    @property
    def name(self) -> str:
        return f"{self.exporter}/{self.model}/{self.task}"

    def folder(self, cache: Path) -> Path:
        return cache / self.exporter / self.model / self.task

    def source(self) -> Combination | None:
        """The export that this one is derived from; None where it is made from the model."""
        if self.exporter not in ("fused", "int8"):
            return None
        return Combination(self.title, self.model, self.task, CHANGED)

    def command(self, cache: Path, optimum: Path | None) -> list[str]:
        """The command that exports it, tiny, with random weights; `optimum` is the Python of optimum's
        environment."""
        source, out = self.source(), str(self.folder(cache))
        if source is not None:
            how = ["--how", self.exporter, "--kind", FUSED.get(self.model, "bert"), "--out", out]
            script = str(TOOLS / "matching" / "changed.py")
            return [sys.executable, script, *how, "--source", str(source.folder(cache))]
        options = ["--model", self.model, "--task", self.task, "--out", out]
        if self.exporter == "optimum":
            return [str(optimum), str(TOOLS / "matching" / "with_optimum.py"), *options]
        exporter = self.exporter.rstrip("0123456789")
        chosen = ["--tiny", "--exporter", exporter, "--opset", self.exporter.removeprefix(exporter)]
        return [sys.executable, str(TOOLS / "export.py"), *options, *chosen]


def combinations(exporters: Sequence[str] = EXPORTERS, only: Sequence[str] = ()) -> list[Combination]:
    """All of them, or those in whose name (exporter/model/task) one of `only` occurs."""
    every = [
        Combination(title, model, task, exporter)
        for exporter in exporters
        for title, model, tasks in ARCHITECTURES
        for task in tasks
        if exporter != "fused" or model in FUSED
    ]
    return [one for one in every if not only or any(part in one.name for part in only)]
