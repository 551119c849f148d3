"""What do receipts cost? One model at servers that sign receipts and at servers that do not, in turn.

Both trios run as processes on this machine. The bytes of a report are those of the run; what receipts add to
them is in docs/wire.md.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from pathlib import Path

from onnxpuma.plan.examine.example import draw_inputs
from onnxpuma.plan.examine.support import fitting_shapes
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.shipped import shipped_model


def measure(path: Path, sizes: dict[str, int], repeat: int) -> dict[bool, list[float]]:
    """Seconds of each run, from the first byte that its client sends to the last that it receives, with
    receipts (True) and without."""
    found: dict[bool, list[float]] = {True: [], False: []}
    with ExitStack() as stack:
        clients = {}
        for on in found:
            servers = stack.enter_context(LocalCluster(path, receipts=on))
            clients[on] = stack.enter_context(servers.client())
        blueprint = clients[True].blueprint
        feed = draw_inputs(blueprint, fitting_shapes(blueprint, sizes))
        for number in range(1 + repeat):
            for on, client in clients.items():
                seconds = client.run(feed).seconds
                if number:  # the servers make the plan in the first run
                    found[on].append(seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", type=Path, default=shipped_model("digits").path)
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=SIZE", help="as for inspect")
    parser.add_argument("--repeat", type=int, default=12)
    arguments = parser.parse_args()
    sizes = {name: int(size) for name, size in (text.split("=") for text in arguments.dim)}
    found = measure(arguments.model, sizes, arguments.repeat)
    medians = {on: statistics.median(seconds) for on, seconds in found.items()}
    for on, seconds in found.items():
        listed = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"{'with' if on else 'without'} receipts: median {medians[on]:.3f} s of {listed}")
    print(f"ratio {medians[True] / medians[False]:.3f}")


if __name__ == "__main__":
    main()
