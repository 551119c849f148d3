"""Facts measured in single precision, by rows: none is less than the array's own in double precision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest

from onnxpuma.plan.weights import one_pass
from onnxpuma.plan.weights.one_pass import View, measured
from onnxpuma.plan.weights.reach import _spectral

LOOSE = 1.02
KINDS = ("float32", "float16", "bfloat16", "float64")


@pytest.fixture(autouse=True)
def no_array_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays are measured in double precision, by the library that the tests compare with."""
    monkeypatch.setattr(one_pass, "_SMALL", 0)


def quantities(
    values: np.ndarray, roles: Sequence[str], turned: bool = False, widths: Sequence[int] = ()
) -> dict[str, float]:
    shape = values.shape
    rows = values.reshape(-1, shape[-1] if shape else 1)
    seen: list[int] = []

    def read(start: int, stop: int) -> np.ndarray:
        seen.append(stop - start)
        return rows[start:stop]

    view = View("w", turned, roles, lambda width: [w for w in widths if width % w == 0])
    found = measured(read, shape, [view])["w"]
    assert sum(seen) == len(rows), "each row is read once"
    return found


def expected(values: np.ndarray, roles: Sequence[str], widths: Sequence[int] = ()) -> dict[str, float]:
    """The same quantities from the definition. "spectral" is only a bound: its least possible value."""
    w = values.astype(np.float64)
    rows = w.reshape(-1, w.shape[-1])
    found = {"size": np.abs(w).max(), "row": np.linalg.norm(rows, axis=1).max()}
    if "numbers" in roles:
        heads = [b for b in widths if w.shape[-1] % b == 0]
        found |= {f"row {b}": np.linalg.norm(w.reshape(-1, b), axis=1).max() for b in heads}
    for role, prefix, turned in (("columns", "", w), ("rows", "row ", w.swapaxes(-1, -2))):
        if role in roles:
            stack = turned.reshape(-1, *turned.shape[-2:])
            if role == "columns":
                found["column"] = np.linalg.norm(stack, axis=1).max()
            found[f"{prefix}sum"] = np.abs(stack).sum(axis=1).max()
            found[f"{prefix}spectral"] = max(np.linalg.norm(m, 2) for m in stack)
            for b in (b for b in widths if turned.shape[-1] % b == 0):
                blocks = (m[:, i : i + b] for m in stack for i in range(0, m.shape[1], b))
                found[f"{prefix}spectral {b}"] = max(np.linalg.norm(block, 2) for block in blocks)
    return found


def compare(
    values: np.ndarray, roles: Sequence[str], widths: Sequence[int] = (), turned: bool = False
) -> None:
    seen = values.T if turned else values
    found, least = quantities(values, roles, turned, widths), expected(seen, roles, widths)
    assert found.keys() - {"least"} == least.keys()
    for key, value in least.items():
        # The rounding of encoded numbers is part of a factor's facts: it counts where numbers are tiny.
        assert value <= found[key], key
        if "spectral" not in key or key[-1].isdigit():
            assert found[key] <= LOOSE * value + max(values.shape) * 2.0**-18, key


SHAPES = [(192, 160), (130, 700), (700, 64), (40, 600), (97, 101), (3, 96, 64)]
DRAWN = [*zip((*KINDS, *KINDS[:2]), SHAPES, strict=True), ("float16", SHAPES[0])]


@pytest.mark.parametrize(
    ("kind", "shape"), [*zip((*KINDS, *KINDS[:2]), SHAPES, strict=True), ("float16", SHAPES[0])]
)
@pytest.mark.parametrize("roles", [("columns",), ("numbers", "columns", "rows")])
def test_random_matrices(kind: str, shape: tuple[int, ...], roles: Sequence[str]) -> None:
    values = np.random.default_rng(len(shape)).normal(0, 0.5, shape)
    compare(values.astype(np.dtype(kind)), roles, (32, 64, 96))


@pytest.mark.parametrize("roles", [("columns",), ("numbers", "rows")])
def test_turned_matrices(roles: Sequence[str]) -> None:
    values = np.random.default_rng(4).normal(0, 0.5, (192, 320)).astype(np.float16)
    compare(values, roles, (32, 64), turned=True)


def adversarial(columns: int) -> dict[str, np.ndarray]:
    """Matrices whose sums lose the most: equal signs, sizes that absorb others, cancellation, one rank."""
    rng = np.random.default_rng(11)
    rows = 128
    absorbed = np.full((rows, columns), 1 + 2.0**-12)
    absorbed[:, 0] = 4000.0
    sparse = np.zeros((rows, columns))
    sparse[rng.integers(0, rows, 40), rng.integers(0, columns, 40)] = 3.0
    signs = np.where(rng.integers(0, 2, (rows, columns)), 1.0, -1.0)
    return {
        "equal": np.full((rows, columns), 1 + 2.0**-10),
        "absorbed": absorbed,
        "signs": signs * (1 + 2.0**-9),
        "one rank": rng.normal(size=(rows, 1)) * rng.normal(size=(1, columns)),
        "sparse": sparse,
        "tiny": rng.normal(size=(rows, columns)) * 1e-22,
        "huge": rng.normal(size=(rows, columns)) * 1e25,
        "wide range": rng.normal(size=(rows, columns)) * np.exp(rng.normal(0, 12, (rows, columns))),
        "zeros": np.zeros((rows, columns)),
    }


@pytest.mark.parametrize("which", adversarial(128))
@pytest.mark.parametrize("roles", [("columns",), ("rows",)])
def test_adversarial_matrices(which: str, roles: Sequence[str]) -> None:
    values = adversarial(1152)[which].astype(np.float32)
    found = quantities(values, roles, widths=(64, 128))
    for key, value in expected(values, roles, (64, 128)).items():
        assert found[key] >= value * (1 - 1e-15), key
        assert math.isfinite(found[key])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_leaves_only_the_size(bad: float) -> None:
    values = np.ones((600, 3000), np.float32)
    values[599, 7] = bad
    found = quantities(values[:, :], ("columns", "rows"), widths=(8,))
    assert list(found) == ["size"]
    assert not math.isfinite(found["size"])


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_filters(kind: str) -> None:
    values = np.random.default_rng(2).normal(size=(24, 6, 5, 7)).astype(np.dtype(kind))
    found = quantities(values, ("filters",))
    rows = values.reshape(24, -1).astype(np.float64)
    for key, value in (
        ("filter", np.linalg.norm(rows, axis=1).max()),
        ("filter sum", np.abs(rows).sum(axis=1).max()),
    ):
        assert value <= found[key] <= value * (1 + 1e-4)


@pytest.mark.parametrize("width", [2, 16, 64, 128, 200])
def test_spectral_norms_by_squaring(width: int) -> None:
    rng = np.random.default_rng(width)
    x = np.concatenate([rng.normal(size=(6, width, 900)), np.zeros((1, width, 900))])
    x[1] *= 1e-12
    x[2] *= 1e12
    x[3] = np.eye(width, 900)
    x[4, 1:] = 0
    grams = x @ x.swapaxes(1, 2)
    exact, found = np.linalg.eigvalsh(grams)[:, -1], _spectral(grams)
    assert np.all(found >= exact)
    assert np.all(found[:-1] <= exact[:-1] * 1.01)
    assert found[-1] < 1e-30


def test_half_precision_kinds_are_those_of_the_standard() -> None:
    assert np.dtype("bfloat16") == ml_dtypes.bfloat16
