"""The model's owner: weights become three files of shares, one for each server; and a server reads its own.

After `share_model` nobody needs the ONNX file any more. Weights are encoded with 18 fraction bits mod 2^64
(small ones with more, integers with none) and shared in blocks, so a model larger than memory can be shared.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxpuma.errors import ConfigError, ModelError
from onnxpuma.graph.folder import find
from onnxpuma.mpc.format import Format
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.prf import KEY_BYTES, AesStream, fresh_key
from onnxpuma.mpc.ring.words import Words, encode
from onnxpuma.plan.declared import Declared
from onnxpuma.plan.draft import remove_left_over
from onnxpuma.plan.inputs.roles import looked_up
from onnxpuma.roles.owner.destination import check_free, settle
from onnxpuma.roles.owner.disclosure import Review, check_disclosed
from onnxpuma.roles.owner.reading import Reading
from onnxpuma.roles.owner.samples import Samples
from onnxpuma.roles.shared.file import ShareReader, ShareWriter
from onnxpuma.roles.shared.model import SharedModel

BITS = 64
LARGEST_WEIGHT = 2.0**18
LARGEST_LOOKED_UP = 2.0**12  # rows are looked up mod 2^32
LARGEST_WHOLE = 2.0**24
SEAL_BYTES = 32
_BLOCK = 1 << 20  # elements encoded at a time


ShareProgress = Callable[[int, int, str], None]  # weights done, weights in all, which one is next


def share_model(
    path: str | Path,
    out: str | Path,
    *,
    public: Sequence[str] = (),
    secret: Sequence[str] = (),
    public_inputs: Sequence[str] = (),
    secret_inputs: Sequence[str] = (),
    hide: Sequence[str] = (),
    keep_only: Sequence[str] = (),
    samples: Mapping[str, Samples] | None = None,
    replace: bool = False,
    review: Review | None = None,
    sizes: Mapping[str, int] | None = None,
    range_check: bool = True,
    ranges: Declared | None = None,
    progress: ShareProgress | None = None,
) -> SharedModel:
    """Share the model at `path` into the folder `out`; the patterns are those of `prepare`.

    path: an ONNX file, or a folder of those that make one model (graph.folder.find). Of several graphs a
    pattern must match something in one, and what they have in common is shared once. samples: inputs to
    calibrate with, by graph ("model" where there is one; owner/samples.py); the ranges that they show become
    part of the plan, and public. sizes: of dimensions by name, for the example that shows whether all nodes
    can run; nothing else depends on them. ranges: what the numbers of an input lie between, (low, high) by
    name: clients refuse others, and more is proved of the model (plan/declared.py). range_check: every run
    tells its client whether a value left its range (plan/bounds/checks.py). review: is shown the public part
    before anything is written, and says whether those of its constants that may be trained
    (Blueprint.public_listing) may be public; they are refused without it, unless `public` names them.

    Writes the public files (SharedModel.files; the same for everybody) and party0.safetensors to
    party2.safetensors (mode 0600; each for one party alone: any two of them reveal the weights). A folder
    that holds a shared model is refused unless `replace` says that this one takes its place; it does when all
    is written. What cannot be written to the end leaves nothing behind. Memory: a few blocks of 8 MB beside
    what the reader of one graph holds; disk: 16 bytes a weight.

    Raises ModelError for a file that is not a model and for a weight that is not a number or not below 2^18
    in magnitude (2^12 where its rows are looked up by secret ids, integers 2^24), UnsupportedModelError
    naming every node that cannot run on shares, ConfigError for a pattern that matches nothing, for public
    constants that may be trained, and for a folder that is taken or cannot be written, InputError for samples
    that do not fit.
    """
    patterns = {
        "public": public,
        "secret": secret,
        "public_inputs": public_inputs,
        "secret_inputs": secret_inputs,
        "hide": hide,
        "keep_only": keep_only,
    }
    folder = Path(out)
    check_free(folder, replace)
    sources = find(Path(path)).sources
    reading = Reading(sources, patterns, samples, sizes, range_check=range_check, ranges=ranges)
    model = reading.survey()
    check_disclosed(model, review)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_over(folder)
        _write(folder, model, reading, progress)
    except OSError as error:
        raise ConfigError(
            f"cannot write the shares to {folder}: {error.strerror or error}",
            "choose a folder you may write to, on a disk with 16 bytes free for each weight",
        ) from error
    return model


def load_weights(
    model_dir: str | Path, party: int, model: SharedModel | None = None
) -> dict[str, dict[str, Weights]]:
    """The shares of the weights that `party` holds, by graph and name: 16 bytes of memory a weight.

    An array that several graphs have in common is one and the same object. Raises PlanError when the party's
    file is missing or damaged, or belongs to another party, model or version.
    """
    model = SharedModel.read(Path(model_dir)) if model is None else model
    return read_weights(open_shares(model_dir, party, model), party, model)


def open_shares(model_dir: str | Path, party: int, model: SharedModel) -> ShareReader:
    """The party's file, checked as far as its head goes. Raises PlanError as `load_weights` does."""
    shapes = {name: array.shape for name, array in model.arrays.items()}
    return ShareReader(Path(model_dir), party, model.digest, shapes)


def read_weights(shares: ShareReader, party: int, model: SharedModel) -> dict[str, dict[str, Weights]]:
    """Read all words and make those that follow from a key. PlanError when the checksum does not fit."""
    found = {}
    for index, (name, array) in enumerate(model.arrays.items()):
        parts: list[Words] = []
        for component in (party, (party + 1) % 3):
            if component < 2:
                stream = _stream(shares.keys[component], index)
                parts.append(stream.draw(array.shape, BITS))
            else:
                parts.append(shares.words(name))
        first, second = parts
        second += first
        found[name] = Weights(party, first, second, Format(BITS, model.fractions[name]))
    shares.finish()
    return {
        graph: {weight: found[name] for weight, name in names.items()}
        for graph, names in model.stored.items()
    }


def _stream(key: bytes, index: int) -> AesStream:
    """The key stream of the weight with this index: upper half of the counter the index, lower half 0."""
    return AesStream(key, index.to_bytes(KEY_BYTES // 2, "big") + bytes(KEY_BYTES // 2))


def _write(folder: Path, model: SharedModel, reading: Reading, progress: ShareProgress | None) -> None:
    keys = (fresh_key(), fresh_key())
    seals = [secrets.token_bytes(SEAL_BYTES) for _ in range(3)]
    dealing = secrets.token_hex(16)
    shapes = {name: array.shape for name, array in model.arrays.items()}
    bounds = _bounds(model)
    writers: list[ShareWriter] = []
    try:
        for party in range(3):
            writers.append(ShareWriter(folder, party, shapes, keys, seals, model.digest, dealing))
        for index, (name, weight) in enumerate(reading.weights(model)):
            if progress is not None:
                progress(index, len(shapes), name)
            streams = [_stream(key, index) for key in keys]
            values = weight.numpy().reshape(-1)
            for start in range(0, values.size, _BLOCK):
                block = _checked(name, values[start : start + _BLOCK], bounds[name])
                words = encode(block, model.fractions[name])
                for stream in streams:
                    words -= stream.draw(words.shape, BITS)
                for writer in writers[1:]:
                    writer.append(words)
            del values
            weight.release()
        settle(folder, writers, model.files())
    finally:
        for writer in writers:
            writer.discard()
    if progress is not None:
        progress(len(shapes), len(shapes), "")


def _bounds(model: SharedModel) -> dict[str, float]:
    """What the numbers of each array must stay below."""
    found = {n: LARGEST_WEIGHT if a.dtype.kind == "f" else LARGEST_WHOLE for n, a in model.arrays.items()}
    for graph, names in model.stored.items():
        for table in looked_up(model.graphs[graph].graph):
            if found.get(names.get(table, "")) == LARGEST_WEIGHT:
                found[names[table]] = LARGEST_LOOKED_UP
    return found


def _checked(name: str, values: np.ndarray, below: float) -> np.ndarray:
    values = values.astype(np.float64)
    largest = np.abs(values).max(initial=0.0)
    if not np.isfinite(largest):
        raise ModelError(
            f"weight '{name}' holds NaN or infinity",
            "the model was damaged in training or export: look there",
        )
    if largest >= below:
        raise ModelError(
            f"weight '{name}' holds a value of magnitude {largest:g}; it must stay below {below:g}",
            "rescale it, or make it public with --public if it is a constant of the architecture",
        )
    return values
