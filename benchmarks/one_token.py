"""Where does the time of a token go? SmolLM2-135M in one process: planning, and a party's processor time.

    python benchmarks/one_token.py --model FOLDER [--context 64] [--tokens 3] [--drafts 4] [--profile]

Three parties are threads of this process, with links in memory: no encryption, no sockets, no client. Weights
and cache are random words, and layers of one shape share them, so that the model fits into little memory; the
words that a party computes with decide nothing. The script reports the processor time of a plan made anew and
of one made from the plan before, and that of one party for a token. --profile: the functions that take most.
--drafts: the run reads so many guessed tokens as well, and gives the token after each.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.graph.next_token import NEXT_TOKEN, NEXT_TOKENS
from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.party import Party
from onnxpuma.mpc.prf import local_keys
from onnxpuma.mpc.protocols.dpf import share_ids
from onnxpuma.mpc.sharing import held_by
from onnxpuma.plan.blueprint import Blueprint
from onnxpuma.plan.compile import compile_plan
from onnxpuma.plan.examine.kept_bounds import settled
from onnxpuma.plan.examine.widths import with_widths
from onnxpuma.plan.known.recall import Recall
from onnxpuma.plan.owner_policy import DEFAULT
from onnxpuma.plan.plan import Plan, Selection
from onnxpuma.plan.prepare import prepare
from onnxpuma.standard.padding import BLOCK
from onnxpuma.transport.memory import memory_links

RANDOM = np.random.default_rng(0)


def planned(blueprint: Blueprint, past: int, recall: Recall | None = None, drafts: int = 0) -> Plan:
    """The plan for the token after `past` others, whose cache the servers hold, and for guesses behind it. As
    a decoder does, it fills the cache up to whole blocks where there are none."""
    padding = 0 if drafts else -(past + 1) % BLOCK
    total = past + 1 + drafts
    known = {name: spec.default for name, spec in blueprint.inputs.items() if spec.default is not None}
    known |= {
        "input_ids": np.zeros((1, 1 + drafts), np.int64),
        "attention_mask": np.array([[0] * padding + [1] * total]),
        "position_ids": np.arange(past, total)[None],
    }
    held = tuple(name for name in blueprint.inputs if "past" in name)
    empty = [n for n, spec in blueprint.inputs.items() if n not in known and spec.default is None]
    shapes = {n: v.shape for n, v in known.items()} | dict.fromkeys(empty, (0,))
    for name in held:
        _, *rest = blueprint.inputs[name].shape
        shapes[name] = (1, *(d if isinstance(d, int) else padding + past for d in rest))
    public = {n: known.get(n, np.zeros(0, np.int64)) for n in blueprint.public_inputs if n in shapes}
    keep = tuple(name for name in blueprint.outputs if name.startswith("present"))
    shapes = {name: shape for name, shape in shapes.items() if name in blueprint.inputs}
    opened = (NEXT_TOKENS if drafts else NEXT_TOKEN,)
    return compile_plan(blueprint, shapes, public, Selection(opened, keep, held), recall=recall)


def dealt(shape: tuple[int, ...], format: Format) -> list[Replicated]:
    """The three parties' shares of random words."""
    words = [RANDOM.integers(0, 1 << 63, shape, np.uint64).astype(format.word) for _ in range(3)]
    return [held_by(party, words, format) for party in range(3)]


def token(plan: Plan, interpreters: list[Interpreter], profile: cProfile.Profile | None) -> list[float]:
    """Run a plan; the processor time of each party in seconds. profile: of party 0."""
    inputs: list[dict[str, Any]] = [{}, {}, {}]
    for entry in (*plan.inputs, *plan.held):
        parts: Any = dealt(entry.shape, entry.format)
        if entry.depth:
            parts = share_ids(np.zeros(entry.shape, np.int64), entry.depth)
        for party in range(3):
            inputs[party][entry.operand] = parts[party]
    links, keys, spent = memory_links(timeout=600), local_keys(), [0.0] * 3

    def work(index: int) -> None:
        began = time.thread_time()
        if profile is not None and index == 0:
            profile.enable()
        interpreters[index].run(plan, Party(links[index], keys[index]), inputs[index])
        if profile is not None and index == 0:
            profile.disable()
        spent[index] = time.thread_time() - began

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent


def seconds(work: Callable[[], Any]) -> float:
    """The processor time of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a folder that tools/export.py wrote")
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=3)
    parser.add_argument("--drafts", type=int, default=0, help="guessed tokens that a run reads as well")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    sys.setswitchinterval(1)  # threads take turns where one waits, not every 5 ms
    prepared, graph = prepare(options.model / "model.onnx")
    blueprint = with_widths(settled({"": prepared})[""], DEFAULT)  # the bounds and rings that `share` chooses
    recall, past = Recall(), options.context - 1
    drafts = options.drafts
    planned(blueprint, past, recall, drafts)
    lengths = range(past + 1, past + 1 + options.tokens)
    anew = min(seconds(lambda n=n: planned(blueprint, n, None, drafts)) for n in lengths)
    again = min(seconds(lambda n=n: planned(blueprint, n, recall, drafts)) for n in lengths)
    plan = planned(blueprint, past, recall, drafts)
    pool: dict[Any, list[Weights]] = {}
    weights: list[dict[str, Replicated]] = [{}, {}, {}]
    for name in blueprint.weights:
        key = tuple(graph.initializers[name].shape), blueprint.format(name)
        if key not in pool:
            pool[key] = [Weights.of(x) for x in dealt(*key)]
        for party in range(3):
            weights[party][name] = pool[key][party]
    interpreters = [Interpreter(held) for held in weights]
    spent = min(min(token(plan, interpreters, None)) for _ in range(options.tokens))
    print(f"a plan, made anew {anew:.3f} s, from the one before {again:.3f} s; {len(plan.steps)} steps")
    print(f"a party {spent:.3f} s of processor time; {plan.cost.rounds} rounds, {plan.cost.bytes:,.0f} bytes")
    if options.profile:
        profile = cProfile.Profile(time.thread_time)
        token(plan, interpreters, profile)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
