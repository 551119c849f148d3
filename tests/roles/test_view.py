"""A part of a kept value, perhaps behind copies of its first place: on shares as on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.errors import InputError
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.sharing import held_by, opened, share
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.request.view import MOST_COPIES, WHOLE, View

SHAPE = (2, 5, 3)
VALUE = np.arange(1.0, 31.0).reshape(SHAPE)
VIEWS = [
    (View(0, 1), 5),
    (View(0, 1), 2),
    (View(2, 1), 3),
    (View(4, 1), 1),
    (View(1, 2), 1),
    (View(-3, 1), 8),
    (View(-3, 1), 6),
    (View(-3, 1), 4),
    (View(-1, 0), 3),
    (View(-2, 2), 3),
]


@pytest.mark.parametrize(("view", "length"), VIEWS)
def test_a_part_behind_copies_of_the_first_place(view: View, length: int) -> None:
    copies = VALUE.take([0] * max(-view.skip, 0), view.axis)
    behind = np.concatenate([copies, VALUE], view.axis).take(
        range(max(view.skip, 0), max(view.skip, 0) + length), view.axis
    )
    assert np.array_equal(view.of_array(VALUE, length), behind)
    assert behind.shape == view.shape(SHAPE, length)


@pytest.mark.parametrize(("view", "length"), VIEWS)
def test_shares_of_a_part_are_parts_of_the_shares(view: View, length: int) -> None:
    """Each component is the same at both of its holders, and copies are copies in all three."""
    components = share(RESTING.encode(VALUE), RESTING.bits)
    parts = [view.of_shares(held_by(party, components, RESTING), length) for party in range(3)]
    for party, part in enumerate(parts):
        after: Replicated = parts[(party + 1) % 3]
        assert part.shape == view.shape(SHAPE, length)
        assert np.array_equal(part.second, after.first)
        places = np.moveaxis(part.first, view.axis, 0)
        for copy in places[: max(-view.skip, 0)]:
            assert np.array_equal(copy, places[-view.skip])
    whole = opened([part.first for part in parts], RESTING.bits)
    assert np.array_equal(whole, RESTING.encode(view.of_array(VALUE, length)))


@pytest.mark.parametrize(
    ("view", "length", "message"),
    [
        (View(0, 3), 1, "along axis 3, the kept value has 3 axes"),
        (View(0, 1), 0, "takes the places 0 to 0"),
        (View(0, 1), 6, "takes the places 0 to 6 of a kept value that has 5 along axis 1"),
        (View(2, 1), 4, "takes the places 2 to 6"),
        (View(5, 1), 1, "takes the places 5 to 6"),
        (View(5, 1), 0, "takes the places 5 to 5"),
        (View(-3, 1), 3, "takes the places -3 to 0"),
        (View(-3, 1), 9, "takes the places -3 to 6"),
        (View(-MOST_COPIES - 1, 1), MOST_COPIES + 3, "puts 257 copies in front of a kept value, 256"),
    ],
)
def test_what_a_value_does_not_have_is_refused(view: View, length: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        view.shape(SHAPE, length)
    assert caught.value.hint
    kept = Kept(b"h" * 16, "present", SHAPE, np.dtype(np.float32))
    with pytest.raises(InputError, match=message):
        kept.view(view.skip, length, view.axis)


def test_a_view_is_of_the_whole() -> None:
    kept = Kept(b"h" * 16, "present", SHAPE, np.dtype(np.float32))
    assert kept.taken == WHOLE
    part = kept.view(-3, 7, 1)
    assert (part.shape, part.taken) == ((2, 7, 3), View(-3, 1))
    with pytest.raises(InputError, match="a part of a kept value already"):
        part.view(3, 4, 1)
