"""What do several runs at a time gain where the network is slow? Requests a second, the settings in turn.

    python benchmarks/sessions.py [--latency 20] [--sessions 1,2,4] [--seconds 30] [--repeat 2] [--json]

The three small models that ship are the graphs of one model, so requests for two of them cannot share a run.
For each graph there are --clients clients, which ask again as soon as they have their answer; the requests of
one graph are computed together. Servers and clients run as processes of this machine over the relay of
benchmarks/links.py. The settings of `limits.sessions` take turns, --repeat times, with fresh servers.

Every answer is compared with a plain run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import links
import numpy as np
from rich.console import Console
from rich.table import Table
from servers import Servers

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.run import open_session
from onnxpuma.roles.client.client import Client
from onnxpuma.shipped import shipped_model

GRAPHS = {"encoder_model": "digits", "decoder_model": "breast-cancer", "decoder_with_past_model": "tales"}
TOKENS = 8  # of a text that `tales` reads
TOLERANCE = 0.05


def gathered(folder: Path) -> Path:
    """The models as graphs of one."""
    for graph, name in GRAPHS.items():
        shutil.copy(shipped_model(name).path, folder / f"{graph}.onnx")
    return folder


def measure(client: Client, clients: int, seconds: float) -> dict[str, Any]:
    """What so many clients of each graph see in this time."""
    taken: dict[str, list[float]] = defaultdict(list)
    lost: list[str] = []
    wrong, over, lock = 0, threading.Event(), threading.Lock()

    def work(graph: str, number: int) -> None:
        nonlocal wrong
        shipped = shipped_model(GRAPHS[graph])
        inputs = shipped.inputs[number : number + 1]
        feed = {shipped.input_name: inputs[:, :TOKENS] if shipped.name == "tales" else inputs}
        (right,) = open_session(str(shipped.path)).run([shipped.output_name], feed)
        try:
            with client.another() as own:
                while not over.is_set():
                    began = time.perf_counter()
                    outcome = own.run(feed, [shipped.output_name], graph=graph)
                    error = np.abs(outcome.outputs[shipped.output_name] - right).max()
                    with lock:
                        taken[shipped.name].append(time.perf_counter() - began)
                        wrong += not error < TOLERANCE
        except OnnxpumaError as error:
            lost.append(error.message)

    asking = [
        threading.Thread(target=work, args=(graph, number)) for graph in GRAPHS for number in range(clients)
    ]
    began = time.perf_counter()
    for thread in asking:
        thread.start()
    time.sleep(seconds)
    over.set()
    for thread in asking:
        thread.join()
    total = sum(map(len, taken.values()))
    medians = {name: float(np.median(times)) for name, times in taken.items()}
    return {
        "a_second": total / (time.perf_counter() - began),
        "requests": total,
        "medians": medians,
        "wrong": wrong,
        "lost": lost,
    }


def show(found: Mapping[int, list[dict[str, Any]]]) -> None:
    table = Table("sessions", "a second", *GRAPHS.values(), "wrong", "lost", title="medians in seconds")
    for sessions, runs in found.items():
        table.add_row(
            str(sessions),
            ", ".join(f"{run['a_second']:.2f}" for run in runs),
            *(", ".join(f"{run['medians'].get(name, 0):.1f}" for run in runs) for name in GRAPHS.values()),
            str(sum(run["wrong"] for run in runs)),
            str(sum(len(run["lost"]) for run in runs)),
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    links.add_options(parser)
    parser.add_argument("--sessions", default="1,2,4", help="limits.sessions, one measurement each")
    parser.add_argument("--clients", type=int, default=2, help="of each graph")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    options = parser.parse_args()
    links.enter_namespace()
    network, without = links.chosen(options), links.Network("no delay", 0.0, 1e12)
    found: dict[int, list[dict[str, Any]]] = {int(text): [] for text in options.sessions.split(",")}
    with (
        tempfile.TemporaryDirectory() as folder,
        links.Relay(without, options.congestion, tuned=True) as relay,
        Servers(gathered(Path(folder))) as servers,
    ):
        for _ in range(options.repeat):
            for sessions, runs in found.items():
                relay.set(without)
                servers.serve(network, sessions=sessions)
                with servers.client(Client) as client:
                    measure(client, options.clients, 1.0)  # every plan is made
                    relay.set(network)
                    runs.append(measure(client, options.clients, options.seconds))
                    relay.set(without)
                print(f"{sessions}: {runs[-1]}", file=sys.stderr)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)


if __name__ == "__main__":
    main()
