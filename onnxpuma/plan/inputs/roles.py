"""Who may see a model's inputs, and which of them are ids: decided by exact names, types and readers.

Exporters give masks, positions, token types and lengths conventional names. Such an input discloses which
positions exist, and nothing about their content. The whole name counts, including its case: `composition` is
no position.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Literal

import numpy as np

from onnxpuma.errors import ConfigError
from onnxpuma.graph.model import Graph
from onnxpuma.graph.patterns import matching
from onnxpuma.plan.inputs.spec import InputSpec

Role = Literal["mask", "token types", "positions", "length", "choice"]

_MASKS = (
    "attention_mask",
    "encoder_attention_mask",
    "decoder_attention_mask",
    "cross_attention_mask",
    "global_attention_mask",  # Longformer
    "visual_attention_mask",  # VisualBERT
    "vision_attention_mask",
    "pixel_attention_mask",  # Idefics, SmolVLM
    "pixel_mask",  # DETR, ViLT
    "image_attention_mask",
    "audio_attention_mask",
    "feature_attention_mask",  # spectra: Qwen-Audio
    "input_features_mask",
    "input_mask",  # BERT as Google wrote it
    "padding_mask",
    "attn_mask",
    "mask",
    # the arguments of torch.nn.Transformer
    "src_mask",
    "tgt_mask",
    "memory_mask",
    "key_padding_mask",
    "src_key_padding_mask",
    "tgt_key_padding_mask",
    "memory_key_padding_mask",
)
_TOKEN_TYPES = (
    "token_type_ids",
    "visual_token_type_ids",
    "segment_ids",  # BERT as Google wrote it
    "input_type_ids",  # and on TensorFlow Hub
)
_POSITIONS = ("position_ids", "decoder_position_ids", "cache_position")
_LENGTHS = (
    "past_sequence_length",
    "total_sequence_length",
    "past_seq_len",
    "total_seq_len",
    "seqlens_k",  # com.microsoft's GroupQueryAttention
    "nonpad_kv_seqlen",  # Attention of opset 24
    "write_indices",  # TensorScatter of opset 24
)
_CHOICES = ("use_cache_branch",)  # optimum's merged decoders

_TABLE: tuple[tuple[Role, tuple[str, ...]], ...] = (
    ("mask", _MASKS),
    ("token types", _TOKEN_TYPES),
    ("positions", _POSITIONS),
    ("length", _LENGTHS),
    ("choice", _CHOICES),
)
# Suffixes that exporters append: tf2onnx the number of a tensor, TorchScript that of a variable.
_SUFFIXES = ("", ":0", ".1")
ROLES: dict[str, Role] = {
    name + suffix: role for role, names in _TABLE for name in names for suffix in _SUFFIXES
}
"""Input name -> its role by convention."""

MOST_TOKEN_TYPES = 16
"""Rows of a table of token types; a larger table is one of words."""


def role_of(name: str, dtype: np.dtype, rows: int | None) -> Role | None:
    """The role of an integer or boolean input of this name by convention; None without one.

    rows: of the table that the input indexes, if it does. Positions index a table, and token types a small
    one; a "mask" or "length" that indexes a table consists of ids under a misleading name.
    """
    role = ROLES.get(name)
    if role is None or dtype.kind not in "iub":
        return None
    if rows is None or role == "positions" or (role == "token types" and rows <= MOST_TOKEN_TYPES):
        return role
    return None


_MOVES = ("Concat", "Expand", "Slice")  # besides layout operators


def open_inputs(
    graph: Graph, public: Sequence[str], secret: Sequence[str], unmatched: set[str] | None = None
) -> list[str]:
    """The inputs that the servers may see: by their conventional role, unless a pattern decides otherwise.

    Where a public and a secret pattern match, secret wins. Raises ConfigError as `matching`, and for a public
    text.
    """
    names = list(graph.inputs)
    wanted, kept = (matching("input", names, patterns, unmatched) for patterns in (public, secret))
    rows = tables(graph)
    by_name = [name for name, kind in graph.inputs.items() if role_of(name, kind.dtype, rows.get(name))]
    shown = [name for name in names if (name in by_name or name in wanted) and name not in kept]
    for name in shown:
        if graph.inputs[name].dtype.kind == "O":
            raise ConfigError(
                f"input '{name}' is text, and public inputs are numbers",
                "leave it secret: the client then computes what follows from it alone",
            )
    return shown


def looked_up(graph: Graph) -> set[str]:
    """The initializers whose rows are looked up at indices that are not constant, directly or after moves."""
    origins = {name: {name} for name in graph.initializers}
    found: set[str] = set()
    for node in graph.nodes:
        if 0 in node.traits.tables and node.inputs[1] not in graph.initializers:
            found |= origins.get(node.inputs[0] or "", set())
        elif node.traits.layout or node.op in _MOVES:
            moved = set().union(*(origins.get(name or "", set()) for name in node.inputs))
            origins.update((output, moved) for output in node.outputs)
    return found


def tables(graph: Graph) -> dict[str, int]:
    """Input that indexes a table by a Gather -> the rows of the smallest such table."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "Gather" and node.inputs[1] in graph.inputs and node.inputs[0] in graph.initializers:
            rows = graph.initializers[node.inputs[0]].shape[0]
            found[node.inputs[1]] = min(rows, found.get(node.inputs[1], rows))
    return found


def specs_of(
    graph: Graph,
    public: Sequence[str],
    resumed: Mapping[str, Sequence[str]],
    declared: Mapping[str, Sequence[float]],
    settled: Container[str],
) -> dict[str, InputSpec]:
    """The inputs of a graph, as a client must feed them."""
    rows, found = tables(graph), {}
    for name, kind in graph.inputs.items():
        shape, sources = kind.shape or (), tuple(resumed.get(name, ()))
        between = tuple(declared[name]) if name in declared else None
        found[name] = InputSpec(
            name,
            kind.dtype,
            shape,
            name not in public,
            rows.get(name),
            sources=sources,
            declared=between,
            settled=name in settled,
        )
    return found
