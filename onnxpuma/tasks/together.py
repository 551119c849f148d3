"""Several texts written together: their prompts padded on the left, one run a token for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxpuma.graph.next_token import NEXT_TOKEN, SUPPRESSED
from onnxpuma.graph.sampling import MARKED, PARAMETERS_INPUT, SHIFT
from onnxpuma.tasks.cache import MASK, POSITIONS, Cache, padded
from onnxpuma.tasks.decoder import MODEL, past_of_present
from onnxpuma.tasks.drawable import check_drawn, vocabulary
from onnxpuma.tasks.port import Port, Run, Runner, signature
from onnxpuma.tasks.rules import Rules
from onnxpuma.tasks.sampling import Draw, Sampling, draw, together

_DERIVED = (
    SUPPRESSED,
    PARAMETERS_INPUT,
    SHIFT,
    MARKED,
)  # inputs that no export has


def can_share(runner: Runner) -> bool:
    """Whether the model can write several texts in one batch: it takes a mask, positions and a cache, each
    with a batch axis."""
    takes = signature(runner, MODEL).inputs if MODEL in runner.graphs else {}
    caches = [port for name, port in takes.items() if "past" in name]
    takes = {name: port for name, port in takes.items() if name not in _DERIVED}
    fixed = any(isinstance(port.shape[0], int) for port in takes.values())
    known = {"input_ids", MASK, POSITIONS} | {port.name for port in caches}
    return bool(caches) and not fixed and {MASK, POSITIONS} <= takes.keys() <= known


def alike(rules: Sequence[Rules]) -> bool:
    """Whether these texts suppress the same ids at each place: one list counts for a whole run."""
    return len({replace(each, most=1) for each in rules}) == 1


def write_together(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    rules: Sequence[Rules],
    pad: int,
    sampling: Sampling | None = None,
) -> list[list[int]]:
    """The tokens that follow each prompt, the one that ends it included.

    rules: `alike`, without a fixed length. sampling: how all tokens are drawn; None: the likeliest. Each
    token is one run for all texts, which goes on until the last
    of them ends. The servers learn the longest prompt, which places are padding, and how long the longest
    text is. Nothing is kept afterwards.
    """
    sources = past_of_present(runner, MODEL, MODEL)
    ports = signature(runner, MODEL).inputs
    count, longest = len(prompts), max(map(len, prompts))
    mask = np.array([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], np.int64)
    new = np.array([[pad] * (longest - len(ids)) + list(ids) for ids in prompts], np.int64)
    written: list[list[int]] = [[] for _ in prompts]
    empty = {name: _empty(ports[name], count) for name in sources}
    cache = Cache(signature(runner, MODEL).blocks)
    try:
        place = 0
        while open_ones := [row for row in range(count) if not _ended(written[row], rules[row])]:
            positions = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, -new.shape[1] :]
            past = mask.shape[1] - new.shape[1]
            pads = cache.pads(past)
            feed: dict[str, Any] = {"input_ids": new, MASK: padded(mask, pads), POSITIONS: positions}
            feed |= cache.taken(pads, past) or empty
            if SUPPRESSED in ports:
                feed[SUPPRESSED] = rules[0].suppressed_at(place)
            wanted = NEXT_TOKEN
            if sampling is not None:
                drawn = _draws(runner, sampling, prompts, written)
                wanted, feed = drawn.output, feed | drawn.feed
            result = runner.run(Run(MODEL, feed, [wanted], list(sources.values()), cache.kept))
            made = {name: result.kept[present] for name, present in sources.items()}
            cache.grow(made, feed, pads, past, new.shape[1])
            found = result.outputs[wanted].reshape(count)
            for row in open_ones:
                forced = rules[row].forced_end if place == rules[row].most - 1 else None
                written[row].append(int(found[row]) if forced is None else forced)
            new = found.astype(np.int64).reshape(count, 1)
            mask = np.concatenate([mask, np.ones((count, 1), np.int64)], axis=1)
            place += 1
    finally:
        if cache.kept:
            runner.release(cache.kept)
    return written


def _draws(
    runner: Runner, sampling: Sampling, prompts: Sequence[Sequence[int]], written: Sequence[Sequence[int]]
) -> Draw:
    size = vocabulary(runner, MODEL)
    every = [draw(sampling, prompt, own, size) for prompt, own in zip(prompts, written, strict=True)]
    check_drawn(runner, MODEL, every[0])
    return together(every)


def _ended(tokens: Sequence[int], rules: Rules) -> bool:
    return len(tokens) >= rules.most or (bool(tokens) and tokens[-1] in rules.ends)


def _empty(port: Port, count: int) -> np.ndarray:
    return np.repeat(port.empty(), count, axis=0)
