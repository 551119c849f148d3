"""From a task's name and a model to the pipeline that does the one with the other."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError
from onnxpuma.roles.shared_model import is_shared
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.caption import ImageToText
from onnxpuma.tasks.classify import ImageClassification, TextClassification
from onnxpuma.tasks.decoder import ENCODER, FIRST, MODEL
from onnxpuma.tasks.features import FeatureExtraction, ImageFeatureExtraction
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import LOGITS, NEXT_TOKEN, Runner
from onnxpuma.tasks.secure import at_servers, on_this_machine
from onnxpuma.tasks.speech import SpeechRecognition
from onnxpuma.tasks.text_writer import Summarization, TextGeneration, TextToText, Translation
from onnxpuma.transport.curve import KeyPair

TASKS: dict[str, type[Pipeline]] = {
    "text-classification": TextClassification,
    "text-generation": TextGeneration,
    "summarization": Summarization,
    "translation": Translation,
    "text2text-generation": TextToText,
    "automatic-speech-recognition": SpeechRecognition,
    "image-to-text": ImageToText,
    "feature-extraction": FeatureExtraction,
    "image-feature-extraction": ImageFeatureExtraction,
    "image-classification": ImageClassification,
}
ALIASES = {"sentiment-analysis": "text-classification", "image-captioning": "image-to-text"}

_CAUSAL, _TEXTS = "text-generation", ("text2text-generation", "summarization", "translation")
_SOUND, _PICTURE = "automatic-speech-recognition", "image-to-text"
_HEARD = frozenset({"input_features", "input_values"})  # a spectrogram, or samples


def pipeline(
    task: str | None = None,
    model: str | Path | None = None,
    *,
    folder: str | Path | None = None,
    cluster: ClusterConfig | str | Path | None = None,
    key: KeyPair | str | Path | None = None,
    plain: bool = False,
    runner: Runner | None = None,
    threads: int = 1,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    public_inputs: Sequence[str] = (),
    **options: Any,
) -> Pipeline:
    """A pipeline as Transformers' function of this name makes them, whose model runs on shares.

    task: one of TASKS; None for the one that the model is made for. model: the folder that tools/export.py
    wrote, which three servers on this machine run, each with `threads`; plain=True for onnxruntime, without
    any protection. cluster, key: ask these servers, which have the model; by default the key is
    `client.secret` beside cluster.toml. folder: where configuration and tokenizer are, if not in `model`.
    tokenizer, feature_extractor, image_processor: in place of those in the folder. runner: where the model
    runs, if it is none of these; it is closed with the pipeline. public_inputs: what the servers may see
    beside masks, positions and their like, as `Client` takes it. options: of every call.

    Raises ConfigError for what is missing or contradicts itself, and what is raised by reading the model,
    or by starting or reaching the servers.
    """
    place = folder if folder is not None else model
    if place is None:
        raise ConfigError(
            "where are the configuration and the tokenizer of the model?", "give its folder: folder='gpt2'"
        )
    if folder is None and is_shared(Path(place)):
        raise ConfigError(
            f"{place} is a shared model, which has no tokenizer",
            "give the exported folder too: folder='gpt2'",
        )
    home = ModelFolder(place, tokenizer, feature_extractor, image_processor)
    named = None if task is None else task_named(task)
    if runner is None:
        runner = _runner(model, cluster, key, plain, threads, public_inputs)
    try:
        fitting = tasks_of(runner, home)
        if named is not None and named not in fitting:
            raise ConfigError(f"this model is not made for {named}", f"it is made for {' or '.join(fitting)}")
        chosen = named or fitting[0]
        return TASKS[chosen](chosen, runner, home, options)
    except BaseException:
        runner.close()
        raise


def task_named(task: str) -> str:
    """The task, by its name or another of it. ConfigError listing all of them."""
    name = ALIASES.get(task, task).removesuffix("-with-past")
    if name.startswith("translation_"):
        name = "translation"
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"there is no task '{task}'", f"{hint}there are {', '.join(TASKS)}")
    return name


def tasks_of(runner: Runner, folder: ModelFolder) -> tuple[str, ...]:
    """The tasks that a model can do, the one it is made for first: seen by what its graphs take and give.

    Raises ConfigError for a model that can do none of them.
    """
    graphs = runner.graphs
    if ENCODER in graphs and FIRST in graphs:
        takes = graphs[ENCODER].inputs
        if "input_ids" in takes:
            return _TEXTS
        return (_SOUND,) if not _HEARD.isdisjoint(takes) else (_PICTURE,)
    found: tuple[str, ...] = ()
    if MODEL in graphs:
        takes, gives = graphs[MODEL].inputs, graphs[MODEL].outputs
        if "input_ids" in takes:
            found = _of_text(gives, folder)
        elif "pixel_values" in takes:
            found = ("image-classification",) if LOGITS in gives else ("image-feature-extraction",)
    if not found:
        raise ConfigError(
            f"no task fits this model, whose graphs are {', '.join(graphs)}",
            "run it with onnxpuma.InferenceSession, or export it with tools/export.py",
        )
    return found


def _of_text(gives: tuple[str, ...], folder: ModelFolder) -> tuple[str, ...]:
    made_for = " ".join(folder.config.get("architectures") or ())
    if any(other in made_for for other in ("ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering")):
        return ()
    if NEXT_TOKEN in gives or "ForCausalLM" in made_for or "LMHead" in made_for:
        return (_CAUSAL,)
    return ("text-classification",) if LOGITS in gives else ("feature-extraction",)


def _runner(
    model: str | Path | None,
    cluster: ClusterConfig | str | Path | None,
    key: KeyPair | str | Path | None,
    plain: bool,
    threads: int,
    public_inputs: Sequence[str],
) -> Runner:
    if cluster is not None:
        if plain or model is not None:
            raise ConfigError(
                "the servers of the cluster have the model: neither `model` nor `plain` goes with `cluster`",
                "name the folder of its tokenizer: folder='gpt2'",
            )
        return at_servers(cluster, key, public_inputs)
    if model is None:
        raise ConfigError("neither a model nor a cluster was given", "give the folder of the exported model")
    return PlainRunner(model, threads) if plain else on_this_machine(model, threads, public_inputs)
