"""How long does a model take between machines that are far apart? Predicted and measured, on emulated links.

    python benchmarks/network.py --quick                     the small models that ship
    python benchmarks/network.py [--only bert] [--model FOLDER] [--networks WAN] [--cache DIR] [--json]

Three servers and a client run as processes of this machine, over encrypted connections through the relay
of benchmarks/links.py. Cases: BERT-base at 128 tokens, GPT-2 at 32, a token of SmolLM2 with 64 tokens of
context (exact shapes, random weights; tools/export.py makes the models, which needs the extra `export`).
--model takes an exported folder for the one case that --only names.

A network's milliseconds are those of one direction, half of a ping, and its rate is that at which one machine
sends to all others together: [network] in cluster.toml, --latency and --bandwidth of `onnxpuma inspect`. For
each network the servers start afresh and plan for it. The same plan first runs without delay and limit, which
tells how long this machine computes, and then over the network, with and without losses. `links` are the
seconds that the plan predicts for the links, as `inspect` does; `predicted` adds those without delay. A plan
in lanes computes while words travel, so its links count only the seconds of words beyond those of computing.
Seconds last from the first byte that the client sends to the last that it receives. TCP is set up as
docs/deployment.md recommends; --untuned leaves it as the kernel has it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import links
import numpy as np
import tokens
from rich.console import Console
from rich.table import Table
from servers import Servers

import models
from onnxpuma.mpc.cost import Network
from onnxpuma.plan.examine.example import choose_shapes, draw_inputs
from onnxpuma.plan.lanes.lanes import links_seconds
from onnxpuma.plan.plan import Plan
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.shipped import shipped_models
from onnxpuma.tasks.decoder import causal_decoder
from onnxpuma.tasks.secure import SecureRunner

WITHOUT = links.Network("no delay", 0.0, 1e12)
WARM = 5  # tokens until plans are made ahead, and steps of single layers replayed
NETWORKS = (
    links.Network("LAN", 0.25e-3, 5e9),
    links.Network("region", 1e-3, 5e9),
    links.Network("WAN", 20e-3, 400e6),
    links.Network("lossy WAN", 20e-3, 400e6, 1e-3),
)


@dataclass(frozen=True)
class Case:
    """A model, and what a client asks of it."""

    title: str
    exported: Callable[[Path], Path]  # the model's file or folder, by the cache folder
    sequence: int | None = None  # None: the model's default size
    decodes: bool = False  # the request is one more token after `sequence` tokens


CASES = (
    *(Case(case.title, partial(models.exported, case), case.sequence) for case in models.CASES),
    Case("SmolLM2-135M, a token after 64", tokens.exported, 64, decodes=True),
)


def shipped() -> tuple[Case, ...]:
    """The models that ship, at their default sizes."""
    return tuple(Case(name, lambda _, path=each.path: path) for name, each in shipped_models().items())


@dataclass(frozen=True)
class Run:
    """One request over one network."""

    network: links.Network
    links: float  # seconds that the plan predicts for the links alone
    computing: float  # seconds of the same plan without delay
    seconds: float
    bytes_sent: int  # by all three servers
    rounds: int

    @property
    def predicted(self) -> float:
        return self.links + self.computing


class PricedClient(Client):
    """A client that remembers its last request: its plan, and what came of it."""

    plan: Plan
    outcome: Outcome

    def run(self, *arguments: Any, **options: Any) -> Outcome:
        self.outcome = super().run(*arguments, **{**options, "dealt": self._note})
        return self.outcome

    def _note(self, plan: Plan, _: object) -> None:
        self.plan = plan


def measure(
    case: Case, model: Path, networks: Sequence[links.Network], relay: links.Relay, threads: int
) -> list[Run]:
    """One request over each network, after one with the same plan and without delay."""
    print(f"sharing {case.title} among three servers ...", file=sys.stderr)
    found: list[Run] = []
    with Servers(model, threads) as servers:
        for _, alike in groupby(networks, lambda network: (network.latency, network.bandwidth)):
            group = list(alike)
            relay.set(WITHOUT)
            servers.serve(group[0])
            with servers.client(PricedClient) as client:
                request = (
                    _token(client, case.sequence or 0) if case.decodes else _whole(client, case.sequence)
                )
                for _ in range(1 + (WARM if case.decodes else 1)):  # a fresh server's first are slower
                    request()
                computing = client.outcome.seconds
                for network in group:
                    relay.set(network)
                    request()
                    found.append(_run(network, client, computing))
                    print(f"{network.name}: {computing:.2f} and {found[-1].seconds:.2f} s", file=sys.stderr)
                relay.set(WITHOUT)
    return found


def _whole(client: Client, sequence: int | None) -> Callable[[], object]:
    """The request that asks for all outputs of a model, for inputs of this size."""
    sizes = {} if sequence is None else {"batch": 1, "sequence": sequence}
    feed = draw_inputs(client.blueprint, choose_shapes(client.blueprint, sizes))
    return lambda: client.run(feed)


def _token(client: Client, context: int) -> Callable[[], object]:
    """The request that asks for one more token, after a prompt that the model has read by now."""
    ids = np.random.default_rng(0).integers(0, tokens.VOCABULARY, context - 1).tolist()
    decoder = causal_decoder(SecureRunner(client))
    said = [decoder.read(ids)]
    return lambda: said.append(decoder.read([said[-1].token]))


def _run(network: links.Network, client: PricedClient, computing: float) -> Run:
    alone = links_seconds(client.plan, Network(network.bandwidth, network.latency), computing)
    reports = client.outcome.reports
    sent, rounds = sum(each.bytes_sent for each in reports), max(each.rounds for each in reports)
    return Run(network, alone, computing, client.outcome.seconds, sent, rounds)


def shown(title: str, runs: Sequence[Run]) -> Table:
    """As a table for a person."""
    table = Table(title=title)
    for column in ("network", "MB", "rounds", "no delay", "links", "predicted", "measured"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for run in runs:
        seconds = (run.computing, run.links, run.predicted, run.seconds)
        size = f"{run.bytes_sent / 1e6:,.1f}"
        table.add_row(_described(run.network), size, str(run.rounds), *(f"{each:.2f}" for each in seconds))
    return table


def _described(network: links.Network) -> str:
    lost = f", {network.loss:.1%} lost" if network.loss else ""
    rate = f"{network.bandwidth / 1e6:g} Mbit/s"
    return f"{network.name}: {network.latency * 1e3:g} ms, {rate}{lost}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small models that ship")
    parser.add_argument("--only", default="", help="cases whose title contains this text")
    parser.add_argument("--networks", default="", help="networks whose name contains this text")
    parser.add_argument("--model", type=Path, help="an exported folder, for the case that --only names")
    parser.add_argument("--congestion", default="cubic", help="TCP's congestion control: cubic, bbr, reno")
    parser.add_argument("--untuned", action="store_true", help="TCP as the kernel has it")
    parser.add_argument("--threads", type=int, default=1, help="for matrix products, at each server")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "onnxpuma-benchmarks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = [c for c in (shipped() if options.quick else CASES) if options.only.lower() in c.title.lower()]
    networks = [n for n in NETWORKS if options.networks.lower() in n.name.lower()]
    if options.model is not None and len(cases) != 1:
        parser.error("--model is one model: name its case with --only")
    # A hub may be needed for these, and the namespace reaches none.
    made = [options.model or case.exported(options.cache) for case in cases]
    links.enter_namespace()
    figures = {}
    with links.Relay(WITHOUT, options.congestion, tuned=not options.untuned) as relay:
        for case, model in zip(cases, made, strict=True):
            figures[case.title] = measure(case, model, networks, relay, options.threads)
    if options.json:
        print(
            json.dumps(
                {
                    title: [asdict(run) | {"predicted": run.predicted} for run in runs]
                    for title, runs in figures.items()
                },
                indent=1,
            )
        )
    else:
        load = os.getloadavg()[0]
        Console().print(f"{os.cpu_count()} cores, of which others used some: load {load:.1f}")
        for title, runs in figures.items():
            Console().print(shown(title, runs))


if __name__ == "__main__":
    main()
