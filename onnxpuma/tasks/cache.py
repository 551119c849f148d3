"""The past of a text, kept where the model runs: its tokens, and perhaps padding in front of them.

A run's plan follows from its shapes. A text that is read a token at a time would have another cache length
for each, so copies of the first token's place fill the cache up in front: past and token together have a
multiple of BLOCK places, and the mask hides the copies. Servers learn how many tokens there are, as without
padding: the mask is public.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from onnxpuma.errors import ModelError
from onnxpuma.graph.model import Node
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.standard.padding import BLOCK
from onnxpuma.tasks.port import KeptValue, view

MASK, POSITIONS = "attention_mask", "position_ids"
# What moves numbers, besides layouts.
_MOVES = (
    *("Concat", "Expand", "Gather", "GatherElements", "GatherND"),
    *("Slice", "Split", "Tile", "Trilu", "Where"),
)


class Cache:
    """The values of one text, or of several written together, by the input that reads them.

    blocks: padding may stand in front of them (`hides_front`).
    """

    def __init__(self, blocks: bool) -> None:
        self.values: dict[str, KeptValue] = {}
        self._blocks = blocks
        # Of each value the axis that has a place for each token; None where it has none.
        self._axes: dict[str, int | None] = {}
        self._pads = self._tokens = 0  # of the values: padding in front, and tokens behind it

    @property
    def kept(self) -> list[KeptValue]:
        """All values, for their release."""
        return list(self.values.values())

    @property
    def divisible(self) -> bool:
        """Whether it is known which places belong to which token."""
        return None not in self._axes.values()

    def pads(self, tokens: int) -> int:
        """How many places of padding stand in front of so many tokens when one more is read."""
        fits = self._blocks and tokens > 0 and self.divisible
        return -(tokens + 1) % BLOCK if fits else 0

    def taken(self, pads: int, tokens: int) -> dict[str, KeptValue]:
        """The first so many tokens behind `pads` places of padding; as they are, values without a place for
        each token."""
        if not tokens:
            return {}
        if (pads, tokens) == (self._pads, self._tokens):
            return dict(self.values)
        found = {}
        for name, value in self.values.items():
            axis = self._axes[name]
            found[name] = value if axis is None else view(value, self._pads - pads, pads + tokens, axis)
        return found

    def grow(
        self, made: Mapping[str, KeptValue], feed: Mapping[str, Any], pads: int, tokens: int, new: int
    ) -> None:
        """Take over what a run of `new` tokens made after `pads` places of padding and `tokens` others.

        feed: that of the run. Raises ModelError where the padding is no longer known to be there.
        """
        self.values |= made
        for name, value in made.items():
            before = feed[name].shape if name in feed else None
            self._axes[name] = _grown(before, value.shape, pads + tokens, new)
        self._pads, self._tokens = pads, tokens + new
        if pads and not self.divisible:
            raise ModelError(
                "the cache of this model does not always grow by one place a token",
                "export the model with tools/export.py: its cache keeps all tokens",
            )


def _grown(before: Sequence[int] | None, after: Sequence[int], past: int, new: int) -> int | None:
    """The axis along which a present has one place for each token, from its shape and that of its past.

    past, new: the places of the past, and the tokens that the run read. None for any other present.
    """
    if before is None or len(before) != len(after):
        return None
    changed = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    grew = len(changed) == 1 and (before[changed[0]], after[changed[0]]) == (past, past + new)
    return changed[0] if grew else None


def padded(mask: np.ndarray, pads: int) -> np.ndarray:
    """(batch, places): the mask behind zeros for so many places of padding."""
    return np.pad(mask, ((0, 0), (pads, 0)))


def hides_front(blueprint: Blueprint) -> bool:
    """Whether padding may stand in front of the past of this graph, where its mask is zero.

    It takes positions, so they do not follow from places; mask and positions are public; and until the mask
    meets a secret value its numbers only move. A graph that counts them, to know how long the past is,
    expects the past in front.
    """
    if not {MASK, POSITIONS} <= {*blueprint.public_inputs}:
        return False
    secret = {*blueprint.inputs, *blueprint.weights} - {*blueprint.public_inputs}
    masks = {MASK}
    for node in blueprint.graph.nodes:
        read = {n for slot, n in enumerate(node.inputs) if n and slot not in node.traits.unread}
        if node.subgraphs and not masks.isdisjoint(node.reads):
            return False
        if not secret.isdisjoint(read):
            secret.update(node.outputs)
        elif not masks.isdisjoint(read):
            if not _moves(node, masks):
                return False
            masks.update(node.outputs)
    return True


def _moves(node: Node, masks: Collection[str]) -> bool:
    """Whether each number of the result follows from numbers of the mask that stood in one place."""
    traits = node.traits
    deciding = {node.inputs[slot] for slot in (*traits.shapes, *traits.indices) if slot < len(node.inputs)}
    if not deciding.isdisjoint(masks):
        return False
    return traits.layout or traits.rows in ("each", "broadcast") or node.op in _MOVES
