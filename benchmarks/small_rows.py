"""What do the roots and reciprocals of a few rows take? Processor time of all three parties together.

    python benchmarks/small_rows.py                     microseconds of each, for 1, 4 and 16 rows
    PYTHONPATH=OTHER python benchmarks/small_rows.py    the same of another tree

The three parties take turns in one thread, over links in memory, so nobody waits and no thread is switched.
The figure is the least of many runs. `keys`: `deal_prefixes` at all parties and `PrefixKeys.evaluate` at
both twins alone, without the links; the others are whole protocols.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np

from onnxpuma.mpc.format import RESTING, Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.party import PIVOT, Party, Protocol
from onnxpuma.mpc.prf import local_keys
from onnxpuma.mpc.protocols.linear import sum_of_squares
from onnxpuma.mpc.protocols.prefixes import Prefixes, deal_prefixes
from onnxpuma.mpc.protocols.reciprocal import RECIPROCAL_RANGE, reciprocal
from onnxpuma.mpc.protocols.times_power import Way
from onnxpuma.mpc.protocols.wide_root import wide_rsqrt
from onnxpuma.mpc.ring.long import Long
from onnxpuma.mpc.simulate import shared_reals
from onnxpuma.transport.memory import memory_links

KEYS = Prefixes(62, tuple(range(4, 61, 2)), (92,) * 29, (62,) * 29)  # about those of a root's fine reading
SHIFT, FINEST = 14, 5  # of a root: between its two readings, and the first digit of the fine one
GAIN = 27.7


def in_turns(program: Callable[[Party], Protocol[Any]]) -> list[Any]:
    """Run a protocol at three parties, round by round, in this thread."""
    parties = [Party(link, keys) for link, keys in zip(memory_links(), local_keys(), strict=True)]
    running = {party.index: program(party) for party in parties}
    results: list[Any] = [None] * 3
    with np.errstate(over="ignore"):
        while running:
            for index, protocol in list(running.items()):
                try:
                    next(protocol)
                except StopIteration as stop:
                    results[index] = stop.value
                    del running[index]
            for index in running:
                parties[index].exchange()
    return results


def keys_alone(rows: int) -> float:
    """Seconds of dealing and evaluating keys."""
    spent = 0.0
    rng = np.random.default_rng(rows)
    n, b = (rng.integers(0, 1 << KEYS.bits, rows, np.uint64) for _ in range(2))
    numbers = Long.of_words(np.ones((rows, len(KEYS.lengths)), np.uint64))

    def program(party: Party) -> Protocol[None]:
        nonlocal spent
        leads = party.role(0) == PIVOT
        given = (n, numbers, numbers) if leads else (None, None, None)
        began = process_time()
        keys = deal_prefixes(party, 0, *given, rows, KEYS)
        spent += process_time() - began
        yield
        if not leads:
            began = process_time()
            keys.evaluate(b)
            spent += process_time() - began

    in_turns(program)
    return spent


def whole(program: Callable[[Party, Replicated], Protocol[Any]], rows: int) -> float:
    """Seconds of a protocol on this many rows of eight numbers, with its links."""
    shares = shared_reals(np.random.default_rng(rows).normal(0, 9, (rows, 8)))
    spent = process_time()
    in_turns(lambda party: program(party, shares[party.index]))
    return process_time() - spent


def root(way: Way) -> Callable[[Party, Replicated], Protocol[Replicated]]:
    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        fine, coarse = (sum_of_squares(party, v, (1,)).reshape(-1) for v in (x, x.lowered(SHIFT)))
        made = RESTING.at(30)
        return (yield from wide_rsqrt(party, fine, coarse, 0, made, FINEST, GAIN, way))

    return program


def inverse(way: Way) -> Callable[[Party, Replicated], Protocol[Replicated]]:
    def program(party: Party, x: Replicated) -> Protocol[Replicated]:
        squares = sum_of_squares(party, x, (1,)).reshape(-1)
        return (yield from reciprocal(party, squares, 0, Format(64, 24), RECIPROCAL_RANGE, 1.0, way))

    return program


CASES: dict[str, Callable[[int], float]] = {
    "keys": keys_alone,
    **{f"root, {way.name.lower()}": lambda rows, way=way: whole(root(way), rows) for way in Way},  # type: ignore[misc]
    **{f"reciprocal, {way.name.lower()}": lambda rows, way=way: whole(inverse(way), rows) for way in Way},  # type: ignore[misc]
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", default="1,4,16")
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for rows in map(int, asked.rows.split(",")):
        for name, case in CASES.items():
            case(rows)
            found = 1e6 * min(case(rows) for _ in range(asked.repeat))
            if asked.json:
                print(json.dumps({"what": name, "rows": rows, "microseconds": round(found)}))
            else:
                print(f"{name:22} {rows:3} rows {found:8.0f} us", flush=True)


if __name__ == "__main__":
    main()
