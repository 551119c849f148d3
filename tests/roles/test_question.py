"""What a request most likely asks next: shapes and public numbers go on as they did."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from onnxpuma.plan.plan import Selection
from onnxpuma.roles.request.question import MOST, Question, following
from onnxpuma.standard.padding import BLOCK
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


# ---- behind zeros that a mask hides ---------------------------------------------------------------------


HELD = Selection(("y",), ("now.0", "now.1"), ("past.0", "past.1"))


def masked(tokens: int, batch: int = 1, selection: Selection = HELD) -> Question:
    """That of one more token of a text after so many others, behind zeros up to a block; further rows are
    shorter by a token each."""
    places = -(-(tokens + 1) // BLOCK) * BLOCK
    real = [tokens + 1 - row for row in range(batch)]
    mask = np.array([[0] * (places - n) + [1] * n for n in real])
    public = {"attention_mask": mask, "position_ids": np.array([[n - 1] for n in real])}
    shapes = {"ids": (batch, 1), "past.0": (batch, 2, places - 1, 4), "past.1": (batch, 2, 4, places - 1)}
    shapes |= {name: array.shape for name, array in public.items()}
    return Question(shapes, public, selection)


@pytest.mark.parametrize("batch", [1, 3])
def test_behind_zeros_a_text_goes_on_within_its_block_and_into_the_next(batch: int) -> None:
    hidden = []
    for tokens in range(10, 40):
        after = following(masked(tokens, batch=batch), masked(tokens + 1, batch=batch))
        want = masked(tokens + 2, batch=batch)
        assert after is not None
        assert after.shapes == want.shapes
        for name, array in want.public.items():
            assert np.array_equal(after.public[name], array)
            assert after.public[name].dtype == array.dtype
        assert after.key == want.key
        hidden.append(int((want.public["attention_mask"][0] == 0).sum()))
    assert hidden[:13] == [3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0, 7]


def test_a_block_is_added_along_the_one_axis_of_tokens() -> None:
    """Where it cannot be told, nothing is planned; within a block it need not be known."""
    for selection in (Selection(("y",), (), ("ids",)), Selection(("y",), (), ("past.0", "wide"))):
        texts = [masked(tokens, selection=selection) for tokens in (21, 22, 23)]
        for text in texts:
            text.shapes["wide"] = (1, 23, 23)  # type: ignore[index]
        after = following(texts[0], texts[1])
        assert after is not None
        assert after.key == texts[2].key
        assert following(texts[1], texts[2]) is None


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([[0, 0, 0, 1]], [[0, 1, 1, 1]]),  # by two tokens
        ([[0, 1, 1]], [[0, 0, 1]]),  # fewer
        ([[0, 0, 1], [0, 0, 1]], [[0, 1, 1], [0, 0, 1]]),
        ([0, 0, 1], [0, 1, 1]),
    ],
)
def test_a_mask_that_changes_otherwise_leads_nowhere(before: Any, now: Any) -> None:
    assert following(asked((4,), before), asked((4,), now)) is None


def test_a_mask_without_zeros_grows() -> None:
    after = following(asked((4,), [[1, 1]]), asked((4,), [[1, 1, 1]]))
    assert after is not None
    assert after.public["m"].tolist() == [[1, 1, 1, 1]]


def test_zeros_of_shorter_texts_stay() -> None:
    """Texts written together without zeros in front of all."""
    after = following(asked((4,), [[1, 1], [0, 1]]), asked((5,), [[1, 1, 1], [0, 1, 1]]))
    assert after is not None
    assert after.public["m"].tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]
