"""How many files: a task's form determines the parts of a model."""

from __future__ import annotations

from typing import Any

from exporting.causal import causal
from exporting.encoder_decoder import encoder_decoder
from exporting.parts import Part
from exporting.tasks import Task
from exporting.whole import whole


def parts_of(model: Any, task: Task) -> list[Part]:
    """The files of an export, in the order in which they run. Raises ExportError."""
    if task.form == "causal":
        return causal(model)
    if task.form == "encoder-decoder":
        return encoder_decoder(model, task)
    return whole(model, task)
