"""From the name of a task and a model to the pipeline that runs them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError
from onnxpuma.graph.next_token import LOGITS, NEXT_TOKEN
from onnxpuma.roles.owner.samples import Samples
from onnxpuma.roles.shared.model import is_shared
from onnxpuma.tasks.base import Pipeline
from onnxpuma.tasks.calibration import Hearing, Recorder, TaskSamples, items_of
from onnxpuma.tasks.caption import ImageToText
from onnxpuma.tasks.classify import ImageClassification, TextClassification
from onnxpuma.tasks.decoder import ENCODER, FIRST, MODEL
from onnxpuma.tasks.features import FeatureExtraction, ImageFeatureExtraction
from onnxpuma.tasks.folder import ModelFolder
from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import Runner
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
# Pipelines that feed a model which no task fits, by the input that tells what it takes.
_ONCE: dict[str, type[Pipeline]] = {
    "input_ids": FeatureExtraction,
    "pixel_values": ImageFeatureExtraction,
    "input_values": Hearing,
    "input_features": Hearing,
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
    calibrate: Iterable[Any] | None = None,
    **options: Any,
) -> Pipeline:
    """A pipeline like those of Transformers' function of this name, whose model runs on shares.

    task: one of TASKS; None for the one that the model is made for.
    model: the folder that tools/export.py wrote; three servers on this machine run it.
    folder: where configuration and tokenizer are, if not in `model`.
    cluster: servers to use instead, which have the model already; of several `model` names one.
    key: the client's key; by default `client.secret` beside cluster.toml.
    plain: run `model` in onnxruntime, without any protection.
    runner: where the model runs instead of all of these; it is closed with the pipeline.
    threads: of each server on this machine.
    tokenizer, feature_extractor, image_processor: used in place of those in the folder.
    public_inputs: what the servers may see beside masks, positions and the like, as for `Client`.
    calibrate: samples of the task's inputs, from which a model shared here gets its ranges (`calibration`).
    options: for every call.

    Raises ConfigError for arguments that are missing or contradict each other, and the errors of reading the
    model, of calibrating it, and of starting or reaching the servers.
    """
    place = folder if folder is not None else model
    if place is None:
        raise ConfigError(
            "where are the configuration and the tokenizer of the model?", "name its folder: folder='gpt2'"
        )
    if folder is None and is_shared(Path(place)):
        raise ConfigError(
            f"{place} is a shared model, which has no tokenizer",
            "name the exported folder too: folder='gpt2'",
        )
    home = ModelFolder(place, tokenizer, feature_extractor, image_processor)
    named = None if task is None else task_named(task)
    samples = None
    if calibrate is not None:
        _check_shared_here(model, cluster, plain, runner)
        samples = _samples(str(model), home, named, calibrate, (), options)
    if runner is None:
        runner = _runner(model, cluster, key, plain, threads, public_inputs, samples)
    try:
        fitting = tasks_of(runner, home)
        if named is not None and named not in fitting:
            raise ConfigError(f"this model is not made for {named}", f"it is made for {' or '.join(fitting)}")
        chosen = named or fitting[0]
        return TASKS[chosen](chosen, runner, home, options)
    except BaseException:
        runner.close()
        raise


def calibration(
    model: str | Path,
    given: Iterable[Any],
    *,
    folder: str | Path | None = None,
    task: str | None = None,
    names: Sequence[str] = (),
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    **options: Any,
) -> dict[str, Samples]:
    """Samples for `roles.owner.share_model(samples=...)`, by graph, made from inputs of the model's task.

    given: inputs that the task takes: texts, chats, pictures (or bytes (height, width, 3)), recordings (or
    samples at the model's rate). names: of the samples, for errors. The other arguments are those of
    `pipeline`. onnxruntime runs a sample in the clear when the iteration reaches it; a model that writes
    continues it by a few tokens.

    Raises the errors of `pipeline`; InputError if there is no sample, and during the iteration for a sample
    that fails.
    """
    home = ModelFolder(model if folder is None else folder, tokenizer, feature_extractor, image_processor)
    return _samples(model, home, None if task is None else task_named(task), given, names, options)


def task_named(task: str) -> str:
    """The task of this name or alias. A ConfigError lists all tasks."""
    name = ALIASES.get(task, task).removesuffix("-with-past")
    if name.startswith("translation_"):
        name = "translation"
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"there is no task '{task}'", f"{hint}choose from {', '.join(TASKS)}")
    return name


def tasks_of(runner: Runner, folder: ModelFolder) -> tuple[str, ...]:
    """The tasks that a model can do, judged by its graphs' inputs and outputs; first the one it is made for.

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
    samples: Mapping[str, Samples] | None,
) -> Runner:
    if cluster is not None:
        if plain or isinstance(model, Path) or (model is not None and Path(model).exists()):
            raise ConfigError(
                "neither a folder nor `plain` goes with `cluster`: its servers have the model already",
                "name the folder of its tokenizer, folder='gpt2'; model='small' is for servers of several",
            )
        return at_servers(cluster, key, public_inputs, model or "")
    if model is None:
        raise ConfigError("neither a model nor a cluster was given", "name the folder of the exported model")
    if plain:
        return PlainRunner(model, threads)
    return on_this_machine(model, threads, public_inputs, samples)


def _check_shared_here(model: Any, cluster: Any, plain: bool, runner: Runner | None) -> None:
    if model is None or cluster is not None or plain or runner is not None or is_shared(Path(model)):
        raise ConfigError(
            "calibrate is for a model that is shared here",
            "its owner calibrates it while sharing: onnxpuma share --calibrate, or share_model(samples=...)",
        )


def _samples(
    model: str | Path,
    home: ModelFolder,
    named: str | None,
    given: Iterable[Any],
    names: Sequence[str],
    options: Mapping[str, Any],
) -> dict[str, Samples]:
    items = items_of(given)
    runner = Recorder(model)
    pipe = _recorded(runner, home, named, options)
    return {graph: TaskSamples(pipe, graph, items, names) for graph in runner.graphs}


def _recorded(runner: Recorder, home: ModelFolder, named: str | None, options: Mapping[str, Any]) -> Pipeline:
    """The pipeline that feeds the model. If no task fits a model that runs once, it is one of `_ONCE`."""
    if named is not None and named not in tasks_of(runner, home):
        raise ConfigError(
            f"this model is not made for {named}", f"it is made for {' or '.join(tasks_of(runner, home))}"
        )
    takes = runner.graphs[MODEL].inputs if MODEL in runner.graphs else {}
    try:
        chosen = named or tasks_of(runner, home)[0]
    except ConfigError:
        if not takes.keys() & _ONCE.keys():
            raise
        return next(_ONCE[name] for name in _ONCE if name in takes)(MODEL, runner, home, options)
    return TASKS[chosen](chosen, runner, home, options)
