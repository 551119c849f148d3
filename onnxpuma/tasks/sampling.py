"""How a token is drawn from the logits: temperature, filters, penalties, by the names of Transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from onnxpuma.errors import InputError
from onnxpuma.graph.sampling import (
    FARTHEST_SHIFT,
    MARKED,
    PARAMETERS_INPUT,
    PENALISED,
    SAMPLED,
    SHIFT,
    SHIFTED,
)

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100.0
MOST_SHIFT = 100.0  # of a penalty or a bias
MOST_REPETITION = 100.0
_SEEDS = ("seed", "generator")


@dataclass(frozen=True)
class Sampling:
    """How to draw each token. The defaults draw from the softmax of the model's logits.

    Order, as in Transformers: penalties and biases, temperature, top_k, top_p, min_p. The repetition penalty
    is for tokens of the prompt and of the answer, as in Transformers, the others for those of the answer, as
    in vLLM. Raises InputError for a value outside its range.
    """

    # The logits are divided by it; 0: the likeliest token.
    temperature: float = 1.0
    # Draw from this many of the likeliest tokens; 0: from all.
    top_k: int = 0
    # Draw from the fewest likeliest tokens whose probabilities add up to this; 1: from all.
    top_p: float = 1.0
    # Draw from tokens at least this times as likely as the likeliest; 0: from all.
    min_p: float = 0.0
    # Divide positive logits of tokens that occurred by it, multiply negative ones.
    repetition_penalty: float = 1.0
    # Subtract this from the logits of tokens that occurred.
    presence_penalty: float = 0.0
    # Subtract this from a token's logit for each time that it occurred.
    frequency_penalty: float = 0.0
    # Add these to logits: (token, bias), each token once.
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name not in ("top_k", "logit_bias")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise InputError(f"{name} is {value!r}", "pass a number")
            object.__setattr__(self, name, float(value))
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, Integral) or self.top_k < 0:
            raise InputError(f"top_k is {self.top_k!r}", "pass a whole number; 0 draws from all tokens")
        object.__setattr__(self, "top_k", int(self.top_k))
        t = self.temperature
        if t and not LEAST_TEMPERATURE <= t <= MOST_TEMPERATURE:
            raise InputError(
                f"temperature is {t:g}",
                f"pass 0 for the likeliest token, or {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}",
            )
        self._within("top_p", 0.0, 1.0, open_below=True)
        self._within("min_p", 0.0, 1.0)
        self._within("repetition_penalty", 1 / MOST_REPETITION, MOST_REPETITION)
        self._within("presence_penalty", -MOST_SHIFT, MOST_SHIFT)
        self._within("frequency_penalty", -MOST_SHIFT, MOST_SHIFT)
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))

    def _within(self, name: str, low: float, high: float, open_below: bool = False) -> None:
        value = getattr(self, name)
        if not low <= value <= high or (open_below and value == low):
            word = "above" if open_below else "from"
            raise InputError(f"{name} is {value:g}", f"pass a number {word} {low:g}, up to {high:g}")


SAMPLING = tuple(field.name for field in fields(Sampling))
ASKED = ("do_sample", *SAMPLING, *_SEEDS)  # the options that `sampled` takes


def _biases(given: Any) -> tuple[tuple[int, float], ...]:
    pairs = given.items() if isinstance(given, Mapping) else given
    found: dict[int, float] = {}
    try:
        for token, bias in pairs:
            found[int(token)] = float(bias)
    except (TypeError, ValueError) as error:
        raise InputError(f"logit_bias is {given!r}", "pass a dictionary: {token: bias}") from error
    for token, bias in found.items():
        if token < 0 or not abs(bias) <= MOST_SHIFT:
            raise InputError(
                f"logit_bias has {bias:g} for token {token}",
                f"pass numbers from -{MOST_SHIFT:g} to {MOST_SHIFT:g} for tokens from 0 on",
            )
    return tuple(sorted(found.items()))


def sampled(options: Mapping[str, Any]) -> dict[str, Any]:
    """A caller's options with `sampling` in place of do_sample and what belongs to it.

    Raises InputError for a seed, for an option of sampling without do_sample=True, and for one given twice.
    """
    left = dict(options)
    for name in _SEEDS:
        if left.pop(name, None) is not None:
            raise InputError(
                f"{name} cannot be had: the servers draw, each a part that the others do not know",
                "omit it: nobody can fix the draw, nor repeat it",
            )
    given = {name: left.pop(name) for name in SAMPLING if left.get(name) is not None}
    for name in SAMPLING:
        left.pop(name, None)
    wanted = left.get("do_sample")
    if not given and not wanted:
        return left
    if left.get("sampling") is not None:
        raise InputError(
            f"sampling is given, and {', '.join(given) or 'do_sample'} as well", "pass one or the other"
        )
    if not wanted:
        raise InputError(
            f"{', '.join(given)} steers sampling, and the likeliest token is written",
            "add do_sample=True",
        )
    left["sampling"] = Sampling(**given)
    return left


@dataclass(frozen=True)
class Draw:
    """What one run must be asked for a token: the derived output, and what is fed for it."""

    output: str
    feed: dict[str, np.ndarray]


def draw(sampling: Sampling, prompt: Sequence[int], answer: Sequence[int], size: int) -> Draw:
    """The draw of the token that follows `answer`, from `size` ids.

    What was written goes into secret inputs, of `size` words each, and only where a penalty or a bias needs
    it. Raises InputError for a bias of a token that the model does not have.
    """
    s = sampling
    shift, marked = np.zeros((1, 1, size), np.float32), np.zeros((1, 1, size), np.float32)
    for token, bias in s.logit_bias:
        if token >= size:
            raise InputError(f"logit_bias has token {token}", f"the model has the tokens 0 to {size - 1}")
        shift[0, 0, token] += bias
    if s.presence_penalty or s.frequency_penalty:
        tokens, counts = np.unique(np.array(answer, np.int64), return_counts=True)
        shift[0, 0, tokens] -= s.presence_penalty + s.frequency_penalty * counts
    steering = (s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty)
    feed = {PARAMETERS_INPUT: np.array(steering, np.float32)}
    shifts = bool(s.logit_bias or s.presence_penalty or s.frequency_penalty)
    if s.repetition_penalty != 1:
        marked[0, 0, np.unique(np.array([*prompt, *answer], np.int64))] = 1
        feed[MARKED] = marked
    if shifts:
        feed[SHIFT] = shift.clip(-FARTHEST_SHIFT, FARTHEST_SHIFT)
    if s.repetition_penalty != 1:
        return Draw(PENALISED, feed)
    return Draw(SHIFTED if shifts else SAMPLED, feed)


def together(draws: Sequence[Draw]) -> Draw:
    """One run's draw of a token for each of several texts, which one `Sampling` steers."""
    first = draws[0]
    own = [name for name in (SHIFT, MARKED) if name in first.feed]
    return Draw(first.output, first.feed | {n: np.concatenate([d.feed[n] for d in draws]) for n in own})


def unapplied(generation: Mapping[str, Any], sampling: Sampling | None, greedy: bool) -> str | None:
    """What generation_config.json of a model sets of sampling, and this call does not do; None for nothing.

    greedy: the caller has said do_sample=False.
    """
    asked = {n: generation[n] for n in SAMPLING if generation.get(n) is not None and n != "logit_bias"}
    neutral = {field.name: field.default for field in fields(Sampling)}
    if sampling is None:
        if greedy or not generation.get("do_sample"):
            return None
        said = ", ".join(f"{n}={v}" for n, v in {"do_sample": True, **asked}.items() if v != neutral.get(n))
        return (
            f"generation_config.json of this model asks for sampling, and the likeliest tokens are written:"
            f" pass {said} to sample, or do_sample=False"
        )
    others = {n: v for n, v in asked.items() if v != getattr(sampling, n)}
    if not generation.get("do_sample") or not others:
        return None
    said = ", ".join(f"{n}={v}" for n, v in others.items())
    return f"generation_config.json of this model sets {said}, which is not applied: pass it if it is wanted"
