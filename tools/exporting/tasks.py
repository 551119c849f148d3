"""What each task needs of Transformers: the class that loads it, its inputs, the outputs that are kept."""

from __future__ import annotations

from dataclasses import dataclass

from exporting import ExportError


@dataclass(frozen=True)
class Task:
    """One task: `outputs` are fields of the model's result, kept when the architecture gives them."""

    auto_class: str
    modality: str  # "text" or "image"
    outputs: tuple[str, ...]
    mean_pooled: bool = False  # return the mean of last_hidden_state over the unmasked positions instead


TASKS: dict[str, Task] = {
    "feature-extraction": Task("AutoModel", "text", ("last_hidden_state", "pooler_output")),
    "sentence-similarity": Task("AutoModel", "text", ("sentence_embedding",), mean_pooled=True),
    "text-classification": Task("AutoModelForSequenceClassification", "text", ("logits",)),
    "token-classification": Task("AutoModelForTokenClassification", "text", ("logits",)),
    "question-answering": Task("AutoModelForQuestionAnswering", "text", ("start_logits", "end_logits")),
    "fill-mask": Task("AutoModelForMaskedLM", "text", ("logits",)),
    "text-generation": Task("AutoModelForCausalLM", "text", ("logits",)),
    "image-classification": Task("AutoModelForImageClassification", "image", ("logits",)),
    "image-feature-extraction": Task("AutoModel", "image", ("last_hidden_state", "pooler_output")),
}

# What the client sends, by model type. RoBERTa's positions are derived from the mask: see tracing.Wrapped.
TEXT_INPUTS: dict[str, tuple[str, ...]] = {
    "bert": ("input_ids", "attention_mask", "token_type_ids"),
}


def task_named(name: str) -> Task:
    """The task of that name. Raises ExportError, listing all of them."""
    if name not in TASKS:
        raise ExportError(f"there is no task {name!r}", f"the tasks are {', '.join(TASKS)}")
    return TASKS[name]


def input_names(task: Task, model_type: str) -> tuple[str, ...]:
    """The graph's inputs, in order, for an architecture."""
    if task.modality == "image":
        return ("pixel_values",)
    return TEXT_INPUTS.get(model_type, ("input_ids", "attention_mask"))
