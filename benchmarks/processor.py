"""Where the processor time of a party goes: random words, products, packing, loops; without a network.

Three parties run a model as threads of one process, its weights in the rings that `share` chooses. Each
thread counts its own processor time, so other programs on the machine change the figures little.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from onnxpuma.mpc.prf import AesStream
from onnxpuma.mpc.ring import products
from onnxpuma.plan.examine.example import draw_inputs
from onnxpuma.plan.examine.support import fitting_shapes
from onnxpuma.plan.owner_policy import DEFAULT
from onnxpuma.roles.local.memory import MemoryModel

KERNEL = {"matmul": "ring products", "pack": "packing", "unpack": "packing", "loop": "fused loops"}
SIZES = (1 << 16, 1 << 20, 1 << 21, 1 << 23)  # bytes, at which draws are divided

_spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))  # thread -> part -> seconds
_drawn: Counter[int] = Counter()  # the least of SIZES above a draw, or 0 -> bytes


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which adds the processor time of its calls to a part."""

    def counted(*arguments: Any, **options: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            _spent[threading.current_thread().name][part] += time.thread_time() - began

    return counted


class Kernel:
    """The compiled kernel, with its functions timed."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._kernel, name)
        return timed(KERNEL[name], found) if name in KERNEL else found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file")
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=SIZE")
    options = parser.parse_args()
    sizes = {name: int(size) for name, size in (each.split("=") for each in options.dim)}
    model = MemoryModel(onnx.load(options.model), DEFAULT)
    feed = draw_inputs(model.blueprint, fitting_shapes(model.blueprint, sizes), 0)
    model.run(feed)  # results of constant steps, which stay

    fill = timed("random words", AesStream.fill)

    def counted(stream: AesStream, out: Any) -> None:
        _drawn[next((size for size in SIZES if out.nbytes < size), 0)] += out.nbytes
        fill(stream, out)

    AesStream.fill = counted  # type: ignore[method-assign, assignment]
    kernel = Kernel(products.native())
    products.native = lambda: kernel
    run = threading.Thread.run

    def whole(thread: threading.Thread) -> None:
        timed("all", run)(thread)

    threading.Thread.run = whole  # type: ignore[method-assign, assignment]
    main_thread = threading.current_thread().name
    model.run(feed)
    parties = [parts for name, parts in _spent.items() if name != main_thread and parts["all"]]
    total = sum(parts["all"] for parts in parties)
    print(f"a party: {total / len(parties):.2f} s of processor time")
    for part in ("random words", *dict.fromkeys(KERNEL.values())):
        print(f"{part}: {100 * sum(parts[part] for parts in parties) / total:.0f} %")
    drawn = sum(_drawn.values())
    for size in (*SIZES, 0):
        limit = f"below {size >> 10} KB" if size else "of more"
        print(f"random words in draws {limit}: {100 * _drawn[size] / drawn:.0f} %")


if __name__ == "__main__":
    main()
