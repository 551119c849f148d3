"""Moonshine tiny, which hears samples instead of a spectrogram: are its transcripts the same on shares?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxpuma.graph.folder import find
from onnxpuma.tasks import PlainRunner, pipeline
from pretrained.case import Bench, Case, Folders, Measured
from pretrained.onnx_files import without_rounding, write_json
from pretrained.packages import MOONSHINE, MOONSHINE_WORDS
from pretrained.samples import recordings
from pretrained.speech import measured

CONFIG = {
    "model_type": "moonshine",
    "is_encoder_decoder": True,
    "vocab_size": 32768,
    "max_position_embeddings": 194,
}
GENERATION = {"decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
HEARING = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "do_normalize": False,
    "feature_size": 1,
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}
WORDS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}


def prepare(sources: Sequence[Path], folder: Path) -> Folders:
    """int8/ as in the package, and float/ with the same weights and activations that are not rounded."""
    folders = Folders(folder / "int8", folder / "float")
    if not (folders.plain / "tokenizer_config.json").exists():
        for made in (folders.secure, folders.plain):
            made.mkdir(parents=True, exist_ok=True)
            write_json(made / "config.json", CONFIG)
            write_json(made / "generation_config.json", GENERATION)
            write_json(made / "preprocessor_config.json", HEARING)
            shutil.copy(sources[1] / "tokenizer.json", made)
        for file in sources[0].glob("*.onnx"):
            shutil.copy(file, folders.secure)
        for source in find(folders.secure).sources:  # both graphs of the merged decoder
            graph = without_rounding(ir.to_proto(source.load()))
            onnx.save(graph, folders.plain / f"{source.name}.onnx")
        for made in (folders.secure, folders.plain):
            write_json(made / "tokenizer_config.json", WORDS)
    return folders


def measure(bench: Bench) -> Measured:
    rounded = PlainRunner(bench.folder.parent / "int8")
    sounds = bench.some(sorted(recordings(bench.data), key=lambda sound: len(sound[1])), 1)
    texts = []
    for runner in (bench.plain, rounded):
        heard = pipeline("automatic-speech-recognition", folder=bench.folder, runner=runner)
        texts.append([heard(str(sound))["text"] for sound, _ in sounds])
    same = sum(a == b for a, b in zip(*texts, strict=True))
    rounded.close()
    return measured(
        bench,
        "the encoder, two to ten seconds of sound",
        (
            "Plain is the float graph with the same weights. The package's int8 graph also rounds every "
            f"activation to eight bits; onnxruntime's int8 run has {same} of {len(sounds)} transcripts in "
            "common with the float one.",
        ),
    )


CASE = Case(
    key="moonshine",
    title="Moonshine tiny, speech recognition",
    about="Three convolutions over the samples themselves and six layers each of encoder and decoder; int8 "
    "ONNX files, two decoders in one file, written for a browser. The samples are secret, and so is "
    "everything computed from them; only the tokens are opened.",
    packages=(MOONSHINE, MOONSHINE_WORDS),
    data="speech",
    prepare=prepare,
    measure=measure,
)
