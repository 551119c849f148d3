"""Example inputs for a model: sizes for its symbols, values of the declared types."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxpuma.errors import ConfigError
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.inputs.spec import InputSpec

DEFAULT_SIZE = 32  # of a symbol other than a batch

# tools/export.py gives this name to the length of a cache with the new words; other exporters write the sum.
_TOTAL = {"total": ("past", "sequence")}


def symbols(blueprint: Blueprint) -> dict[str, int]:
    """The symbols of the inputs' shapes, in order, each with its default size.

    A dimension without a name is called after its input and place: `pixels.2`. The size of a sum, such as
    `past + sequence`, follows from its parts.
    """
    found: dict[str, int] = {}
    for spec in blueprint.inputs.values():
        for place, dimension in enumerate(spec.shape if spec.default is None else ()):
            if not isinstance(dimension, int):
                symbol = _symbol(spec, place)
                batch = place == 0 or "batch" in symbol.lower()
                found.setdefault(symbol, 1 if batch else DEFAULT_SIZE)
    return _with_sums(found, {})


def choose_shapes(blueprint: Blueprint, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """A concrete shape for each input: `sizes` by symbol, `symbols` for the rest.

    Raises ConfigError for a symbol that the model does not have, and for a size below one, or below zero for
    `open_symbols`, as a cache is empty before the first word.
    """
    known = symbols(blueprint)
    for symbol, size in sizes.items():
        if symbol not in known:
            listing = ", ".join(known) or "none: all its shapes are fixed"
            raise ConfigError(f"the model has no dimension '{symbol}'", f"its dimensions are {listing}")
        least = 0 if symbol in open_symbols(blueprint, alone=True) else 1
        if size < least:
            raise ConfigError(f"dimension '{symbol}' is {size}", f"this dimension is {least} or more")
    chosen = _with_sums({**known, **sizes}, sizes)
    return {
        name: tuple(
            dimension if isinstance(dimension, int) else chosen[_symbol(spec, place)]
            for place, dimension in enumerate(spec.shape)
        )
        if spec.default is None
        else spec.default.shape
        for name, spec in blueprint.inputs.items()
    }


def sizes_in(blueprint: Blueprint, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The size that these shapes give to each of the `symbols`."""
    found: dict[str, int] = {}
    for name, spec in blueprint.inputs.items():
        for place, dimension in enumerate(spec.shape if spec.default is None else ()):
            if not isinstance(dimension, int):
                found.setdefault(_symbol(spec, place), shapes[name][place])
    return found


def sizes_of(blueprint: Blueprint, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The same for the shapes of some inputs. ConfigError for a shape that does not fit its input."""
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        spec = blueprint.inputs[name]
        fits = len(shape) == len(spec.shape)
        for place, (size, dimension) in enumerate(zip(shape, spec.shape, strict=False)):
            wanted = dimension if isinstance(dimension, int) else found.setdefault(_symbol(spec, place), size)
            fits = fits and size == wanted
        if not fits:
            declared = ", ".join(map(str, spec.shape))
            raise ConfigError(
                f"{shape} is no shape of input '{name}'",
                f"it is ({declared}); a dimension has one size everywhere",
            )
    return found


def draw_inputs(
    blueprint: Blueprint, shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, np.ndarray]:
    """A value for each input: its default; or ids below the vocabulary, masks of ones, positions from zero
    up, token types of zero, true booleans, empty texts, normally distributed reals."""
    rng = np.random.default_rng(seed)
    return {name: _draw(rng, spec, shapes[name]) for name, spec in blueprint.inputs.items()}


def _draw(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...]) -> np.ndarray:
    name, kind = spec.name.lower(), spec.dtype
    if spec.default is not None and spec.default.shape == shape:
        return spec.default
    if kind.kind == "O":
        return np.full(shape, "", kind)
    if "mask" in name or kind.kind == "b":
        return np.ones(shape, kind)
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1], dtype=kind), shape).copy()
    if "token_type" in name or "segment" in name:
        return np.zeros(shape, kind)
    return rng.integers(0, spec.vocabulary or 2, shape).astype(kind)


def open_symbols(blueprint: Blueprint, alone: bool) -> list[str]:
    """Symbols of axes of reals after the first: lengths of caches and waveforms, sides of pictures.

    alone: those of such axes alone."""
    uses: dict[str, bool] = {}
    for spec in blueprint.inputs.values():
        for place, dimension in enumerate(spec.shape if spec.default is None else ()):
            if not isinstance(dimension, int):
                symbol = _symbol(spec, place)
                of_reals = place > 0 and spec.dtype.kind == "f"
                before = uses.get(symbol, of_reals)
                uses[symbol] = (before and of_reals) if alone else (before or of_reals)
    return [symbol for symbol, of_reals in uses.items() if of_reals]


def _with_sums(sizes: Mapping[str, int], asked: Mapping[str, int]) -> dict[str, int]:
    """The sizes, where each dimension that is a sum, and was not `asked` for, has the size of that sum."""
    made = dict(sizes)
    for symbol in sizes.keys() - asked.keys():
        parts = _TOTAL.get(symbol) or tuple(part.strip() for part in symbol.split("+"))
        if len(parts) > 1 and all(part in sizes or part.isdigit() for part in parts):
            made[symbol] = sum(sizes[part] if part in sizes else int(part) for part in parts)
    return made


def _symbol(spec: InputSpec, place: int) -> str:
    dimension = spec.shape[place]
    return dimension if isinstance(dimension, str) and dimension else f"{spec.name}.{place}"
