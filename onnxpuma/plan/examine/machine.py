"""How fast this machine computes: a calibration of two seconds, for predictions.

It counts processor time, which depends little on what else runs here. Links have no part in it: what a
message costs at both ends was measured once (benchmarks/transport.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from onnxpuma.graph.model import Node
from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Cost
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.prf import AesStream, fresh_key
from onnxpuma.mpc.ring import arrays
from onnxpuma.mpc.simulate import shared_reals, simulate
from onnxpuma.ops.registry import Call, Operand, operators
from onnxpuma.transport.link import PARTIES

MESSAGE_SECONDS = 1e-4  # of one round at the links' two ends: ZeroMQ, and waking its threads
BYTE_SECONDS = 4e-9  # of a byte that is encrypted at one end and decrypted at the other

_OPSET = 23
_MANY_ROWS = 128, 768, 768  # rows, depth and width of the matrices that are multiplied
_ONE_ROW = 1, 2048, 4096  # the one on the right does not fit into a cache
_STREAM = 1 << 22  # bytes of a key stream
_FEW, _ELEMENTS = 1 << 4, 1 << 16
_SLICE = 0.05  # seconds for which one thing is repeated


@dataclass(frozen=True)
class Machine:
    """Seconds of one core for a unit of each kind of work of one party."""

    # By the bytes of a word: for one product of words, and for one word of a matrix on the right.
    product: dict[int, float]
    matrix: dict[int, float]
    # For a byte of a pseudo-random stream.
    stream: float
    # For a bit that all three parties send, in protocols on many elements.
    bit: float
    # For a round of a protocol on few elements.
    round: float
    # For an element that a step without messages moves or adds.
    element: float


@cache
def this_machine() -> Machine:
    """Measure it, once in a process."""
    many_rows = {bits // 8: _product_seconds(_MANY_ROWS, bits) for bits in (32, 64)}
    one_row = {bits // 8: _product_seconds(_ONE_ROW, bits) for bits in (32, 64)}
    stream, out = AesStream(fresh_key()), arrays.empty((_STREAM,), 8)
    words = arrays.ones((2, _ELEMENTS), 64)
    few, many = _protocols(_FEW), _protocols(_ELEMENTS)
    return Machine(
        many_rows,
        {size: max(0.0, one_row[size] - many_rows[size]) for size in one_row},
        _repeated(lambda: stream.fill(out)) / _STREAM,
        max(0.0, many[0] - few[0]) / (many[1].bits - few[1].bits),
        few[0] / few[1].rounds,
        _repeated(lambda: arrays.contiguous((words + words).T)) / _ELEMENTS,
    )


def _repeated(work: Callable[[], object]) -> float:
    """Processor seconds of one call, the least of several."""
    found: list[float] = []
    end = time.perf_counter() + _SLICE
    while len(found) < 3 or time.perf_counter() < end:
        began = time.thread_time()
        work()
        found.append(time.thread_time() - began)
    return min(found)


def _product_seconds(sizes: tuple[int, int, int], bits: int) -> float:
    rows, depth, width = sizes
    a, b = arrays.ones((rows, depth), bits), arrays.ones((depth, width), bits)
    return _repeated(lambda: ring.matmul(a, b)) / (rows * depth * width)


def _protocols(elements: int) -> tuple[float, Cost]:
    """Processor seconds of one party in some protocols of models, and their cost."""
    shape = (max(1, elements // 128), min(elements, 128))
    calls = [_call(name, shape) for name in ("Gelu", "Softmax", "Tanh")]
    shares = shared_reals(np.random.default_rng(0).normal(0, 1, shape))

    def program(party: Party, x: Replicated) -> Protocol[None]:
        for call in calls:
            yield from operators()[call.node.op].kernel(party, call, x)

    found = []
    for _ in range(3):
        began = time.process_time()
        run = simulate(program, shares)
        found.append((time.process_time() - began) / PARTIES)
    return min(found), run.cost


def _call(name: str, shape: tuple[int, ...]) -> Call:
    real = np.dtype(np.float32)
    operand, made = (Operand(n, shape, real, format=RESTING, resting=RESTING) for n in "xy")
    version = {"Gelu": 20, "Softmax": 13, "Tanh": 13}[name]
    return Call(Node(name, name, "", version, ("x",), ("y",)), (operand,), _OPSET, (made,))
