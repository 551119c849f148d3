"""Calls that are made again and again, each putting its results where they were before (noted.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])
_STRAIGHT = "straight"


def straight(call: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """A function for whose result there is a faster call the next time: `call`, of the array that it
    overwrites and the function's arguments, returns that call with its own."""

    def marked(function: _Function) -> _Function:
        setattr(function, _STRAIGHT, call)
        return function

    return marked


def copied(words: np.ndarray, order: Any) -> np.ndarray:
    return words.copy(order)


def as_type(words: np.ndarray, kind: Any, copy: bool) -> np.ndarray:
    return words.astype(kind, copy=copy)


def owner_of(array: np.ndarray) -> Any:
    """What holds the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if array.base is None else array.base


def arrays_in(value: Any) -> list[Any]:
    """The arrays in nested results or arguments, and numpy's single numbers."""
    if isinstance(value, (np.ndarray, np.generic)):
        return [value]
    if isinstance(value, (tuple, list)):
        return [x for each in value for x in arrays_in(each)]
    return [x for each in value.values() for x in arrays_in(each)] if isinstance(value, dict) else []


class Place:
    """Stands in the arguments of a noted call for an array that each run has of its own."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def looked_up(value: Any, own: list[Any]) -> Any:
    if isinstance(value, Place):
        return own[value.number]
    if isinstance(value, (tuple, list)):
        return type(value)([looked_up(each, own) for each in value])
    return {k: looked_up(each, own) for k, each in value.items()} if isinstance(value, dict) else value


def direct(
    function: Callable[..., Any], plain: tuple[Any, ...], named: dict[str, Any], target: np.ndarray
) -> tuple[Any, ...] | None:
    """A call that puts the result where it was before by itself, with its arguments; None where none does."""
    if type(function) is np.ufunc and function.nout == 1 and not named:
        return function, *plain, target
    if function is as_type or function is copied:
        return np.copyto, target, plain[0], "unsafe"
    if function is np.concatenate and set(named) <= {"axis"}:
        return (
            np.concatenate,
            plain[0],
            *plain[1:],
            *named.values(),
            *(() if plain[1:] or named else (0,)),
            target,
        )
    own = getattr(function, _STRAIGHT, None)
    if own is not None and not named:
        found: tuple[Any, ...] = own(target, *plain)
        return found
    if function is np.ndarray.sum or function is np.ndarray.cumsum:
        return partial(function, **named, out=target), *plain
    return None


def again(targets: list[Any], function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function, and put its results where they were before."""
    result = function(*arguments)
    if len(targets) == 1 and type(result) is np.ndarray:
        targets[0][...] = result
        return
    for target, array in zip(targets, arrays_in(result), strict=True):
        if target is not None:
            target[...] = array


def again_with(
    own: list[Any], targets: list[Any], function: Callable[..., Any], arguments: Any, named: Any
) -> None:
    """The same with arrays that each run has of its own."""
    result = function(*looked_up(arguments, own), **looked_up(named, own))
    for target, array in zip(targets, arrays_in(result) if targets else (), strict=True):
        if type(target) is int:
            own[target] = array
        elif target is not None:
            target[...] = array
