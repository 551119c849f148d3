"""Whisper tiny.en: are its transcripts the same on shares?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxpuma.tasks import pipeline
from pretrained.case import Bench, Case, Folders, Measured, Target, average
from pretrained.compare import Errors, first_difference, word_errors, words
from pretrained.onnx_files import exported
from pretrained.packages import GPT2_VOCABULARY, WHISPER
from pretrained.samples import recordings
from pretrained.whisper_checkpoint import convert


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    made = folder / "onnx"
    if not (made / "decoder_with_past_model.onnx").exists():
        checkpoint = folder / "checkpoint"
        convert(sources[0] / "tiny.en.pt", sources[1], checkpoint)
        exported(checkpoint, "automatic-speech-recognition", made)
    return Folders(made, made)


def measure(bench: Bench) -> Measured:
    return measured(bench, "the encoder, thirty seconds of sound")


def measured(bench: Bench, heard: str, remarks: Sequence[str] = ()) -> Measured:
    """Transcribe every recording twice. heard: the name of the encoder's cost."""
    # the shortest first: it is the one whose logits are opened, and the only one of --quick
    sounds = sorted(recordings(bench.data), key=lambda sound: len(sound[1]))
    sounds = bench.some(sounds, 1)
    clear, secret = (
        pipeline("automatic-speech-recognition", folder=bench.folder, runner=runner)
        for runner in (bench.plain, bench.secure)
    )
    errors, examples, encoder, first, later = Errors(), [], [], [], []
    same = said = wrong_plain = wrong_secure = 0
    for number, (sound, transcript) in enumerate(sounds):
        options = {"return_tensors": True, "logits": number == 0}
        plain = _one(clear(str(sound), **options))
        begin = len(bench.secure.runs)
        secure = _one(secret(str(sound), **options))
        runs = bench.secure.runs[begin:]
        encoder.append(runs[0])
        if number or bench.quick:
            first.append(runs[1])
            later += runs[2:]
        ids = [result["generated_token_ids"] for result in (plain, secure)]
        texts = [clear.folder.tokenizer.decode(one, skip_special_tokens=True).strip() for one in ids]
        if number == 0:
            alike = first_difference(*ids)
            alike = len(ids[0]) if alike is None else alike
            errors.add(secure["logits"][:alike], plain["logits"][:alike])
        same += texts[0] == texts[1]
        said += len(words(transcript))
        wrong_plain += word_errors(transcript, texts[0])
        wrong_secure += word_errors(transcript, texts[1])
        examples.append((transcript, *texts))
        bench.say(f"recording {number + 1} of {len(sounds)}: {'same' if texts[0] == texts[1] else 'differs'}")
    return Measured(
        samples=f"{len(sounds)} recordings of LibriSpeech, {said} words",
        metric="word error rate",
        plain=f"{100 * wrong_plain / said:.1f} %",
        secure=f"{100 * wrong_secure / said:.1f} %",
        agreement=f"{same} of {len(sounds)} transcripts the same",
        error_of="a logit",
        errors=errors,
        costs=[
            average(heard, encoder),
            average("the first token", first),
            average("a token", later),
        ],
        targets=[
            Target("equal transcripts", f"{len(sounds)} of {len(sounds)}", f"{same}", same == len(sounds))
        ],
        examples=examples,
        remarks=list(remarks),
    )


def _one(made: Any) -> dict[str, Any]:
    result: dict[str, Any] = made[0] if isinstance(made, list) else made
    return result


CASE = Case(
    key="whisper",
    title="Whisper tiny.en, speech recognition",
    about="Four layers of encoder over 1500 frames, four of decoder with a cache; converted from OpenAI's "
    "checkpoint in the package, exported as three files. The client makes the spectrogram; from there on "
    "everything is secret. Only the tokens are opened.",
    packages=(WHISPER, GPT2_VOCABULARY),
    data="speech",
    prepare=prepare,
    measure=measure,
)
