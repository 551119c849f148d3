"""Long words against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpuma.mpc.ring.long import LONGEST, Long, limb_widths
from onnxpuma.mpc.ring.native import native

RNG = np.random.default_rng(8)
EDGES = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 2**96 - 1, 2**127, 2**128 - 1]
VALUES = [*EDGES, *(int(v) << 64 | int(w) for v, w in RNG.integers(0, 1 << 64, (40, 2), np.uint64))]
M = 1 << LONGEST


def integers(x: Long) -> list[int]:
    low, high = (side.reshape(-1).tolist() for side in (x.low, x.high))
    return [a + (b << 64) for a, b in zip(low, high, strict=True)]


def table(function) -> list[int]:  # type: ignore[no-untyped-def]
    return [function(a, b) % M for a in VALUES for b in VALUES]


def test_sums_and_products(level: str) -> None:
    a, b = Long.constants(VALUES)[:, None], Long.constants(VALUES)[None, :]
    assert integers(a + b) == table(lambda x, y: x + y)
    assert integers(a - b) == table(lambda x, y: x - y)
    assert integers(a * b) == table(lambda x, y: x * y)
    assert integers((a + b).total()) == [sum(x + y for y in VALUES) % M for x in VALUES]
    assert integers((a + b).dot(b)) == [sum((x + y) * y for y in VALUES) % M for x in VALUES]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((5, 7), (5, 7)),
        ((5, 7), (7,)),
        ((5, 1), (5, 7)),
        ((1, 7), (5, 1)),
        ((7,), (1,)),
        ((), (3,)),
        ((2, 3, 4), (3, 1)),
        ((0, 4), (1, 4)),
        ((3, 0), (3, 0)),
        ((200, 60), (200, 60)),
    ],
)
def test_products_broadcast(level: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """As numpy's do, also of arrays with gaps between their words."""

    def some(shape: tuple[int, ...], turned: bool) -> Long:
        words = RNG.integers(0, 1 << 64, (2, *shape, 2), np.uint64)[..., 0]
        return Long(*np.swapaxes(np.swapaxes(words, -1, -2).copy(), -1, -2)) if turned else Long(*words)

    for turned in (False, True) if len(left) == len(right) == 2 else (False,):
        a, b = some(left, turned), some(right, False)
        product = a._product(b)
        found = a * b
        assert found.shape == product.shape
        assert integers(found) == integers(product)
        if product.shape:
            assert integers(a.dot(b)) == integers(product.total())
            assert a.dot(b).shape == product.shape[:-1]


def test_what_does_not_fit_is_refused(level: str) -> None:
    kernel, a = native(), np.zeros((2, 3), np.uint64)
    good = [a, a, a, a, 2, 3, np.zeros((2, 2, 3), np.uint64), False]
    if kernel is None or not kernel.long_product(*good):
        return
    for place, wrong in (
        (0, a[:, :2]),
        (1, a.astype(np.uint32)),
        (3, a[None]),
        (4, 3),
        (4, -2),
        (5, 4),
        (6, np.zeros(11, np.uint64)),
        (7, True),
    ):
        with pytest.raises(ValueError, match="fit"):
            kernel.long_product(*[wrong if i == place else given for i, given in enumerate(good)])


def test_opposites() -> None:
    places = (np.arange(len(VALUES)) % 2).astype(np.uint8)
    for which in (places, 1 - places):
        expected = [-v % M if p else v for v, p in zip(VALUES, which, strict=True)]
        assert integers(Long.constants(VALUES).opposed(which.astype(np.uint8))) == expected
        kept = [v if p else 0 for v, p in zip(VALUES, which, strict=True)]
        assert integers(Long.constants(VALUES).kept(which.astype(np.uint8))) == kept


def test_signed_integers_and_words() -> None:
    signed = [0, 1, -1, 2**62, -(2**62), 2**63 - 1, -(2**63)]
    assert integers(Long.of_integers(np.array(signed))) == [v % M for v in signed]
    assert integers(Long.of_words(np.array([0, 255], np.uint8))) == [0, 255]


@pytest.mark.parametrize("bits", [40, 64, 65, 96, 127, 128])
@pytest.mark.parametrize("shift", [0, 1, 17, 63, 64, 90])
def test_shifts_to_the_right(bits: int, shift: int) -> None:
    for up in (False, True):
        expected = [((v + up * ((1 << shift) - 1)) % (1 << bits) >> shift) % (1 << 64) for v in VALUES]
        assert Long.constants(VALUES).lowered(bits, shift, up).tolist() == expected


def test_a_shift_to_the_left() -> None:
    assert Long.constants(VALUES).raised(9).tolist() == [(v << 9) % (1 << 64) for v in VALUES]


@pytest.mark.parametrize("bits", [5, 64, 72, 96, 128])
def test_limbs(bits: int) -> None:
    x = Long.constants(VALUES)
    buffers = x.limbs(bits)
    assert tuple(width for _, width in buffers) == limb_widths(bits)
    back = Long.of_limbs([words & words.dtype.type((1 << width) - 1) for words, width in buffers])
    assert integers(back) == [v % (1 << bits) for v in VALUES]


def test_a_repr_shows_no_words() -> None:
    assert repr(Long.joined([Long.constants([5, 6]), Long.constants([7])])) == "Long(shape=(3,))"
