"""Each task's requirements of Transformers: the class that loads it, the client's inputs, the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporting import ExportError

Form = Literal["whole", "causal", "encoder-decoder"]


@dataclass(frozen=True)
class Task:
    """One task."""

    auto_class: str
    modality: Literal["text", "image", "audio"]  # of the first input
    outputs: tuple[str, ...] = ("logits",)  # fields of the model's result; those it lacks are dropped
    form: Form = "whole"  # one file for one run, one for every token ("causal"), or encoder and two decoders
    mean_pooled: bool = False  # return the mean of last_hidden_state over the unmasked positions instead


TASKS: dict[str, Task] = {
    "feature-extraction": Task("AutoModel", "text", ("last_hidden_state", "pooler_output")),
    "sentence-similarity": Task("AutoModel", "text", ("sentence_embedding",), mean_pooled=True),
    "text-classification": Task("AutoModelForSequenceClassification", "text"),
    "token-classification": Task("AutoModelForTokenClassification", "text"),
    "question-answering": Task("AutoModelForQuestionAnswering", "text", ("start_logits", "end_logits")),
    "fill-mask": Task("AutoModelForMaskedLM", "text"),
    "text-generation": Task("AutoModelForCausalLM", "text"),
    "text-generation-with-past": Task("AutoModelForCausalLM", "text", form="causal"),
    "text2text-generation": Task("AutoModelForSeq2SeqLM", "text", form="encoder-decoder"),
    "automatic-speech-recognition": Task("AutoModelForSpeechSeq2Seq", "audio", form="encoder-decoder"),
    "image-to-text": Task("AutoModelForImageTextToText", "image", form="encoder-decoder"),
    "image-classification": Task("AutoModelForImageClassification", "image"),
    "image-feature-extraction": Task(
        "AutoModel", "image", ("last_hidden_state", "pooler_output", "image_embeds")
    ),
}

ALIASES = {
    "summarization": "text2text-generation",
    "translation": "text2text-generation",
    "sentence-embedding": "sentence-similarity",
}
PAST = "-with-past"


def task_named(name: str) -> Task:
    """The task of that name or alias; an encoder-decoder has a cache with and without `-with-past`.

    Raises ExportError, listing all of them.
    """
    plain = name.removesuffix(PAST)
    found = TASKS.get(name) or TASKS.get(ALIASES.get(plain, plain))
    if found is None or (name.endswith(PAST) and found.form == "whole"):
        known = ", ".join([*TASKS, *ALIASES])
        raise ExportError(f"there is no task {name!r}", f"the tasks are {known}")
    return found
