"""automatic-speech-recognition: recordings to text, with models like Whisper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from onnxpuma.errors import ConfigError
from onnxpuma.tasks import whisper
from onnxpuma.tasks.decoder import ENCODER, Decoder, encoder_decoder
from onnxpuma.tasks.port import signature
from onnxpuma.tasks.sound import samples, windows
from onnxpuma.tasks.writer import Passage, Writer, start_token


class SpeechRecognition(Writer):
    """Writes down what is said in a recording: the path of a .wav or .flac file, or {"array": samples,
    "sampling_rate": rate}.

    A recording longer than the model hears at once, thirty seconds for Whisper, is cut into pieces of this
    length, and each piece is written down separately; a word at a cut may be lost. Options beside those of
    WritingOptions: language (a code or an English name; None: heard in the first piece), task ("transcribe",
    or "translate" into English). Results: {"text": text}.
    """

    strips = True
    known: ClassVar[frozenset[str]] = Writer.known | {"language", "task"}

    def alone(self, result: Any) -> Any:
        return result

    def answer(self, item: Any, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"text": text}

    def passages(self, item: Any, options: Mapping[str, Any]) -> Iterator[Passage]:
        extractor = self.folder.feature_extractor
        rate, length = int(extractor.sampling_rate), getattr(extractor, "n_samples", None)
        language = whisper.language_id(self.folder, options.get("language"))
        array = samples(item, rate)
        feeds = [self._features(piece, rate) for piece in windows(array, length or len(array))]
        hearing = _Hearing(self, language, options)
        for feed in feeds:
            yield Passage(hearing.length, lambda feed=feed: hearing.begin(feed))  # type: ignore[misc]

    def _features(self, piece: np.ndarray, rate: int) -> dict[str, np.ndarray]:
        made = self.folder.feature_extractor(piece, sampling_rate=rate, return_tensors="np")
        takes = signature(self.runner, ENCODER).inputs
        feed = {name: np.asarray(array) for name, array in made.items() if name in takes}
        missing = [name for name in takes if name not in feed]
        if missing:
            raise ConfigError(
                f"the feature extractor does not make {', '.join(missing)}, which the model takes",
                "use the feature extractor that belongs to this model",
            )
        return feed


class _Hearing:
    """The pieces of one recording: the model hears the language in the first, and uses it for all."""

    def __init__(self, pipeline: SpeechRecognition, language: int | None, options: Mapping[str, Any]) -> None:
        self._pipeline, self._language = pipeline, language
        self._task, self._logits = options.get("task"), bool(options.get("logits"))
        self._start = start_token(pipeline.folder)
        self._multilingual = whisper.is_multilingual(pipeline.folder)
        unheard = -1 if self._multilingual else None
        self.length = len(self._prompt(unheard if language is None else language))

    def begin(self, feed: Mapping[str, np.ndarray]) -> tuple[Decoder, list[int]]:
        folder = self._pipeline.folder
        decoder = encoder_decoder(self._pipeline.runner, feed, self._logits)
        try:
            if self._multilingual and self._language is None:
                self._language = decoder.peek([self._start], whisper.not_a_language(folder))
            return decoder, self._prompt(self._language)
        except BaseException:
            decoder.close()
            raise

    def _prompt(self, language: int | None) -> list[int]:
        return whisper.prompt(self._pipeline.folder, self._start, language, self._task)
