"""Operations on arrays that stay where they are, many of them in one call of the kernel.

What numpy does for a few hundred words takes less time than the call that asks for it. A tape is a list of
such operations, compiled once: it holds the arrays, and plays the list whenever it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from inspect import unwrap
from typing import Any, TypeAlias

import numpy as np

from onnxpuma.mpc.ring.again import again
from onnxpuma.mpc.ring.arrays import contiguous, flat
from onnxpuma.mpc.ring.native import native
from onnxpuma.mpc.ring.packing import pack

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]
# Its number, the array that it overwrites, and one or two that it reads, all of one shape.
Operation: TypeAlias = tuple[int, np.ndarray, np.ndarray, "np.ndarray | None"]

# The numbers of _ring_operations.hpp: of unsigned words, and of signed ones where these differ.
_NUMBERS: dict[np.ufunc, tuple[int, int]] = {
    np.add: (0, 0),
    np.subtract: (1, 1),
    np.multiply: (2, 2),
    np.bitwise_and: (3, 3),
    np.bitwise_or: (4, 4),
    np.bitwise_xor: (5, 5),
    np.left_shift: (6, 6),
    np.right_shift: (7, 8),
    np.less: (9, 10),
    np.equal: (11, 11),
    np.not_equal: (12, 12),
    np.negative: (13, 13),
    np.invert: (14, 14),
}
_COPY, _PACK = 15, -1
_OF_TRUTHS = {np.bitwise_and, np.bitwise_or, np.bitwise_xor}
_LAID_OUT = {unwrap(contiguous), unwrap(flat), np.ndarray.reshape}
_MOST_AXES = 8


def taped(calls: Sequence[Call]) -> list[Call]:
    """The same calls, those of numpy on arrays that stay made by tapes. They find the same words.

    A call names the array that it overwrites. Without a kernel they are left as they are.
    """
    kernel = native()
    if kernel is None:
        return list(calls)
    found: list[Call] = []
    open_: list[tuple[Any, ...]] = []

    def close() -> None:
        if open_:
            found.append((kernel.play, (kernel.tape(list(open_)),)))
            open_.clear()

    for function, arguments in calls:
        # Packing takes the bits in the place of an array.
        packing = [(_PACK, *arguments)] if function is packed else None
        operations = packing or operations_of(function, arguments)
        if operations is None:
            close()
            found.append((function, arguments))
        else:
            open_.extend(operations)
    close()
    return found


def packed(into: np.ndarray, words: np.ndarray, bits: int) -> None:
    """`ring.pack` contiguous words to an array of bytes."""
    into[...] = pack(words, bits)


def operations_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Operation] | None:
    """What a tape does in the place of a call; None where it cannot."""
    if type(function) is np.ufunc:
        found = _elementwise(function, arguments)
    elif function is np.copyto:
        found = _copied(arguments[0], arguments[1])
    elif function is np.concatenate:
        found = _side_by_side(*arguments)
    elif function is again and len(arguments[0]) == 1:
        (into,), made, *given = arguments
        found = _moved(made, given, into)
    else:
        return None
    return found if found is not None and all(map(_fits, found)) else None


def _elementwise(function: np.ufunc, arguments: tuple[Any, ...]) -> list[Operation] | None:
    numbers, (*given, into) = _NUMBERS.get(function), arguments
    if numbers is None or len(given) != function.nin:
        return None
    kinds = [x.dtype if isinstance(x, (np.ndarray, np.generic)) else type(x) for x in given]
    kind, *others, result = _kinds(function, tuple(kinds))
    if result != into.dtype or any(other != kind for other in others):
        return None
    if not (kind.kind == "u" or kind == np.int64 or (kind.kind == "b" and function in _OF_TRUTHS)):
        return None
    found, ready = list[Operation](), list[np.ndarray]()
    for x in given:
        if not isinstance(x, np.ndarray):
            x = np.array(x, kind)
        elif x.dtype != kind:
            x, narrow = np.empty(x.shape, kind), x
            copies = _copied(x, narrow)
            if copies is None:
                return None
            found += copies
        ready.append(x if x.shape == into.shape else np.broadcast_to(x, into.shape))
    number = numbers[kind.kind == "i"]
    return [*found, (number, into, ready[0], ready[1] if len(ready) == 2 else None)]


@lru_cache(maxsize=1024)
def _kinds(function: np.ufunc, given: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    """The types of which it reads and writes words, where it is given these types."""
    return function.resolve_dtypes((*given, None))


def _copied(into: np.ndarray, words: Any) -> list[Operation] | None:
    """A copy to an array of another type of words, which cuts them or fills them up with zeros."""
    if not isinstance(words, np.ndarray):
        return None
    same = words.dtype == into.dtype or (words.dtype.kind in "ub" and into.dtype.kind in "ui")
    if not same and not (
        words.dtype.kind == "i" and into.dtype.kind in "ui" and words.itemsize >= into.itemsize
    ):
        return None
    return [(_COPY, into, np.broadcast_to(words, into.shape), None)]


def _side_by_side(arrays: Sequence[Any], axis: Any, into: np.ndarray) -> list[Operation] | None:
    if axis is None or not all(isinstance(x, np.ndarray) for x in arrays):
        return None
    found, start, along = list[Operation](), 0, np.moveaxis(into, axis, 0)
    for x in arrays:
        stop = start + x.shape[axis]
        copies = _copied(np.moveaxis(along[start:stop], 0, axis), x)
        if copies is None or x.dtype != into.dtype:
            return None
        found += copies
        start = stop
    return found


def _moved(function: Any, given: Sequence[Any], into: np.ndarray) -> list[Operation] | None:
    """A function that moves or repeats words, whose result goes to a contiguous array."""
    named: dict[str, Any] = {}
    if isinstance(function, partial):
        function, named = function.func, dict(function.keywords)
    if function in _LAID_OUT and not named:
        return _copied(into.reshape(given[0].shape), given[0])
    if function is np.stack and named.keys() <= {"axis"} and len(given) + len(named) <= 2:
        arrays, axis = given[0], named.get("axis", (*given, 0)[1])
        if into.dtype != arrays[0].dtype:
            return None
        along = np.moveaxis(into, axis, 0)
        found = [_copied(place, x) for place, x in zip(along, arrays, strict=True)]
        return None if None in found else [each for some in found if some for each in some]
    if function in (np.repeat, np.ndarray.repeat) and named.keys() <= {"axis"}:
        words, count, *rest = given
        axis = named.get("axis", (*rest, None)[0])
        if not isinstance(count, (int, np.integer)):
            return None
        if axis is None:
            if words.ndim != 1:
                return None
            axis = 0
        axis %= words.ndim
        apart = (*words.shape[: axis + 1], int(count), *words.shape[axis + 1 :])
        return _copied(into.reshape(apart), np.expand_dims(words, axis + 1))
    return None


def _fits(operation: Operation) -> bool:
    """Whether the kernel can read and write these arrays, and overwrites nothing that it has yet to read."""
    _, into, *read = operation
    if into.ndim > _MOST_AXES or not (into.flags.writeable and into.flags.aligned):
        return False
    return all(x is None or (x.flags.aligned and _apart(into, x)) for x in read)


def _apart(into: np.ndarray, x: np.ndarray) -> bool:
    same = _address(into) == _address(x) and into.strides == x.strides and into.dtype == x.dtype
    return same or not np.may_share_memory(into, x)


def _address(x: np.ndarray) -> int:
    return int(x.__array_interface__["data"][0])
