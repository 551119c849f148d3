"""Fixtures of the tasks' tests: small models with random and with scripted weights, and their tokenizer.

A scripted model follows a table: after token t comes the first of `follow[t]`, or the second if the first is
suppressed. A random one mixes the token it reads with the mean of all that it has read, cache included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ViTImageProcessorPil, WhisperFeatureExtractor

from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import Run

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, END = 0, 1, 2
VOCABULARY = len(SPECIAL) + 256
WIDTH = 6
RATE, MELS, FRAMES = 16000, 4, 20
SIDE = 4
CHAT = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def byte_tokens(text: str) -> list[int]:
    """The ids of a text, one per byte."""
    return [len(SPECIAL) + byte for byte in text.encode()]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for every byte, so that a letter beyond ASCII takes several tokens."""
    # The printable characters by which GPT-2's tokenizer denotes bytes, in the order of the bytes.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    vocabulary = {name: i for i, name in enumerate(SPECIAL)}
    vocabulary |= {letters[byte]: len(SPECIAL) + byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def scripted(follow: Mapping[int, Sequence[int]]) -> dict[str, np.ndarray]:
    """Weights that give a token's successors the largest logits, the first successor the very largest."""
    after = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    for token, successors in follow.items():
        for rank, successor in enumerate(successors):
            after[token, successor] = 8.0 - 2 * rank
    mean = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    return {"table": np.eye(VOCABULARY, dtype=np.float32), "after": after, "mean": mean}


def drawn(seed: int = 0, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Random weights."""
    rng = np.random.default_rng(seed)
    sizes = {"table": (VOCABULARY, width), "after": (width, VOCABULARY), "mean": (width, VOCABULARY)}
    return {name: rng.normal(0, 1, size).astype(np.float32) for name, size in sizes.items()}


def chain(text: str, start: int) -> dict[int, list[int]]:
    """Each byte's successor, for a text whose bytes all differ: `start`, the text, the end."""
    ids = [start, *byte_tokens(text), END]
    assert len(set(ids)) == len(ids)
    return {a: [b] for a, b in pairwise(ids)}


@dataclass
class Sketch:
    """A graph under construction."""

    nodes: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def take(self, name: str, kind: int, shape: Sequence[int | str]) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))

    def give(self, name: str, shape: Sequence[int | str]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def save(self, path: Path) -> None:
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)


def decoder_graph(weights: Mapping[str, np.ndarray], cached: bool, cross: str | None = None) -> Sketch:
    """ids -> logits of the last token read and the mean of all.

    cached: it takes a past and returns the present. cross: None; "first": it adds what it derives from the
    encoder's states, and returns that; "later": it takes that as an input.
    """
    sketch = Sketch(constants={**weights, "one": np.array([1]), "two": np.array([2])})
    width = weights["table"].shape[1]
    side = "" if cross is None else ".decoder"
    sketch.take("input_ids", TensorProto.INT64, ["batch", "sequence"])
    sketch.add("Gather", ["table", "input_ids"], "rows")
    present = sketch.add("Unsqueeze", ["rows", "one"], "heads")  # (batch, 1, sequence, width)
    if cross is None:
        sketch.take("attention_mask", TensorProto.INT64, ["batch", "total"])
    if cached and cross != "first":
        past = f"past_key_values.0{side}.key"
        sketch.take(past, TensorProto.FLOAT, ["batch", 1, "past", width])
        present = sketch.add("Concat", [past, "heads"], "present_rows", axis=2)
    sketch.add("ReduceMean", [present, "two"], "seen", keepdims=0)  # (batch, 1, width)
    sketch.add("MatMul", ["rows", "after"], "a")
    sketch.add("MatMul", ["seen", "mean"], "b")
    sketch.add("Add", ["a", "b"], "logits" if cross is None else "own")
    if cross is not None:
        _cross(sketch, cross, cached, width)
    sketch.give("logits", ["batch", "sequence", VOCABULARY])
    if cached:
        name = sketch.add("Identity", [present], f"present.0{side}.key")
        sketch.give(name, ["batch", 1, "total", width])
    return sketch


def _cross(sketch: Sketch, cross: str, cached: bool, width: int) -> None:
    """Add to the logits the mean of the encoder's states that the mask shows."""
    sketch.take("encoder_attention_mask", TensorProto.INT64, ["batch", "encoded"])
    key = "past_key_values.0.encoder.key"
    if cross == "first":
        sketch.take("encoder_hidden_states", TensorProto.FLOAT, ["batch", "encoded", width])
        key = sketch.add("Unsqueeze", ["encoder_hidden_states", "one"], "present.0.encoder.key")
        if cached:
            sketch.give(key, ["batch", 1, "encoded", width])
    else:
        sketch.take(key, TensorProto.FLOAT, ["batch", 1, "encoded", width])
    sketch.constants["mask_axes"] = np.array([1, 3])
    sketch.add("Cast", ["encoder_attention_mask"], "shown", to=TensorProto.FLOAT)
    sketch.add("Unsqueeze", ["shown", "mask_axes"], "column")  # (batch, 1, encoded, 1)
    sketch.add("Mul", [key, "column"], "masked")
    sketch.add("ReduceMean", ["masked", "two"], "heard", keepdims=0)  # (batch, 1, width)
    sketch.add("MatMul", ["heard", "mean"], "c")
    sketch.add("Add", ["own", "c"], "logits")


def encoder_graph(sent: str, width: int) -> Sketch:
    """The encoder's input -> last_hidden_state (batch, encoded, width)."""
    rng = np.random.default_rng(7)
    sketch = Sketch(constants={"states": rng.normal(0, 1, (VOCABULARY, width)).astype(np.float32)})
    if sent == "input_ids":
        sketch.take(sent, TensorProto.INT64, ["batch", "sequence"])
        sketch.take("attention_mask", TensorProto.INT64, ["batch", "sequence"])
        sketch.add("Gather", ["states", sent], "last_hidden_state")
    else:
        many = {"input_features": MELS, "input_values": 1, "pixel_values": 3}[sent]
        sketch.constants = {"states": rng.normal(0, 1, (many, width)).astype(np.float32)}
        sizes = {"input_features": [MELS, FRAMES], "input_values": [FRAMES]}.get(sent, [3, SIDE, SIDE])
        sketch.take(sent, TensorProto.FLOAT, ["batch", *sizes])
        sketch.constants["flat"] = np.array([1, many, -1])
        sketch.add("Reshape", [sent, "flat"], "columns")
        sketch.add("Transpose", ["columns"], "rows", perm=[0, 2, 1])
        sketch.add("MatMul", ["rows", "states"], "last_hidden_state")
    sketch.give("last_hidden_state", ["batch", "encoded", width])
    return sketch


def without_mask(sketch: Sketch) -> Sketch:
    """The decoder for an encoder of sounds or pictures, whose states have one length and no mask."""
    sketch.inputs = [value for value in sketch.inputs if value.name != "encoder_attention_mask"]
    dropped = ("shown", "column", "masked")
    sketch.nodes = [node for node in sketch.nodes if node.output[0] not in dropped]
    for node in sketch.nodes:
        if node.output[0] == "heard":
            key = next(
                n for n in ("present.0.encoder.key", "past_key_values.0.encoder.key") if _has(sketch, n)
            )
            node.input[0] = key
    return sketch


def _has(sketch: Sketch, name: str) -> bool:
    return any(v.name == name for v in sketch.inputs) or any(name in n.output for n in sketch.nodes)


def write_folder(path: Path, config: Mapping[str, Any], generation: Mapping[str, Any]) -> Path:
    """Write the files beside the graphs: configuration and tokenizer."""
    path.mkdir(parents=True, exist_ok=True)
    byte_tokenizer().save_pretrained(path)
    (path / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY, **config}))
    (path / "generation_config.json").write_text(json.dumps(generation))
    return path


GENERATION = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}


def causal_folder(
    path: Path,
    weights: Mapping[str, np.ndarray],
    cached: bool = True,
    generation: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a decoder, with a cache or without."""
    decoder_graph(weights, cached).save(path / "model.onnx")
    kind = {"model_type": "llama", "max_position_embeddings": 64, **(config or {})}
    return write_folder(path, kind, GENERATION | dict(generation or {}))


def pair_folder(
    path: Path,
    weights: Mapping[str, np.ndarray],
    sent: str = "input_ids",
    cached: bool = True,
    generation: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write an encoder, and one decoder or two."""
    width = weights["table"].shape[1]
    bare = (lambda sketch: sketch) if sent == "input_ids" else without_mask
    encoder_graph(sent, width).save(path / "encoder_model.onnx")
    bare(decoder_graph(weights, cached, "first")).save(path / "decoder_model.onnx")
    if cached:
        bare(decoder_graph(weights, cached, "later")).save(path / "decoder_with_past_model.onnx")
    if sent == "input_features":
        made = {"feature_size": MELS, "sampling_rate": RATE, "hop_length": RATE // FRAMES}
        WhisperFeatureExtractor(chunk_length=1, n_fft=400, **made).save_pretrained(path)
    if sent == "pixel_values":
        ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(path)
    kind = {"max_position_embeddings": 64, "is_encoder_decoder": True, **(config or {})}
    return write_folder(path, kind, GENERATION | {"decoder_start_token_id": START} | dict(generation or {}))


class Watched(PlainRunner):
    """Runs in the clear, and records its requests."""

    def __init__(self, model: str | Path) -> None:
        super().__init__(model)
        self.calls: list[tuple[str, dict[str, Any], list[str], list[str]]] = []
        self.held: list[Any] = []
        self.most_held = 0
        self.closed = False
        self.fail_at: int | None = None

    def run(self, run: Run) -> Any:
        if self.fail_at == len(self.calls):
            raise KeyboardInterrupt
        self.calls.append((run.graph, dict(run.feed), list(run.outputs), list(run.keep)))
        result = super().run(run)
        self.held += result.kept.values()
        self.most_held = max(self.most_held, len(self.held))
        self.release(run.release)
        return result

    def release(self, held: Sequence[Any]) -> None:
        for value in held:
            place = next(i for i, other in enumerate(self.held) if other is value)
            del self.held[place]

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The builders above, for the tests in other files."""
    built = (scripted, drawn, chain, byte_tokens, byte_tokenizer, causal_folder, pair_folder, write_folder)
    made = SimpleNamespace(**{function.__name__: function for function in built})
    made.Sketch, made.Watched, made.encoder_graph = Sketch, Watched, encoder_graph
    made.START, made.END, made.PAD, made.VOCABULARY = START, END, PAD, VOCABULARY
    made.RATE, made.SIDE = RATE, SIDE
    return made
