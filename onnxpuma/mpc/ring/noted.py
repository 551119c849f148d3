"""Arrays that note what is done to them, so that it can be done again to other words.

A `Noted` array stands for words in a rehearsal of a protocol (mpc/replay/). It has a shape and a type like
an array, but nobody can read a word of it: it makes no plain array, number or truth value. So whatever a
rehearsal notes depends on shapes and public numbers alone, and a function that nobody has taught to note
raises TypeError instead of being left out. numpy's own functions arrive by its protocols for such arrays
(NEP 13 and NEP 18); functions of mpc/ring are taught by `noted`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from onnxpuma.mpc.ring.again import (
    Place,
    again,
    again_with,
    arrays_in,
    as_type,
    copied,
    direct,
    owner_of,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Notes:
    """What was done to noted arrays, in order: calls with arrays that stay, which overwrite their results.

    An array that each run brings along, and what is a view of one, is looked up by its place in `own` when
    the call is made.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.own: list[Any] = []
        self.size = 0  # bytes of the arrays that stay

    def cut(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """The calls since the last cut."""
        calls, self.calls = self.calls, []
        return calls

    def brought(self, array: np.ndarray) -> Noted:
        """An array that each run puts into `own`, at the place of this one."""
        self.own.append(array)
        return Noted(array, self, len(self.own) - 1)

    def kept(self, array: np.ndarray) -> Noted:
        """An array that stays, and that a noted call overwrites in each run.

        Raises MemoryError where these are more than `most` bytes.
        """
        self.size += array.nbytes
        if self.size > self._most:
            raise MemoryError(f"a rehearsal with more than {self._most} bytes")
        return Noted(array, self)

    def note(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call the function with these arguments in each run, at this point."""
        self.calls.append((function, arguments))

    def later(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Note a call with noted arrays that is not made now."""
        if any(x.place is not None for x in _every(arguments)):
            self.note(again_with, self.own, [], function, _mapped(arguments, _mark), {})
        else:
            self.note(function, *_mapped(arguments, _words))

    def changed(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call and note a function that overwrites one of these arrays and returns nothing that counts."""
        function(*_mapped(arguments, _words))
        self.later(function, *arguments)

    def made(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call and note a function of noted arrays that alters none; its result, noted."""
        plain, plainly = _mapped(arguments, _words), _mapped(named, _words)
        result = function(*plain, **plainly)
        every = _every((arguments, named))
        views = {id(owner_of(x.words)): x for x in every}
        owners = [owner_of(x) for x in arrays_in((plain, plainly)) if isinstance(x, np.ndarray)]
        public = {id(owner) for owner in owners} - views.keys()
        targets: list[Any] = []
        found = self._noted(result, views, public, targets)
        if all(target is None for target in targets):
            return found
        if any(x.place is not None for x in every):
            self.note(
                again_with, self.own, targets, function, _mapped(arguments, _mark), _mapped(named, _mark)
            )
        elif len(targets) == 1 and (straight := direct(function, plain, plainly, targets[0])) is not None:
            self.note(*straight)
        else:
            self.note(again, targets, partial(function, **plainly) if plainly else function, *plain)
        return found

    def _noted(self, result: Any, views: dict[int, Noted], public: set[int], targets: list[Any]) -> Any:
        """The result with its arrays noted. targets: where each array of it goes in each run, None for one
        that is a view of what stays."""
        if isinstance(result, (tuple, list)):
            return type(result)([self._noted(each, views, public, targets) for each in result])
        if isinstance(result, np.generic):
            result = np.asarray(result)
        if not isinstance(result, np.ndarray):
            if result is None or isinstance(result, bool):
                return result
            raise TypeError(f"a {type(result).__name__} made of noted arrays")
        owner = id(owner_of(result))
        if owner in public:
            targets.append(None)
            return result
        source = views.get(owner)
        if source is None:
            result = result if result.flags.writeable else result.copy()
            targets.append(result)
            return self.kept(result)
        if source.place is None:
            targets.append(None)
            return Noted(result, self)
        found = self.brought(result)
        targets.append(found.place)
        return found


class Noted(NDArrayOperatorsMixin):
    """An array whose words nobody reads. place: its number in `Notes.own`, where each run has its own."""

    __slots__ = ("notes", "place", "words")

    def __init__(self, words: np.ndarray, notes: Notes, place: int | None = None) -> None:
        self.words, self.notes, self.place = words, notes, place

    shape = property(lambda self: self.words.shape)
    dtype = property(lambda self: self.words.dtype)
    ndim = property(lambda self: self.words.ndim)
    size = property(lambda self: self.words.size)
    nbytes = property(lambda self: self.words.nbytes)
    itemsize = property(lambda self: self.words.itemsize)
    flags = property(lambda self: self.words.flags)
    base = property(lambda self: self.words.base)
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        return len(self.words)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a noted array has no words to read")

    def __bool__(self) -> NoReturn:
        raise TypeError("a noted array is neither true nor false")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        into = named.pop("out", None)
        call = ufunc if method == "__call__" else getattr(ufunc, method)
        if method == "at":
            self.notes.changed(call, _receiver(inputs[0]), *inputs[1:])
            return None
        if into is None:
            return self.notes.made(call, inputs, named)
        if named or len(into) != 1 or method != "__call__":
            raise TypeError(f"{ufunc.__name__} with {named} into an array")
        self.notes.changed(call, *inputs, _receiver(into[0]))
        return into[0]

    def __array_function__(self, function: Any, _: Any, arguments: Any, named: Any) -> Any:
        if "out" in named or function in _UNKNOWN:
            raise TypeError(f"{function.__name__} into a noted array")
        return self.notes.made(function, tuple(arguments), named)

    def __getitem__(self, index: Any) -> Any:
        if not _every(index) and np.ndim(self.words[index]) == 0:
            index = (*index, ...) if isinstance(index, tuple) else (index, ...)
        return self.notes.made(operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.notes.changed(operator.setitem, self, index, value)

    def copy(self, order: Any = "C") -> Any:
        return self.notes.made(copied, (self, order), {})

    def astype(self, kind: Any, copy: bool = True) -> Any:
        return self.notes.made(as_type, (self, np.dtype(kind), copy), {})

    def _method(name: str) -> Any:  # type: ignore[misc]  # a helper of the class body
        def call(self: Noted, *arguments: Any, **named: Any) -> Any:
            return self.notes.made(getattr(np.ndarray, name), (self, *arguments), named)

        return call

    reshape = _method("reshape")
    ravel = _method("ravel")
    view = _method("view")
    transpose = _method("transpose")
    swapaxes = _method("swapaxes")
    squeeze = _method("squeeze")
    repeat = _method("repeat")
    take = _method("take")
    sum = _method("sum")
    cumsum = _method("cumsum")
    clip = _method("clip")


# They alter an argument.
_UNKNOWN = {np.copyto, np.put, np.put_along_axis, np.place, np.putmask, np.fill_diagonal}


def noted(function: _Function) -> _Function:
    """A function of arrays that may be noted ones. It alters none, and its arrays are among its arguments or
    in lists and tuples of these."""

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if named.get("out") is not None:
            return function(*arguments, **named)
        for argument in arguments:
            if type(argument) is Noted:
                return argument.notes.made(function, arguments, named)
            if type(argument) is list or type(argument) is tuple:
                for one in argument:
                    if type(one) is Noted:
                        return one.notes.made(function, arguments, named)
        return function(*arguments, **named)

    return cast(_Function, call)


def noted_change(function: _Function) -> _Function:
    """As `noted`, of a function that overwrites its first argument and takes its arguments by place."""

    @wraps(function)
    def call(*arguments: Any) -> Any:
        every = _every(arguments)
        if not every:
            return function(*arguments)
        every[0].notes.changed(function, _receiver(arguments[0]), *arguments[1:])
        return True

    return cast(_Function, call)


def filled_beside(beside: Any, array: np.ndarray) -> Any:
    """A new array that functions of noted arrays may alter, if `beside` is one: each run begins anew."""
    if type(beside) is not Noted:
        return array
    beside.notes.note(np.copyto, array, array.copy())
    return beside.notes.kept(array)


def _receiver(array: Any) -> Noted:
    if not isinstance(array, Noted):
        raise TypeError("words of a rehearsal go to an array of the rehearsal")
    return array


def _every(value: Any) -> list[Noted]:
    """The noted arrays in nested arguments."""
    if isinstance(value, Noted):
        return [value]
    if isinstance(value, (tuple, list)):
        return [x for each in value for x in _every(each)]
    return [x for each in value.values() for x in _every(each)] if isinstance(value, dict) else []


def _mapped(value: Any, function: Callable[[Noted], Any]) -> Any:
    if isinstance(value, Noted):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)([_mapped(each, function) for each in value])
    return {k: _mapped(each, function) for k, each in value.items()} if isinstance(value, dict) else value


def _words(x: Noted) -> np.ndarray:
    return x.words


def _mark(x: Noted) -> Any:
    return x.words if x.place is None else Place(x.place)
