"""What the owner of a model lets clients ask of a draw."""

from __future__ import annotations

from onnxpuma.errors import InputError
from onnxpuma.graph.sampling import PARAMETERS_INPUT, SHIFT
from onnxpuma.tasks.port import Runner, signature
from onnxpuma.tasks.sampling import Draw


def vocabulary(runner: Runner, graph: str) -> int:
    """The number of ids from which a token is drawn. InputError where the owner has hidden that."""
    takes = signature(runner, graph).inputs
    if PARAMETERS_INPUT not in takes:
        raise InputError(
            "the owner of this model lets nobody sample from it", "write the likeliest tokens instead"
        )
    return int(takes[SHIFT].shape[-1]) if SHIFT in takes else 0  # type: ignore[arg-type]


def check_drawn(runner: Runner, graph: str, drawn: Draw) -> None:
    """Raise InputError where the owner has hidden the output that this takes."""
    if drawn.output not in signature(runner, graph).outputs:
        raise InputError(
            f"the owner of this model has hidden {drawn.output}, from which such tokens are drawn",
            "omit penalties and biases, or write the likeliest tokens",
        )
