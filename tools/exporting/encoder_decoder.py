"""Encoder-decoders as three files: the encoder, the decoder's first run, its later runs with a cache.

    encoder_model.onnx            the client's input                   -> last_hidden_state
    decoder_model.onnx            ids, encoder's result                -> logits, present of both attentions
    decoder_with_past_model.onnx  ids, past of both attentions         -> logits, present of self-attention

The keys and values that attend to the encoder do not change after the first run, and are not returned again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from exporting.causal import PAST_AXES, filled, flat, names
from exporting.examples import FIRST_WORD, drawn, input_axes, words
from exporting.parts import Part, Sizes
from exporting.pasts import given_past, present_of
from exporting.tasks import Task
from exporting.tracing import BATCH, BATCH_SEQUENCE, Axes
from exporting.whole import Wrapped

ENCODED: Axes = {0: "batch", 1: "encoded"}
FIRST_INPUT = {"text": "input_ids", "image": "pixel_values", "audio": "input_features"}


class Encoder(torch.nn.Module):
    """The client's input -> the hidden states that the decoder attends to, as wide as the decoder
    requires."""

    def __init__(self, model: Any, inputs: tuple[str, ...]) -> None:
        super().__init__()
        blip = model.config.model_type == "blip"
        encoder = model.vision_model if blip else model.get_encoder()
        self.body = Wrapped(encoder, inputs, ("last_hidden_state",), mean_pooled=False)
        self.projection = getattr(model, "enc_to_dec_proj", None) or torch.nn.Identity()

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        (hidden,) = self.body(*tensors)
        projected: torch.Tensor = self.projection(hidden)
        return projected


class Decoder(torch.nn.Module):
    """The decoder of any of the three kinds of encoder-decoder, as one function of ids, states and cache."""

    def __init__(self, model: Any, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.kind = model.config.model_type
        if self.kind == "blip":
            self.model = model.text_decoder
        elif self.kind == "vision-encoder-decoder":
            self.model = model.decoder
        else:
            self.model = model

    def decode(
        self, ids: torch.Tensor, states: torch.Tensor, mask: torch.Tensor | None, past: Any, length: int
    ) -> Any:
        given = given_past(self.model, past)
        if self.model.config.is_encoder_decoder:
            given |= {"decoder_input_ids": ids, "encoder_outputs": BaseModelOutput(states)}
            if mask is not None:
                given["attention_mask"] = mask
        else:
            # Without a mask, some models look for packed sequences in the positions, which not every exporter
            # can express.
            ones = torch.ones(ids.shape[0], length, dtype=torch.int64)
            given |= {"input_ids": ids, "attention_mask": ones, "encoder_hidden_states": states}
        return self.model(**given)


class FirstRun(Decoder):
    """(ids, states, [mask of the states]) -> (logits, self key, value, ..., cross key, value, ...)."""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ids, states, *mask = tensors
        past = EncoderDecoderCache(DynamicCache(), DynamicCache())
        result = self.decode(ids, states, mask[0] if mask else None, past, ids.shape[1])
        held = present_of(result)
        return (result.logits, *flat(held.self_attention_cache), *flat(held.cross_attention_cache))


class LaterRun(Decoder):
    """(ids, [mask], self key, value, ..., cross key, value, ...) -> (logits, self key, value, ...)."""

    def __init__(self, model: Any, masked: bool, width: int) -> None:
        super().__init__(model, masked)
        self.width = width  # width of the encoder's states

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ids, *rest = tensors
        mask = rest.pop(0) if self.masked else None
        half = len(rest) // 2
        past = EncoderDecoderCache(filled(rest[:half]), filled(rest[half:]))
        past.is_updated = dict.fromkeys(range(half // 2), True)
        # Only the shape of the states is used: the cache contains everything that would be computed from
        # them.
        states = torch.zeros(ids.shape[0], rest[half].shape[2], self.width)
        result = self.decode(ids, states, mask, past, rest[0].shape[2] + ids.shape[1])
        return (result.logits, *flat(present_of(result).self_attention_cache))


def encoder_decoder(model: Any, task: Task) -> list[Part]:
    """The three files."""
    masked = task.modality == "text"
    sent = (FIRST_INPUT[task.modality], *(("attention_mask",) if masked else ()))
    encoder = Encoder(model, sent).eval()
    first = FirstRun(model, masked).eval()
    examples = Examples(encoder, first, sent)
    states, _ = examples.encoded(Sizes(1, 0, 0, 6, 0))
    later = LaterRun(model, masked, states.shape[2]).eval()
    _, *present = first(torch.full((1, 2), FIRST_WORD), states)
    layers = len(present) // 4
    past = {side: names("past_key_values", layers, side) for side in ("decoder.", "encoder.")}
    kept = {side: tuple(names("present", layers, side)) for side in past}

    # A picture or a recording has one length, and so do the encoder's states.
    mask_axes: dict[str, Axes] = {"encoder_attention_mask": ENCODED} if masked else {}
    first_axes = {"input_ids": BATCH_SEQUENCE, "encoder_hidden_states": ENCODED if masked else BATCH}
    cross_axes: Axes = {0: "batch", 2: "encoded"} if masked else BATCH
    later_axes = {"input_ids": BATCH_SEQUENCE, **mask_axes} | dict.fromkeys(past["decoder."], PAST_AXES)
    later_axes |= dict.fromkeys(past["encoder."], cross_axes)
    one = (Sizes(1, 1, 6, 7, 2),)
    return [
        Part("encoder_model.onnx", encoder, input_axes(sent), ("last_hidden_state",), examples.of_encoder),
        Part(
            "decoder_model.onnx",
            first,
            first_axes | mask_axes,
            ("logits", *kept["decoder."], *kept["encoder."]),
            examples.of_first_run,
            one,
        ),
        Part(
            "decoder_with_past_model.onnx",
            later,
            later_axes,
            ("logits", *kept["decoder."]),
            examples.of_later_run,
            one,
        ),
    ]


class Examples:
    """Inputs of the three files, each made by the file before it.

    Noise in place of states or of a cache would drive a trained model far from its usual operation.
    """

    def __init__(self, encoder: Encoder, first: FirstRun, sent: tuple[str, ...]) -> None:
        self.encoder = encoder
        self.first = first
        self.sent = sent

    def of_encoder(self, sizes: Sizes) -> tuple[torch.Tensor, ...]:
        return drawn(self.encoder.body.model.config, self.sent, sizes)

    def of_first_run(self, sizes: Sizes) -> tuple[torch.Tensor, ...]:
        states, masks = self.encoded(sizes)
        return (self.words(sizes, sizes.sequence), states, *masks)

    def of_later_run(self, sizes: Sizes) -> tuple[torch.Tensor, ...]:
        states, masks = self.encoded(sizes)
        with torch.no_grad():
            _, *past = self.first(self.words(sizes, sizes.past), states, *masks)
        return (self.words(sizes, sizes.sequence), *masks, *past)

    def encoded(self, sizes: Sizes) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The encoder's states, and the mask over them where there is one."""
        given = self.of_encoder(replace(sizes, sequence=sizes.encoded))
        with torch.no_grad():
            return self.encoder(*given), given[1:]

    def words(self, sizes: Sizes, length: int) -> torch.Tensor:
        source = torch.Generator().manual_seed(sizes.seed)
        return words(self.first.model.config, sizes.batch, length, source)
