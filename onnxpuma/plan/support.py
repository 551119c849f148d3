"""Whether a model can run on shares at all: asked by its owner, before the shapes of a request are known."""

from __future__ import annotations

from onnxpuma.ops.registry import operators
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import survey, unsupported
from onnxpuma.plan.example import choose_shapes, draw_inputs
from onnxpuma.plan.plan import Selection


def check_supported(blueprint: Blueprint) -> None:
    """UnsupportedModelError naming every node that reads secrets and has no kernel, whatever the shapes.

    What depends on shapes is left to each request: a table of positions may be shorter than the example.
    """
    shapes = choose_shapes(blueprint, {})
    drawn = draw_inputs(blueprint, shapes)
    public = {name: drawn[name] for name in blueprint.public_inputs}
    _, refusals = survey(blueprint, shapes, public, Selection(tuple(blueprint.outputs)))
    known = operators()
    missing = [refusal for refusal in refusals if refusal.operator not in known]
    if missing:
        raise unsupported(missing)
