"""What a request most likely asks next: shapes and public numbers go on as they did."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from onnxpuma.plan.plan import Selection
from onnxpuma.roles.request.question import MOST, Question, following
from tests.plan.test_growing import blueprint_of, planned

LENGTHS = (15, 16, 17, 33)  # around the borders of blocks


@cache
def question(length: int) -> Question:
    """That of a token after so many others, of the tiny LLaMA."""
    plan = planned(blueprint_of("llama", True), length)
    blueprint = blueprint_of("llama", True)
    shapes = {entry.name: entry.shape for entry in (*plan.inputs, *plan.held)}
    public = {name: plan.known[name] for name in blueprint.public_inputs}
    shapes.update((name, value.shape) for name, value in public.items())
    selection = Selection(("next_token",), tuple(o.name for o in plan.kept), tuple(o.name for o in plan.held))
    return Question(shapes, public, selection)


def test_a_text_that_grows_goes_on() -> None:
    for length in LENGTHS:
        after = following(question(length), question(length + 1))
        assert after is not None
        assert after.key == question(length + 2).key
        assert after.key != question(length + 3).key


def asked(shape: tuple[int, ...], array: Any, **more: Any) -> Question:
    array = np.asarray(array)
    return Question({"x": shape, "m": array.shape}, {"m": array}, more.get("selection"))


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        ([1, 1], [1, 1, 1], [1, 1, 1, 1]),
        ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]),
        ([[0, 1]], [[0, 1, 2]], [[0, 1, 2, 3]]),
        ([7], [9], [11]),
        ([0.5], [0.5], [0.5]),
        ([], [], []),
    ],
)
def test_public_numbers_go_on(first: Any, second: Any, third: Any) -> None:
    after = following(asked((4,), first), asked((6,), second))
    assert after is not None
    assert after.shapes["x"] == (8,)
    assert after.public["m"].tolist() == third
    assert after.public["m"].dtype == np.asarray(second).dtype


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (asked((3,), [1]), asked((1,), [1])),  # below zero
        (asked((3,), [1]), asked((3, 1), [1])),
        (asked((3,), [0.5]), asked((3,), [0.7])),
        (asked((3,), [0, 1]), asked((3,), [1, 1, 2])),
        (asked((3,), [[0, 1]]), asked((3,), [[0, 1, 2], [0, 1, 2]])),
        (asked((3,), ["a"]), asked((3,), ["b"])),
        (asked((3,), []), asked((3,), [4])),
        (asked((3,), [1], selection=Selection(("a",))), asked((3,), [1], selection=Selection(("b",)))),
        (asked((3,), np.zeros(MOST + 1)), asked((3,), np.zeros(MOST + 1))),
        (asked((3,), np.zeros(MOST - 1, int)), asked((3,), np.zeros(MOST, int))),
        (Question({"x": (3,)}, {}), asked((3,), [1])),
    ],
)
def test_what_does_not_go_on_is_left(before: Question, now: Question) -> None:
    assert following(before, now) is None
