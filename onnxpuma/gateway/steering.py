"""From the fields of a request to the options of a pipeline."""

from __future__ import annotations

from typing import Any

from onnxpuma.gateway.fields import Writing
from onnxpuma.gateway.refusal import Refused

_SHAPES = ("temperature", "top_p", "top_k", "min_p")


def options_of(asked: Writing) -> dict[str, Any]:
    """The options of a pipeline for this request; what it leaves out is the pipeline's choice.

    Raises Refused for a seed where tokens are drawn.
    """
    plain = {
        "max_new_tokens": asked.most,
        "min_new_tokens": asked.min_tokens,
        "fixed_length": asked.fixed_length,
        "draft": asked.draft,
        "draft_tokens": asked.draft_tokens,
    }
    return {name: value for name, value in plain.items() if value is not None} | _search(asked)


def _search(asked: Writing) -> dict[str, Any]:
    """Sampling if the request asks for it; at temperature 0 the likeliest token, after penalties."""
    given = {name: getattr(asked, name) for name in _SHAPES if getattr(asked, name) is not None}
    penalties = _penalties(asked)
    if given.get("top_k") == -1:  # vLLM's word for all
        given["top_k"] = 0
    if given.get("temperature", 1) == 0:
        given = {}
    shaped = given.get("top_p", 1) < 1 or given.get("top_k", 0) > 0 or given.get("min_p", 0) > 0
    if "temperature" in given or shaped:
        if asked.seed is not None:
            raise Refused(
                "'seed' is not supported with sampling:"
                " the servers draw the random numbers, and no one can fix them",
                "omit seed, or ask for temperature 0, where nothing is drawn",
                param="seed",
                code="unsupported_parameter",
            )
        return {"do_sample": True, **given, **penalties}
    if penalties:
        return {"do_sample": True, "temperature": 0.0, **penalties}
    return {"do_sample": False} if asked.temperature == 0 else {}


def _penalties(asked: Writing) -> dict[str, Any]:
    """Those that have an effect."""
    chosen: dict[str, Any] = {}
    for name, neutral in (("presence_penalty", 0), ("frequency_penalty", 0), ("repetition_penalty", 1)):
        value = getattr(asked, name)
        if value is not None and value != neutral:
            chosen[name] = value
    if asked.logit_bias:
        try:
            chosen["logit_bias"] = {int(token): bias for token, bias in asked.logit_bias.items()}
        except ValueError:
            raise Refused(
                "logit_bias has a key that is no token id", 'write {"50256": -100}', param="logit_bias"
            ) from None
    return chosen
