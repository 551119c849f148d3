"""Operations on arrays that stay where they are, many of them in one call of the kernel.

What numpy does for a few hundred words takes less time than the call that asks for it. A tape is a list of
such operations, compiled once: it holds the arrays, and plays the list whenever it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

# The numbers of _ring_operations.hpp; of signed words, where theirs differ.
_NUMBERS = {
    np.add: 0,
    np.subtract: 1,
    np.multiply: 2,
    np.bitwise_and: 3,
    np.bitwise_or: 4,
    np.bitwise_xor: 5,
    np.left_shift: 6,
    np.right_shift: 7,
    np.less: 9,
    np.equal: 11,
    np.not_equal: 12,
    np.negative: 13,
    np.invert: 14,
}
_SIGNED: dict[np.ufunc, int] = {np.right_shift: 8, np.less: 10}
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
    number, (*given, into) = _NUMBERS.get(function), arguments
    if number is None or len(given) != function.nin:
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
        ready.append(_spread(x, into))
    if kind.kind == "i":
        number = _SIGNED.get(function, number)
    return [*found, (number, into, ready[0], ready[1] if len(ready) == 2 else None)]


@lru_cache(maxsize=1024)
def _kinds(function: np.ufunc, given: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    """The types of which it reads and writes words, where it is given these types."""
    return function.resolve_dtypes((*given, None))


def _spread(x: np.ndarray, into: np.ndarray) -> np.ndarray:
    """The array in the shape of the one that is overwritten."""
    return x if x.shape == into.shape else np.broadcast_to(x, into.shape)


def _copied(into: np.ndarray, words: Any) -> list[Operation] | None:
    """A copy to an array of another type of words, which cuts them or fills them up with zeros."""
    if not isinstance(words, np.ndarray):
        return None
    kind = words.dtype.kind
    zeros = kind in "ub" or (kind == "i" and words.itemsize >= into.itemsize)  # else signs would fill them up
    if words.dtype != into.dtype and not (zeros and into.dtype.kind in "ui"):
        return None
    return [(_COPY, into, _spread(words, into), None)]


def _each_copied(parts: Iterable[np.ndarray], arrays: Sequence[Any]) -> list[Operation] | None:
    """A copy of each array to its part, which has its type."""
    found = list[Operation]()
    for part, x in zip(parts, arrays, strict=True):
        copies = _copied(part, x)
        if copies is None or x.dtype != part.dtype:
            return None
        found += copies
    return found


def _side_by_side(arrays: Sequence[Any], axis: Any, into: np.ndarray) -> list[Operation] | None:
    if axis is None or not all(isinstance(x, np.ndarray) for x in arrays):
        return None
    ends = np.cumsum([x.shape[axis] for x in arrays])
    return _each_copied(np.split(into, ends[:-1], axis), arrays)


def _moved(function: Any, given: Sequence[Any], into: np.ndarray) -> list[Operation] | None:
    """A function that moves or repeats words, whose result goes to a contiguous array."""
    named: dict[str, Any] = {}
    if isinstance(function, partial):
        function, named = function.func, dict(function.keywords)
    if function in _LAID_OUT and not named:
        return _copied(into.reshape(given[0].shape), given[0])
    if function is np.stack and named.keys() <= {"axis"} and len(given) + len(named) <= 2:
        return _each_copied(np.moveaxis(into, named.get("axis", (*given, 0)[1]), 0), given[0])
    if function in (np.repeat, np.ndarray.repeat) and named.keys() <= {"axis"}:
        words, count, *rest = given
        axis = named.get("axis", (*rest, None)[0])
        if axis is None and words.ndim == 1:
            axis = 0
        if axis is None or not isinstance(count, (int, np.integer)):
            return None
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
