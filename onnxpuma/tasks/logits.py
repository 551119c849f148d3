"""The logits after several texts, for whoever chooses tokens by rules of their own.

Each text keeps its cache where the model runs: of a text that continues an earlier one only what is new is
read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxpuma.errors import InputError, ModelError
from onnxpuma.tasks.decoder import Decoder, causal_decoder
from onnxpuma.tasks.port import Runner


class NextLogits:
    """The logits of the token after each text, by a model that is one graph.

    Raises InputError where the owner has hidden the logits.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._held: list[Decoder] = [causal_decoder(runner, logits=True)]

    def __call__(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """(texts, vocabulary), one text after the other.

        What is kept of earlier texts that none of these continues is released. Raises InputError for a text
        without tokens, and the errors of the runner.
        """
        if not texts or any(not len(text) for text in texts):
            raise InputError("a text has no tokens", "begin with at least one")
        rows, used = [], list[Decoder]()
        try:
            for text in texts:
                decoder, known = self._continued(text)
                used.append(decoder)
                row = decoder.read(list(text[known:])).logits
                assert row is not None
                rows.append(row)
        except BaseException:
            for decoder in used:
                decoder.close()
            raise
        for decoder in self._held:
            decoder.close()
        self._held = used
        return np.stack(rows)

    def close(self) -> None:
        """Release all that is kept. Never raises."""
        for decoder in self._held:
            decoder.close()
        self._held = []

    def _continued(self, text: Sequence[int]) -> tuple[Decoder, int]:
        """A decoder that nobody else has, and how many tokens of the text it has read."""
        shared = [min(_common(decoder.ids, text), len(text) - 1) for decoder in self._held]
        for place in sorted(range(len(shared)), key=lambda at: -shared[at]):
            decoder, known = self._held.pop(place), shared[place]
            if not known and decoder.ids:
                self._held.insert(place, decoder)
                break
            try:
                decoder.forget(known)
                return decoder, known
            except ModelError:  # its cache cannot go back
                decoder.close()
                break
        return causal_decoder(self._runner, logits=True), 0


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    count = 0
    for a, b in zip(one, other):  # noqa: B905  (one may be longer)
        if a != b:
            break
        count += 1
    return count
