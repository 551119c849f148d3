"""Whisper's instructions: tokens before the text that set language, task and `no timestamps`."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks.folder import ModelFolder

TASKS = ("transcribe", "translate")


def is_multilingual(folder: ModelFolder) -> bool:
    """Whether the model takes a language and a task."""
    return bool(folder.generation.get("lang_to_id"))


def language_id(folder: ModelFolder, language: str | None) -> int | None:
    """The token of a language, by its code or English name; None if the model is to hear the language.

    Raises InputError for a language that the model does not know, and for any language if it knows just one.
    """
    known = folder.generation.get("lang_to_id") or {}
    if language is None:
        return None
    if not known:
        raise InputError("this model knows only one language", "omit the language")
    code = language.lower()
    found = known.get(f"<|{code}|>", known.get(_codes().get(code), known.get(code)))
    if found is None:
        codes = ", ".join(sorted(name.strip("<|>") for name in known))
        raise InputError(f"the model knows no language '{language}'", f"it knows {codes}")
    return int(found)


def not_a_language(folder: ModelFolder) -> np.ndarray:
    """Every id that is not a language, int64. With these suppressed, the model names the spoken language."""
    languages = set(folder.generation["lang_to_id"].values())
    size = folder.value("vocab_size")
    if size is None:
        raise ConfigError("config.json has no vocab_size", "name the language: language='en'")
    return np.array([token for token in range(size) if token not in languages], np.int64)


def prompt(folder: ModelFolder, start: int, language: int | None, task: str | None) -> list[int]:
    """The tokens that the decoder reads before it writes: start, language, task, no timestamps.

    language: its token; None only for a model for English alone. Raises InputError for an unknown task, and
    for a translation by a model that cannot translate.
    """
    generation = folder.generation
    tasks = generation.get("task_to_id") or {}
    if task is not None and (task not in TASKS or (task not in tasks and task != "transcribe")):
        can = ", ".join(tasks) or "transcribe"
        raise InputError(f"the model has no task '{task}'", f"it can {can}")
    made = [start]
    if language is not None:
        made += [language, *((int(tasks[task or "transcribe"]),) if tasks else ())]
    else:
        made += [int(token) for _, token in folder.value("forced_decoder_ids") or () if token is not None]
    silent = generation.get("no_timestamps_token_id")
    return [*made, int(silent)] if silent is not None and silent not in made else made


def _codes() -> dict[str, Any]:
    """English names of languages -> tokens of their codes."""
    try:
        from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE
    except ImportError:
        return {}
    return {name: f"<|{code}|>" for name, code in TO_LANGUAGE_CODE.items()}
