"""Recordings as a task takes them: one channel, at the model's rate, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxpuma.errors import ConfigError, InputError
from onnxpuma.tasks.folder import INSTALL


def samples(sound: Any, rate: int) -> np.ndarray:
    """The samples of a recording, float32 (samples,), at `rate` samples a second.

    sound: the path of a .wav or .flac file, or {"array": samples, "sampling_rate": rate}. Nothing is
    resampled or mixed here, since the method would change what the model hears. Raises InputError for a file
    that cannot be read, several channels, another rate, integers, NaN or infinity, and an empty recording.
    """
    if isinstance(sound, (str, Path)):
        array, found = _read(Path(sound))
    elif isinstance(sound, Mapping) and "sampling_rate" in sound and ("array" in sound or "raw" in sound):
        array, found = (
            np.asarray(sound["array"] if "array" in sound else sound["raw"]),
            sound["sampling_rate"],
        )
    else:
        raise InputError(
            f"expected a recording, got {type(sound).__name__}",
            "pass the path of a .wav or .flac file, or {'array': samples, 'sampling_rate': 16000}",
        )
    _check(array, found, rate)
    return array.astype(np.float32)


def windows(array: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """The recording in pieces of `length` samples; the last may be shorter."""
    for start in range(0, len(array), length):
        yield array[start : start + length]


def _read(path: Path) -> tuple[np.ndarray, int]:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its C library is missing
        raise ConfigError(
            f"reading {path.name} needs the library soundfile: {error}", f"install it: {INSTALL}"
        ) from error
    if not path.is_file():
        raise InputError(f"there is no file {path}", "pass the path of a .wav or .flac file")
    try:
        array, rate = soundfile.read(str(path), dtype="float32")
    except (RuntimeError, OSError) as error:
        raise InputError(f"cannot read {path}: {error}", "pass a .wav or .flac file") from error
    return array, int(rate)


def _check(array: np.ndarray, found: Any, rate: int) -> None:
    if array.ndim != 1:
        raise InputError(
            f"the recording has shape {array.shape}: several channels",
            "mix them into one: array.mean(axis=1), or ffmpeg -i in.wav -ac 1 out.wav",
        )
    if found != rate:
        raise InputError(
            f"the recording has {found} samples a second, the model takes {rate}",
            f"resample it: ffmpeg -i in.wav -ar {rate} -ac 1 out.wav, or scipy.signal.resample_poly",
        )
    if array.dtype.kind != "f":
        raise InputError(
            f"the samples are of type {array.dtype}, not real numbers between -1 and 1",
            "for 16-bit samples: array.astype(numpy.float32) / 32768",
        )
    if array.size == 0:
        raise InputError("the recording is empty", "pass one of a second or more")
    if not np.isfinite(array).all():
        raise InputError("the recording contains NaN or infinity", "replace or remove those samples")
