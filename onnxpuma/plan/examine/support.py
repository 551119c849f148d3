"""Whether a model can run on shares at all: its owner asks before the shapes of a request are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnxpuma.ops.registry import operators
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import survey, unsupported
from onnxpuma.plan.examine.example import DEFAULT_SIZE, choose_shapes, draw_inputs, open_symbols
from onnxpuma.plan.plan import Selection
from onnxpuma.standard.operators import traits

_LONGER = (8, 64, 512, 4096)  # a waveform has thousands of samples where a text has tens of words
_MOST_DRAWN = 1 << 24  # numbers of an input; a larger one is no example


def fitting_shapes(blueprint: Blueprint, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """`choose_shapes`, with sizes that the windows sliding over inputs fit into, where `sizes` sets none.

    Raises ConfigError as `choose_shapes`. Cost: for a model with windows, plans up to the last of them.
    """
    shapes = choose_shapes(blueprint, sizes)
    results = tuple(node.outputs[0] for node in blueprint.graph.nodes if node.traits.window)
    larger = [symbol for symbol in open_symbols(blueprint, alone=False) if symbol not in sizes]
    if not results or not larger or _windows_fit(blueprint, shapes, results):
        return shapes
    for factor in _LONGER:
        longer = choose_shapes(blueprint, {**dict.fromkeys(larger, factor * DEFAULT_SIZE), **sizes})
        if max(map(math.prod, longer.values())) > _MOST_DRAWN:
            break
        if _windows_fit(blueprint, longer, results):
            return longer
    return shapes


def _windows_fit(
    blueprint: Blueprint, shapes: Mapping[str, tuple[int, ...]], results: tuple[str, ...]
) -> bool:
    drawn = draw_inputs(blueprint, shapes)
    public = {name: drawn[name] for name in blueprint.public_inputs}
    _, refusals = survey(blueprint, shapes, public, Selection(results))
    return not any(traits(refusal.operator).window for refusal in refusals)


def check_supported(blueprint: Blueprint, sizes: Mapping[str, int] | None = None) -> None:
    """Raise UnsupportedModelError naming every node that reads secrets and has no kernel.

    sizes: dimensions of the example, by name. Refusals that depend on shapes are left to each request: a
    table of positions may be shorter than the example.
    """
    shapes = fitting_shapes(blueprint, sizes or {})
    drawn = draw_inputs(blueprint, shapes)
    public = {name: drawn[name] for name in blueprint.public_inputs}
    _, refusals = survey(blueprint, shapes, public, Selection(tuple(blueprint.outputs)))
    known = operators()
    missing = [refusal for refusal in refusals if refusal.operator not in known]
    if missing:
        raise unsupported(missing)
