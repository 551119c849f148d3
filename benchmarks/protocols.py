"""What does each protocol cost, and how exact is it? Three parties in this process, counted at their links.

    python benchmarks/protocols.py             the table of docs/protocols.md
    python benchmarks/protocols.py --json      the same as JSON
    python benchmarks/protocols.py -n 100000   with more elements: errors closer to the true maximum

Bytes are those of all three parties together, for one element (or one row). Errors are against float64, on
|x| < 6 for the activations; those of exp beyond its window, of 1 / x and of 1 / sqrt(x) are relative.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Bit, Pair, Replicated, see
from onnxpuma.mpc.party import Party, Protocol
from onnxpuma.mpc.protocols import compare, convert, gate, wide
from onnxpuma.mpc.protocols.argmax import argmax
from onnxpuma.mpc.protocols.exp_softmax import NARROW, WIDE, Window, exp_window
from onnxpuma.mpc.protocols.exponential import exponential
from onnxpuma.mpc.protocols.fourier import all_series
from onnxpuma.mpc.protocols.histogram import Histogram, row_peak
from onnxpuma.mpc.protocols.lifting_gate import lifting_gate
from onnxpuma.mpc.protocols.linear import multiply
from onnxpuma.mpc.protocols.logarithm import logarithm
from onnxpuma.mpc.protocols.maximum import row_maximum
from onnxpuma.mpc.protocols.reciprocal import digits_of, reciprocal, rsqrt
from onnxpuma.mpc.protocols.smooth import activation
from onnxpuma.mpc.protocols.square_root import square_root
from onnxpuma.mpc.protocols.truncate import lift, resolve
from onnxpuma.mpc.protocols.wide_root import wide_rsqrt
from onnxpuma.mpc.protocols.widen import widen
from onnxpuma.mpc.simulate import shared_reals, simulate

Reals = np.ndarray
Run = Callable[[Party, Replicated], Protocol[Any]]
ROW = 128  # elements in a row of the maximum

erf = np.vectorize(math.erf)


@dataclass(frozen=True)
class Line:
    """One protocol: rounds, bytes an element (or a row), and the error where it is not exact."""

    name: str
    rounds: int
    bytes: float
    largest: float | None = None
    mean: float | None = None


def arrived(x: Any) -> Protocol[Any]:
    yield
    return x


def drained(protocol: Protocol[Any]) -> Protocol[Any]:
    """Run a protocol whose last round is still open when it returns."""
    result = yield from protocol
    yield
    return result


def pair(party: Party, x: Replicated, bits: int) -> Pair:
    return Pair(party.role(0), 0, x.modulo(bits).first, Format(bits, x.fraction))


def bit(party: Party, x: Replicated) -> Bit:
    return Bit(party.role(0), 0, np.zeros(-(-x.size // 8), np.uint8), x.shape)


def squared(party: Party, x: Replicated) -> Protocol[Replicated]:
    return (yield from resolve(party, multiply(party, x, x), 0, RESTING))


def window(how: Window, party: Party, x: Replicated) -> Protocol[Pair]:
    """Digits for 240 units below the end of the window."""
    return (yield from exp_window(party, see(party, x, 0).lowered(3, 15 + 8), how))


def activated(name: str, deferred: bool, party: Party, x: Replicated) -> Protocol[Replicated]:
    """The activation; if deferred, of a product, x times one."""
    value = multiply(party, x, one(party, x)) if deferred else x
    return (yield from activation(party, value, all_series()[name], 0, RESTING))


def one(party: Party, x: Replicated) -> Replicated:
    return Replicated(party.index, x.first * np.uint64(0), x.second * np.uint64(0), Format(64, 18)).plus(
        np.uint64(1 << 18)
    )


def below(top: int, x: Reals) -> Reals:
    made: Reals = np.exp(x - top)
    return made


def sigmoid(x: Reals) -> Reals:
    return 0.5 * (1 + np.tanh(x / 2))


EXACT: dict[str, Run] = {
    "Sum3 to Split, 46 bits": lambda p, x: arrived(convert.split(p, multiply(p, x, x), 0, Format(46, 18))),
    "Sum3 to Replicated, 64 bits": lambda p, x: arrived(convert.replicate_sum(p, multiply(p, x, x))),
    "Pair to Replicated, 28 bits": lambda p, x: arrived(convert.replicate_pair(p, pair(p, x, 28))),
    "Pair to Split of the next party, 44 bits": lambda p, x: arrived(convert.pass_on(p, pair(p, x, 44))),
    "lift, 28 to 60 bits": lambda p, x: lift(p, see(p, x, 0).modulo(28), 60),
    "lift, 46 to 64 bits": lambda p, x: lift(p, see(p, x, 0).modulo(46), 64),
    "sign, 12 bits": lambda p, x: compare.is_negative(p, see(p, x, 0).modulo(12)),
    "sign, 16 bits": lambda p, x: compare.is_negative(p, see(p, x, 0).modulo(16)),
    "sign, 24 bits": lambda p, x: compare.is_negative(p, see(p, x, 0).modulo(24)),
    "sign, 64 bits": lambda p, x: compare.wide_negative(p, see(p, x, 0)),
    "equal to zero, 64 bits": lambda p, x: wide.wide_zero(p, see(p, x, 0)),
    "window of 16 units, 12 bits": lambda p, x: compare.locate(p, see(p, x, 0).modulo(12), 16),
    "gate, 28 bits, with halves": lambda p, x: gate.gate(p, bit(p, x), see(p, x, 0).modulo(28)),
    "gate, 28 bits, without": lambda p, x: gate.gate(p, bit(p, x), see(p, x, 0).lowered(1).modulo(28)),
    "gate that lifts, 17 to 28 bits": lambda p, x: lifting_gate(p, bit(p, x), x.modulo(17), 28),
    "Pair in a larger ring, 28 to 60 bits": lambda p, x: widen(p, pair(p, x, 28), 60),
    "bit to Pair, 28 bits": lambda p, x: gate.arithmetic(p, bit(p, x), 28),
}

FUNCTIONS: dict[str, Callable[[Reals], Reals]] = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "erf": erf,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softplus": lambda x: np.logaddexp(0, x),
}


def exact(name: str, run: Run, n: int) -> Line:
    cost = simulate(run, shared_reals(np.zeros(n))).cost
    return Line(name, cost.rounds, cost.bytes / n)


def measured(
    name: str, run: Run, x: Reals, function: Callable[[Reals], Reals], relative: bool = False
) -> Line:
    x = np.rint(x * 2**18) / 2**18
    made = simulate(run, shared_reals(x))
    error = np.abs(made.value() - function(x))
    if relative:
        error = error / np.abs(function(x))
    cost = made.cost
    return Line(name, cost.rounds, cost.bytes / x.size, float(error.max()), float(error.mean()))


def lines(n: int) -> list[Line]:
    rng = np.random.default_rng(0)
    found = [exact(name, run, n) for name, run in EXACT.items()]
    product = rng.uniform(-1000, 1000, n)
    found.append(measured("product and truncation", squared, product, np.square))
    x = rng.uniform(-6, 6, n)
    for name, function in FUNCTIONS.items():
        found.append(measured(name, partial(activated, name, False), x, function))
        found.append(measured(f"{name} of a product", partial(activated, name, True), x, function))
    for name, how in (("16", NARROW), ("24", WIDE)):
        x = how.top - rng.uniform(0.1, how.reach, n)
        function = partial(below, how.top)
        found.append(measured(f"exp of the highest {name} units", partial(window, how), x, function))
    wide_x = rng.uniform(-3, 10.9, n // 8)
    found.append(measured("exp, whole range", led(exponential), wide_x, np.exp, True))
    found += [maximum_of_rows(n // ROW), near_maximum_of_rows(n // ROW), place_in_rows(n // ROW)]
    spread, rows = np.exp(rng.uniform(-3, 9, n // 8)), rng.uniform(0.2, 128, n // 8)
    known = digits_of(0.13, 128, RESTING)
    found += [
        measured("1 / x, whole range, a row", led(reciprocal, RESTING.at(30)), spread, np.reciprocal, True),
        measured(
            "1 / x, 0.13 to 128, a row", led(reciprocal, RESTING.at(30), known), rows, np.reciprocal, True
        ),
        measured(
            "1 / sqrt(x), whole range, a row", led(rsqrt, RESTING.at(30)), spread, lambda x: x**-0.5, True
        ),
        measured("1 / abs(x) by squares, two readings", squares_root, 20 * spread, np.reciprocal, True),
        measured("log(x), whole range, a row", led(logarithm), spread, np.log),
        measured("sqrt(x), whole range, a row", led(square_root, RESTING.at(24)), spread, np.sqrt, True),
    ]
    return found


def squares_root(party: Party, x: Replicated) -> Protocol[Replicated]:
    """A row read twice, as in a normalisation: finely, and with fourteen bits less."""
    coarse = x.lowered(14)
    return (
        yield from wide_rsqrt(
            party, multiply(party, x, x), multiply(party, coarse, coarse), 0, RESTING.at(30)
        )
    )


def led(protocol: Callable[..., Protocol[Replicated]], *settings: Any) -> Run:
    return lambda party, x: protocol(party, x, 0, *settings)


def maximum_of_rows(count: int) -> Line:
    lengths = np.full(count, ROW)

    def highest(party: Party, x: Replicated) -> Protocol[Any]:
        return drained(row_maximum(party, see(party, x, 0).modulo(12), lengths))

    cost = simulate(highest, shared_reals(np.zeros(ROW * count))).cost
    return Line(f"maximum of rows of {ROW}, 12 bits", cost.rounds, cost.bytes / (ROW * count))


def near_maximum_of_rows(count: int) -> Line:
    """Of scores up to 240 apart, within 6 units."""
    lengths, how = np.full(count, ROW), Histogram(9, 7, 1)

    def highest(party: Party, x: Replicated) -> Protocol[Any]:
        return drained(row_peak(party, see(party, x, 0).lowered(3, 15 + 9), lengths, how, 15 + 8))

    cost = simulate(highest, shared_reals(np.zeros(ROW * count))).cost
    return Line(f"near the maximum of rows of {ROW}, 128 buckets", cost.rounds, cost.bytes / (ROW * count))


def place_in_rows(count: int) -> Line:
    def place(party: Party, x: Replicated) -> Protocol[Replicated]:
        return (yield from argmax(party, x.modulo(27)))

    cost = simulate(place, shared_reals(np.zeros((count, ROW)))).cost
    name = f"place of the largest of rows of {ROW}, 27 bits"
    return Line(name, cost.rounds, cost.bytes / (ROW * count))


def table(found: list[Line]) -> str:
    rows = ["| protocol | rounds | bytes | largest error | mean error |", "|---|--:|--:|--:|--:|"]
    for line in found:
        errors = ("exact", "") if line.largest is None else (f"{line.largest:.1e}", f"{line.mean:.1e}")
        rows.append(f"| {line.name} | {line.rounds} | {line.bytes:.1f} | {errors[0]} | {errors[1]} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="What each protocol costs, and how exact it is.")
    parser.add_argument("-n", type=int, default=65536, help="elements; a multiple of 1024")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = lines(options.n)
    print(json.dumps([asdict(line) for line in found], indent=1) if options.json else table(found))


if __name__ == "__main__":
    main()
