"""Public numbers beside a secret value: addends, masks above all, that its words do not include yet.

A public number that is added to a secret, or replaces it by a public choice, need not go into the words. The
plan carries it (`Operand.beside`) through sums, choices and layouts to the operator that reads the value. An
operator that looks for the largest of a row (Softmax, ArgMax) leaves out the elements that cannot win,
exactly and whatever the numbers are (running.py). The result of an operator on single elements is public
wherever the number is out of reach (elements.py): beyond all that the operator can read. All others read the
sum (`whole`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from onnxpuma.graph.run import run_node
from onnxpuma.mpc.forms import Form
from onnxpuma.ops.registry import Call, Operand, Operator, Value
from onnxpuma.standard.mask_values import BEYOND_SCALES, FAR, LARGEST, NOTICED, OUT

F = TypeVar("F", bound=Form)
V = TypeVar("V", bound=object)
Beside = Sequence["np.ndarray | None"]


def is_far(value: Value) -> bool:
    """Whether a public operand goes beside the words instead of into them."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not value.size:
        return False
    return bool(np.max(np.abs(value.astype(np.float64)), where=~np.isnan(value), initial=0.0) > NOTICED)


def beside_of(operand: Operand | None) -> np.ndarray | None:
    """The public numbers of an operand that go beside the words of a result."""
    if operand is None:
        return None
    if operand.value is None:
        return operand.beside
    return operand.value.astype(np.float64) if is_far(operand.value) else None


def in_words(value: V) -> V:
    """A public operand as it goes into the words of a result: zeros if it goes beside them."""
    return np.zeros_like(value) if isinstance(value, np.ndarray) and is_far(value) else value


def kept(beside: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """`beside` for an output of this shape, None if it is all zeros; infinity less infinity is zero."""
    if beside is None:
        return None
    beside = np.where(np.isnan(beside), 0.0, beside)
    return np.broadcast_to(beside, shape) if beside.any() else None


def furthest(call: Call) -> float:
    """The distance from zero at which a kernel puts a number that need only be far out."""
    return call.outputs[0].enough or LARGEST


def any_beside(call: Call) -> bool:
    """Whether a public number stands beside a secret input."""
    return any(o.beside is not None for o in call.secrets)


def held(values: np.ndarray, largest: float = LARGEST) -> np.ndarray:
    """Numbers as words hold them: `largest` for infinity, at most half of it for a finite number."""
    real = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    return np.where(np.isinf(real), np.sign(real) * largest, np.clip(real, -largest / 2, largest / 2))


def whole(x: V, operand: Operand | None, largest: float = LARGEST) -> V:
    """A secret plus the numbers beside it; any other operand unchanged."""
    if operand is None or not isinstance(x, Form):
        return x
    return with_numbers(x, operand.beside, largest)


def with_numbers(x: F, beside: np.ndarray | None, largest: float = LARGEST) -> F:
    """x plus the numbers beside it."""
    return x if beside is None else x.plus_numbers(held(beside, largest))


def fits(operand: Operand, aware: bool) -> bool:
    """Whether the numbers that a reader adds to the words still fit, at the scale of the words."""
    if operand.beside is None:
        return True
    sizes = np.abs(held(operand.beside))
    largest = np.max(sizes, where=sizes < OUT, initial=0.0) if aware else sizes.max(initial=0.0)
    return bool(largest < operand.format.largest / 2)


def unheld(call: Call, operator: Operator) -> str | None:
    """Refuse a public number that an operator must read as part of a secret, but cannot."""
    if operator.beside is not None or not any_beside(call):
        return None
    return too_far(call, LARGEST if operator.cost(call).rounds == 0 else FAR)


def too_far(call: Call, limit: float) -> str | None:
    """Refuse public numbers beside secret inputs that are not below `limit`."""
    for operand in call.secrets:
        values = operand.beside
        if values is not None and np.abs(values).max(initial=0.0) >= limit:
            number = float(values.reshape(-1)[np.abs(values).argmax()])
            return (
                f"its input '{operand.name}' holds the public number {number:g}, further out than it "
                "can read: put a number within 2^20 there, or leave masked places out before it"
            )
    return None


def factor(call: Call, values: np.ndarray) -> np.ndarray:
    """A public factor as words hold it; a factor that only creates a mask is as large as the mask must be."""
    return any_factor(values, furthest(call))


def any_factor(values: np.ndarray, far: float = LARGEST) -> np.ndarray:
    """`factor` for a mask that must be `far` from zero."""
    if values.dtype.kind != "f":
        return values
    return np.where(np.abs(values) > BEYOND_SCALES, held(values, far), held(values))


def out_of_reach(operand: Operand) -> np.ndarray:
    return np.zeros(()) if operand.beside is None else np.abs(operand.beside) >= OUT


def unmasked(
    values: Sequence[np.ndarray | None], operands: Sequence[Operand | None]
) -> list[np.ndarray | None]:
    """Plain operands as kernels read them: without the public numbers out of reach, and with elements that a
    secret mask puts out of reach no further out than words can hold."""
    found: list[np.ndarray | None] = []
    for value, operand in zip(values, [*operands, *[None] * len(values)], strict=False):
        if value is not None and value.dtype.kind == "f":
            if operand is not None and operand.secret and operand.beside is not None:
                value = np.where(out_of_reach(operand), 0.0, value)
            value = held(value, (operand.reach if operand is not None else 0.0) or LARGEST)
        found.append(value)
    return found


# -- the numbers beside the outputs, for each kind of operator ---------------------------------------


def of_sum(call: Call) -> Beside:
    """Add, Sub, Sum, Neg."""
    total: np.ndarray | None = None
    for place, operand in enumerate(call.inputs):
        part = beside_of(operand)
        if part is not None:
            negative = call.node.op == "Neg" or (call.node.op == "Sub" and place == 1)
            part = -part if negative else part
            with np.errstate(invalid="ignore"):
                total = part if total is None else total + part
    return [kept(total, call.outputs[0].shape)]


def of_scaled(call: Call) -> Beside:
    """Mul and Div of a secret by public numbers."""
    first, second = call.given(0), call.given(1)
    if first.secret and second.secret:
        return [None]
    secret, public = (first, second) if first.secret else (second, first)
    if secret.beside is None or public.value is None:
        return [None]
    factor = public.value.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        made = secret.beside / factor if call.node.op == "Div" else secret.beside * factor
    return [kept(made, call.outputs[0].shape)]


def of_choice(call: Call) -> Beside:
    """Where by a public condition."""
    condition, parts = call.public(0), [beside_of(call.operand(place)) for place in (1, 2)]
    if condition is None or all(part is None for part in parts):
        return [None]
    a, b = (np.zeros(()) if part is None else part for part in parts)
    return [kept(np.where(condition, a, b), call.outputs[0].shape)]


def of_moved(call: Call) -> Beside:
    """Operators that move the elements of their first input."""
    first = call.given(0)
    if first.beside is None:
        return [None] * len(call.outputs)
    values = [first.beside, *(None if o is None else o.value for o in call.inputs[1:])]
    made = run_node(call.node, values, call.opset)
    return [kept(v.astype(np.float64), o.shape) for v, o in zip(made, call.outputs, strict=True)]


def of_merged(call: Call, places: Sequence[int]) -> Beside:
    """Operators that move the elements of these inputs, which may be public."""
    parts = {place: beside_of(call.operand(place)) for place in places}
    if all(part is None for part in parts.values()):
        return [None] * len(call.outputs)
    values = [None if o is None else o.value for o in call.inputs]
    for place, part in parts.items():
        operand = call.operand(place)
        if operand is not None:
            values[place] = np.zeros(operand.shape) if part is None else np.array(part)
    made = run_node(call.node, values, call.opset)
    return [kept(v.astype(np.float64), o.shape) for v, o in zip(made, call.outputs, strict=True)]


def of_concat(call: Call) -> Beside:
    """Concat."""
    return of_merged(call, range(len(call.inputs)))


def of_put(call: Call) -> Beside:
    """Pad, ScatterND, ScatterElements: the first input and the third, by public places."""
    return of_merged(call, (0, 2))


_MERGES = (of_concat, of_put)
