"""A decoder that reads tokens and predicts the next one; its cache stays where the model runs.

    model without a cache    ids so far                    -> next_token       the whole text each time
    model with a cache       new ids, past                 -> next_token, present
    encoder-decoder          new ids, encoder's result     -> next_token, present, then as above

Only the next token is opened, or with `read_each` the token after every one that was read. The runner keeps a
run's present and feeds it as the next run's past, perhaps without its last places, and behind padding where a
single token is read (cache.py); the old past is then released. So one past is kept per text, and none after
its end. Servers learn how many tokens each run reads and how many it continues from, by shapes and mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxpuma.errors import InputError, ModelError
from onnxpuma.graph.next_token import LOGITS, NEXT_TOKEN, NEXT_TOKENS, SUPPRESSED
from onnxpuma.graph.sampling import MARKED, PARAMETERS_INPUT, SHIFT
from onnxpuma.plan.inputs.closed import STATES
from onnxpuma.tasks.cache import MASK, POSITIONS, Cache, padded
from onnxpuma.tasks.drawable import check_drawn, vocabulary
from onnxpuma.tasks.port import KeptValue, Run, Runner, signature
from onnxpuma.tasks.sampling import Draw

MODEL, ENCODER, FIRST, LATER = "model", "encoder_model", "decoder_model", "decoder_with_past_model"

# How exporters derive a present's name from that of its past: the part that is replaced, and its replacement.
_RENAMED = (("past_key_values", "present"), ("past", "present"), ("input.", "output."))


@dataclass(frozen=True)
class Prediction:
    """The next token, and the logits if they were requested."""

    token: int
    logits: np.ndarray | None = None  # (vocabulary,); the token has the largest


class Decoder:
    """Reads tokens with `read`; `close` makes the servers drop what they keep of them.

    Raises InputError when the owner has hidden the logits, ModelError for a graph that takes an unknown input
    or predicts no next token.
    """

    def __init__(
        self,
        runner: Runner,
        first: str,  # the graph that reads the prompt
        later: str | None,  # the graph that continues from its cache; None: `first` reads all tokens again
        given: Mapping[str, Any] | None = None,  # further inputs that stay the same: the encoder's result
        owned: Sequence[KeptValue] = (),  # those of `given` that are released with the cache
        logits: bool = False,  # open the logits too
    ) -> None:
        self._runner = runner
        self._first, self._later = first, later
        self._given = dict(given or {})
        self._owned = list(owned)
        self._logits = logits
        for graph in (first, later):
            if graph is not None:
                self._check(graph)
        self._sources = {} if later is None else past_of_present(runner, first, later)
        self._past = Cache(later == first and signature(runner, first).blocks)
        self._ids: list[int] = []  # all that were read so far, without those that were forgotten

    @property
    def ids(self) -> Sequence[int]:
        """The tokens from which the next one follows."""
        return self._ids

    @property
    def vocabulary(self) -> int:
        """The number of ids from which a token is drawn. InputError where the owner has hidden that."""
        return vocabulary(self._runner, self._first)

    def read(
        self, ids: Sequence[int], suppressed: np.ndarray | None = None, drawn: Draw | None = None
    ) -> Prediction:
        """Read these tokens after the earlier ones; the predicted token is none of `suppressed`.

        drawn: how it is drawn; by default it is the likeliest. Raises InputError where the owner has hidden
        the output that this takes.
        """
        if drawn is None:
            return self._read(ids, suppressed, NEXT_TOKEN)[-1]
        check_drawn(self._runner, self._first, drawn)
        return self._read(ids, suppressed, drawn.output, drawn.feed)[-1]

    def read_each(self, ids: Sequence[int], suppressed: np.ndarray | None = None) -> list[Prediction]:
        """The same, with what is predicted after each of these tokens.

        The model must be causal: a token must not depend on those after it. Raises InputError where the owner
        has hidden `next_tokens`.
        """
        if NEXT_TOKENS not in signature(self._runner, self._first).outputs:
            raise InputError(
                "the owner of this model has hidden next_tokens, from which drafts are judged",
                "omit the option draft",
            )
        return self._read(ids, suppressed, NEXT_TOKENS)

    def forget(self, length: int) -> None:
        """Go back to the first `length` of the tokens read so far.

        Raises ModelError for a cache of which it is not known what belongs to which token.
        """
        if length < len(self._ids) and not self._past.divisible:
            raise ModelError(
                "the cache of this model does not grow by one place a token, so no token can be taken back",
                "omit the option draft",
            )
        del self._ids[length:]

    def peek(self, ids: Sequence[int], suppressed: np.ndarray) -> int:
        """The token predicted after these alone; nothing is kept. Call it before the first `read`."""
        feed = self._feed(self._first, list(ids), suppressed)
        result = self._runner.run(Run(self._first, feed, [NEXT_TOKEN]))
        return int(result.outputs[NEXT_TOKEN].reshape(-1)[0])

    def close(self) -> None:
        """Release all that is kept. Never raises."""
        held, self._past, self._owned = [*self._past.kept, *self._owned], Cache(False), []
        if held:
            self._runner.release(held)

    # ---- within ---------------------------------------------------------------------------------------

    def _read(
        self,
        ids: Sequence[int],
        suppressed: np.ndarray | None,
        tokens: str,
        steering: Mapping[str, np.ndarray] | None = None,
    ) -> list[Prediction]:
        """The predictions of one run; `tokens` is the output that has them, for the last token or each."""
        graph = self._first if self._later is None or not self._ids else self._later
        new = [*self._ids, *ids] if self._later is None else list(ids)
        pads = self._past.pads(len(self._ids)) if len(ids) == 1 else 0
        feed = self._feed(graph, new, suppressed, pads) | dict(steering or {})
        has = signature(self._runner, graph).outputs
        keep = {name: present for name, present in self._sources.items() if present in has}
        if self._ids and graph != self._first:  # the encoder's part of the cache does not change
            keep = {name: present for name, present in keep.items() if ".encoder." not in name}
        release = [self._past.values[name] for name in keep if name in self._past.values]
        # From here on the cache stands for the encoder's result, unless later graphs read that as well.
        if self._past_is_complete(keep) and STATES not in self._inputs(self._later):
            release += self._owned
        outputs = [tokens, *((LOGITS,) if self._logits else ())]
        result = self._runner.run(Run(graph, feed, outputs, list(keep.values()), release))
        self._owned = [held for held in self._owned if not any(held is gone for gone in release)]
        made = {name: result.kept[present] for name, present in keep.items()}
        self._past.grow(made, feed, pads, len(self._ids), len(ids))
        self._ids += ids
        found = result.outputs[tokens][0, -len(ids) :]
        rows: Sequence[np.ndarray | None] = [None] * len(found)
        if self._logits:
            rows = list(result.outputs[LOGITS][0, -len(found) :])
        return [Prediction(int(token), row) for token, row in zip(found, rows, strict=True)]

    def _inputs(self, graph: str | None) -> Mapping[str, Any]:
        return {} if graph is None else signature(self._runner, graph).inputs

    def _past_is_complete(self, keep: Mapping[str, str]) -> bool:
        return self._later is not None and {*self._past.values, *keep} == set(self._sources)

    def _feed(
        self, graph: str, new: list[int], suppressed: np.ndarray | None, pads: int = 0
    ) -> dict[str, Any]:
        """pads: the places of padding in front of the past."""
        before = len(self._ids) if self._later is not None else 0
        total = before + len(new)
        known: dict[str, Any] = {
            "input_ids": np.array([new], np.int64),
            MASK: padded(np.ones((1, total), np.int64), pads),
            POSITIONS: np.arange(before, total, dtype=np.int64)[None],
            "token_type_ids": np.zeros((1, len(new)), np.int64),
            SUPPRESSED: np.zeros(0, np.int64) if suppressed is None else suppressed,
            **self._given,
            **self._past.taken(pads, len(self._ids)),
        }
        ports = self._inputs(graph)
        feed = {}
        for name, port in ports.items():
            if name in known:
                feed[name] = known[name]
            elif name in self._sources:
                feed[name] = port.empty()
            elif name in (PARAMETERS_INPUT, SHIFT, MARKED):  # they have defaults
                continue
            else:
                raise ModelError(
                    f"{graph} takes '{name}', an input that is unknown here",
                    "export the model with tools/export.py, or run it with onnxpuma.InferenceSession",
                )
        return feed

    def _check(self, graph: str) -> None:
        outputs = signature(self._runner, graph).outputs
        if NEXT_TOKEN not in outputs:
            raise ModelError(
                f"{graph} predicts no next token: its outputs are {', '.join(outputs)}",
                "its logits must be named `logits`: export it with tools/export.py, and share it again",
            )
        if self._logits and LOGITS not in outputs:
            raise InputError(
                "the owner of this model has hidden its logits", "request the text alone, without logits"
            )


def past_of_present(runner: Runner, first: str, later: str) -> dict[str, str]:
    """For each input of `later` that is a past, the output of `first` that is fed there.

    A present has the name of its past, with `present` for `past_key_values`. ModelError for a past without a
    present; empty for a graph without a cache.
    """
    gives = signature(runner, first).outputs
    found = {}
    for name in signature(runner, later).inputs:
        if "past" not in name:
            continue
        names = [name.replace(old, new, 1) for old, new in _RENAMED if old in name]
        present = next((n for n in names if n in gives and n != name), None)
        if present is None:
            raise ModelError(
                f"{first} has no output for the input '{name}' of {later}",
                "export the model with tools/export.py: past_key_values.0.key goes with present.0.key",
            )
        found[name] = present
    return found


def causal_decoder(runner: Runner, logits: bool = False) -> Decoder:
    """The decoder of a model that is one graph, with a cache or without."""
    caches = any("past" in name for name in signature(runner, MODEL).inputs)
    return Decoder(runner, MODEL, MODEL if caches else None, logits=logits)


def encoder_decoder(runner: Runner, feed: Mapping[str, np.ndarray], logits: bool = False) -> Decoder:
    """Run the encoder on `feed`, keep its result where the model runs, and return its decoder."""
    takes = signature(runner, FIRST).inputs
    later = LATER if LATER in runner.graphs else None
    states = _states(runner)
    given: dict[str, Any] = {}
    if "encoder_attention_mask" in takes:
        given["encoder_attention_mask"] = feed["attention_mask"]
    held = runner.run(Run(ENCODER, feed, [], [states])).kept[states]
    try:
        return Decoder(runner, FIRST, later, given | {STATES: held}, [held], logits)
    except BaseException:
        runner.release([held])
        raise


def _states(runner: Runner) -> str:
    outputs = signature(runner, ENCODER).outputs
    return "last_hidden_state" if "last_hidden_state" in outputs else outputs[0]
