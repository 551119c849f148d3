"""Extra fraction bits for weights of small numbers and values computed from them: both keep their digits.

A product takes a factor at any scale and is truncated by that much more. So a weight whose largest number
lies below 2^-6, 2^-10 and so on gets that many fraction bits more: the words of both factors and of the
product are as large as for numbers of ordinary size, and so are their ranges. A product of such weights, or a
row looked up in one, keeps the bits as long as all its readers take them.

The scale of an array is public. An array with any other reader, directly or after layout operators, keeps the
18 bits that all other values have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import onnxpuma.ops  # noqa: F401  (registers the operators)
from onnxpuma.graph.model import Graph, Node
from onnxpuma.ops.registry import find
from onnxpuma.standard.fixed_point import FRACTION, LEAST_SPARE, MOST_SPARE

STEP = 4  # bits from one scale to the next: the scale discloses the largest number up to a factor of 16
DEFERRED_ROOM = 16  # bits above the point that every reader of an untruncated value needs
INPUT_ROOM = 22  # bits above the point of a product that is added to values as large as inputs


def fractions_of(
    graph: Graph, secret: Collection[str], public_inputs: Collection[str], sizes: Mapping[str, float]
) -> dict[str, int]:
    """Secret initializer -> its fraction bits, where they are more than 18.

    sizes: the largest magnitude in each of them (`measure.measure`); one that is absent keeps 18 bits.
    """
    scales = Scales(graph.nodes, graph, secret, public_inputs)
    found: dict[str, int] = {}
    for name in secret:
        spare = _spare(sizes.get(name, 0.0))
        spare = min(scales.most(name), spare) if spare >= LEAST_SPARE else 0
        if spare >= LEAST_SPARE:
            found[name] = spare - (spare - LEAST_SPARE) % STEP
    while True:  # a table gains nothing if the rows looked up in it are truncated at once
        made = scales.made(found)
        idle = [name for name in found if not scales.serves(name, made)]
        if not idle:
            return {name: FRACTION + spare for name, spare in found.items()}
        for name in idle:
            del found[name]


def _spare(largest: float) -> int:
    """The largest k for which all numbers are below 2^-k in magnitude; 0 for numbers of ordinary size."""
    if not 0 < largest < 2.0**-LEAST_SPARE:
        return 0
    return -math.floor(math.log2(largest)) - 1


class Scales:
    """How far the extra fraction bits of weights reach in a graph."""

    def __init__(
        self,
        nodes: Sequence[Node],
        graph: Graph,
        secret: Collection[str],
        public_inputs: Collection[str],
        resting: Collection[str] = (),
    ) -> None:
        """nodes: those that run. secret: the weights. resting: values that keep 18 bits whatever they are
        computed from; values that a branch or a loop captures always do.
        """
        self._nodes = nodes
        self._resting = {*resting, *(n for node in nodes for g in node.subgraphs for n in g.captured())}
        self._uses: dict[str, list[tuple[Node, int]]] = {}
        self._public = {*public_inputs, *(name for name in graph.initializers if name not in secret)}
        self._constant = {*secret, *self._public}.difference(public_inputs)
        for node in nodes:
            if all(name in self._public for name in node.inputs if name) or node.traits.of_shape:
                self._public.update(node.outputs)
            if all(name in self._constant for name in node.inputs if name):
                self._constant.update(node.outputs)
            for slot, name in enumerate(node.inputs):
                if name:
                    self._uses.setdefault(name, []).append((node, slot))

    def most(self, name: str) -> int:
        """The most extra bits that all readers of a weight take, including those behind layout operators."""
        if name in self._resting or name not in self._uses:
            return 0
        most = MOST_SPARE
        for node, slot in self._uses[name]:
            operator = find(node)
            if node.traits.of_shape:
                continue
            if operator is None:
                return 0
            if operator.moves and slot == 0 and not _picks(node):
                most = min([most, *(self.most(output) for output in node.outputs if output)])
            elif not _looks_up(node, slot):
                slots = operator.fine(node)
                factors = [name for place, name in enumerate(node.inputs) if place in slots and place != slot]
                if self._public.intersection(factors):  # which may itself have many fraction bits
                    return 0
                if self._constant.intersection(factors):  # two weights share them
                    most = min(most, MOST_SPARE // 2)
                most = min(most, slots.get(slot, FRACTION) - FRACTION)
        return most

    def serves(self, name: str, made: Mapping[str, int]) -> bool:
        """Whether a reader uses the extra bits of a weight. A look-up that truncates its rows does not."""
        todo = [name]
        while todo:
            for node, slot in self._uses.get(todo.pop(), []):
                if _looks_up(node, slot):
                    if made.get(node.outputs[0]):
                        return True
                elif (operator := find(node)) is not None and operator.moves:
                    todo += node.outputs
                elif not node.traits.of_shape:
                    return True
        return False

    def made(self, weights: Mapping[str, int]) -> dict[str, int]:
        """Value -> the extra bits that it keeps, weights included. weights: the extra bits of the weights."""
        resting = set(self._resting)
        while True:
            found = dict(weights)
            for node in self._nodes:
                kept = self._of(node, found)
                found.update((o, kept) for o in node.outputs if kept and o and o not in resting)
            refused = [
                name
                for name in found
                if name not in weights
                and not all(self._takes(*use, found) for use in self._uses.get(name, []))
            ]
            if not refused:
                return found
            resting.update(refused)

    def _of(self, node: Node, found: Mapping[str, int]) -> int:
        """The extra bits of a node's outputs, where these have the extra bits `found`."""
        operator, given = find(node), [found.get(name, 0) for name in node.inputs if name]
        if operator is None or not any(given):
            return 0
        if node.traits.sums:
            return min(given)
        if (operator.moves and not _picks(node)) or _looks_up(node, 0):
            return given[0]
        slots = operator.fine(node)
        if len(slots) < 2 or len(given) > 2:  # not a plain product, or one with a bias
            return 0
        return sum(found.get(name, 0) for slot, name in enumerate(node.inputs) if name and slot in slots)

    def _takes(self, node: Node, slot: int, found: Mapping[str, int]) -> bool:
        """Whether a node takes a value, other than a weight, with the extra bits `found`."""
        operator, given = find(node), [name for name in node.inputs if name]
        if operator is None:
            return False
        if node.traits.of_shape or _looks_up(node, slot):
            return True
        if operator.moves:
            return slot == 0 and not _picks(node)
        if node.traits.sums:
            return all(found.get(name) for name in given)
        if node.traits.rows == "normalisation":  # scaling a row changes only its epsilon
            return slot == 0 and not any(node.outputs[1:])
        slots = operator.fine(node)
        if len(slots) < 2 or slot not in slots or any(name in self._public for name in given):
            return False
        both = sum(found.get(name, 0) for place, name in enumerate(node.inputs) if name and place in slots)
        return both <= min(slots.values()) - FRACTION


def _picks(node: Node) -> bool:
    """GatherND and GatherElements: layout operators where their indices are public, else a Gather."""
    return node.op != "Gather" and 0 in node.traits.tables


def _looks_up(node: Node, slot: int) -> bool:
    return node.op == "Gather" and not node.domain and slot == 0 and not node.attribute("axis")
