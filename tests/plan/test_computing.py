"""A prediction adds what one party computes to what the links take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxpuma.check.single import model_of, typed
from onnxpuma.mpc.cost import USUAL, Network
from onnxpuma.plan.examine.computing import predicted, work_of
from onnxpuma.plan.examine.machine import BYTE_SECONDS, MESSAGE_SECONDS, Machine, this_machine
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.local.memory import MemoryModel

SLOW = Machine({4: 1.0, 8: 10.0}, {4: 0.0, 8: 0.0}, 0.0, 0.0, 0.0, 0.0)
IDLE = Machine({4: 0.0, 8: 0.0}, {4: 0.0, 8: 0.0}, 0.0, 0.0, 0.0, 0.0)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def planned(op: str, **inputs: np.ndarray) -> Plan:
    given = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in inputs.items() if name not in given}
    model = typed(model_of(op, given, **attributes), given)
    return MemoryModel(model, secret_inputs=list(given), at_client=False, rewrite=False).plan(given)


# The products that the same node takes in the clear; a party computes twice as many.
CASES = [
    ("MatMul", {"a": zeros(5, 7), "b": zeros(7, 3)}, 5 * 7 * 3),
    ("MatMul", {"a": zeros(2, 5, 7), "b": zeros(2, 7, 3)}, 2 * 5 * 7 * 3),
    ("Gemm", {"a": zeros(7, 5), "b": zeros(7, 3), "transA": 1}, 5 * 7 * 3),
    ("Conv", {"x": zeros(1, 2, 8, 8), "w": zeros(4, 2, 3, 3)}, 4 * 6 * 6 * 2 * 9),
    ("ConvTranspose", {"x": zeros(1, 2, 8, 8), "w": zeros(2, 4, 3, 3)}, 2 * 64 * 4 * 9),
    (
        "Attention",
        {"q": zeros(1, 2, 5, 4), "k": zeros(1, 2, 6, 4), "v": zeros(1, 2, 6, 3)},
        2 * 5 * 6 * (4 + 3),
    ),
]


@pytest.mark.parametrize(("op", "inputs", "products"), CASES)
def test_products_are_counted_from_shapes(op: str, inputs: dict[str, np.ndarray], products: int) -> None:
    assert sum(work_of(planned(op, **inputs)).products.values()) == 2 * products


def test_each_part_of_the_work_takes_its_time() -> None:
    plan = planned("MatMul", a=zeros(5, 7), b=zeros(7, 3))
    found = predicted(plan, USUAL, SLOW, 1)
    words = work_of(plan).products
    assert found.products == pytest.approx(words.get(4, 0) + 10 * words.get(8, 0)) == found.computing
    assert predicted(plan, USUAL, SLOW, 4).products == pytest.approx(found.products / 4)
    plan = planned("Relu", x=zeros(100))
    cost = plan.cost
    assert predicted(plan, USUAL, replace(IDLE, bit=1.0), 1).elements == cost.bits
    assert predicted(plan, USUAL, replace(IDLE, round=1.0), 1).rounds == pytest.approx(
        cost.rounds * (1 + MESSAGE_SECONDS)
    )
    idle = predicted(plan, USUAL, IDLE, 1)
    assert idle.links == pytest.approx(USUAL.seconds(cost))
    assert idle.whole == idle.links + idle.computing
    endless = predicted(plan, Network(1e15, 0.0), IDLE, 1)
    assert endless.links == pytest.approx(cost.bytes / 3 * BYTE_SECONDS)


def test_this_machine_is_measured_once() -> None:
    machine = this_machine()
    assert machine is this_machine()
    assert 0 < machine.product[4] < machine.product[8] * 1.5
    assert min(machine.matrix.values()) >= 0
    assert 0 < machine.stream < 1e-7
    assert 0 < machine.bit < 1e-6
    assert 0 < machine.round < 1
    assert 0 < machine.element < 1e-5
