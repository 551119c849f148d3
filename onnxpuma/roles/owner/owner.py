"""The model's owner: weights become one file of words, and a file of keys for each server.

After `share_model` nobody needs the ONNX file any more. Weights are encoded in the format that the policy
declares (small ones with more, integers with none) and dealt in blocks, so the model may be larger than
memory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onnxpuma.errors import ConfigError, ModelError
from onnxpuma.graph.folder import find
from onnxpuma.mpc.format import RESTING
from onnxpuma.mpc.protocols.dpf import ONE_HOT
from onnxpuma.plan.draft import remove_left_over
from onnxpuma.plan.inputs.roles import looked_up
from onnxpuma.plan.owner_policy import DEFAULT, Policy
from onnxpuma.roles.owner.destination import check_free, check_space, settle
from onnxpuma.roles.owner.disclosure import Review, check_disclosed
from onnxpuma.roles.owner.packing import Packing
from onnxpuma.roles.owner.reading import Reading
from onnxpuma.roles.owner.samples import Samples
from onnxpuma.roles.shared.keys_file import Dealing, keys_name
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.tags import TAG_BYTES
from onnxpuma.roles.shared.words_file import WordsWriter, size_of
from onnxpuma.transport.link import PARTIES

LARGEST_WEIGHT = 2.0**18
LARGEST_LOOKED_UP = ONE_HOT.at(RESTING.fraction).largest
LARGEST_WHOLE = 2.0**24


ShareProgress = Callable[[int, int, str], None]  # weights done, weights in all, which one is next


def share_model(
    path: str | Path,  # an ONNX file, or a folder of those that make one model (graph.folder.find)
    out: str | Path,
    policy: Policy = DEFAULT,  # of several graphs a pattern must match something in one
    *,
    # Inputs to calibrate with (owner/samples.py), by graph; "model" is the only graph's name. The ranges that
    # they show become part of the plan, and public.
    samples: Mapping[str, Samples] | None = None,
    replace: bool = False,  # a model that lies in `out`, once all is written; False makes it an error
    # Sees the public part before anything is written. Without its consent a public constant that may be
    # trained (Blueprint.public_listing) is an error, unless `policy.public` names it.
    review: Review | None = None,
    sizes: Mapping[str, int] | None = None,  # of dimensions by name, for the example that tries all nodes
    progress: ShareProgress | None = None,
    **wishes: Any,  # fields of `policy`, which they replace, as in hide=["logits"]
) -> SharedModel:
    """Share the model at `path` into the folder `out`.

    Arrays that several graphs have in common are shared once.

    Writes the public files (SharedModel.files), the same for everybody; words.safetensors, for parties 1
    and 2; and party0.keys to party2.keys, each for one party alone. All of these have mode 0600. What any
    two parties have reveals the weights, and so do the words and the keys of party 0. A failure leaves
    nothing behind; what a killed process leaves, the next call removes. Memory: a few blocks of 10 MB in
    addition to the reader of one graph; disk: the bits of a weight's format, 8 bytes unless the policy says
    otherwise.

    Raises ModelError for a file that is not a model, and for a weight that is no number or not below 2^18 in
    magnitude (2^12 if secret ids look its rows up, 2^24 for integers); UnsupportedModelError, which names
    every node that cannot run on shares; ConfigError for a pattern that matches nothing, for public constants
    that may be trained, and for a folder that is taken, cannot be written or has too little room; InputError
    for samples that do not fit.
    """
    folder = Path(out)
    check_free(folder, replace)
    sources = find(Path(path)).sources
    reading = Reading(sources, dataclasses.replace(policy, **wishes), samples, sizes)
    model = reading.survey()
    check_disclosed(model, review)
    dealing = Dealing.fresh()
    needed = _bytes_of(model, dealing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_over(folder)
        check_space(folder, needed)
        _write(folder, model, dealing, reading, progress)
    except OSError as error:
        raise ConfigError(
            f"cannot write the shares to {folder}: {error.strerror or error}",
            f"choose a folder you may write to, on a disk with {needed:,} bytes free",
        ) from error
    return model


def _write(
    folder: Path, model: SharedModel, dealing: Dealing, reading: Reading, progress: ShareProgress | None
) -> None:
    bounds = _bounds(model)
    words = WordsWriter(folder, model.tensors, model.digest, dealing)
    packing = Packing()
    try:
        for index, (name, weight) in enumerate(reading.weights(model)):
            if progress is not None:
                progress(index, len(model.arrays), name)
            words.begin(name)
            for block, largest in packing.packed(weight, model.formats[name], dealing.keys, index):
                _check(name, largest, bounds[name])
                words.append(block)
            weight.release()
        settle(folder, words, _key_files(model, dealing, words.finish()), model.files())
    finally:
        packing.close()
        words.discard()
    if progress is not None:
        progress(len(model.arrays), len(model.arrays), "")


def _key_files(model: SharedModel, dealing: Dealing, tags: Mapping[str, bytes]) -> dict[str, bytes]:
    """The key files of the three parties: path in the folder -> content."""
    return {keys_name(party): dealing.keys_file(party, model.digest, tags) for party in range(PARTIES)}


def _bytes_of(model: SharedModel, dealing: Dealing) -> int:
    """The bytes of all files, as many as those that will be written."""
    keys = _key_files(model, dealing, dict.fromkeys(model.tensors, bytes(TAG_BYTES)))
    small = sum(len(content) for content in (*keys.values(), *model.files().values()))
    return size_of(model.tensors, model.digest) + small


def _bounds(model: SharedModel) -> dict[str, float]:
    """For each array, a magnitude that all its numbers must stay below."""
    found = {n: LARGEST_WEIGHT if a.dtype.kind == "f" else LARGEST_WHOLE for n, a in model.arrays.items()}
    for graph, names in model.stored.items():
        for table in looked_up(model.graphs[graph].graph):
            if found.get(names.get(table, "")) == LARGEST_WEIGHT:
                found[names[table]] = LARGEST_LOOKED_UP
    return found


def _check(name: str, largest: float, below: float) -> None:
    if not math.isfinite(largest):
        raise ModelError(
            f"weight '{name}' holds NaN or infinity",
            "the model was damaged in training or export: look there",
        )
    if largest >= below:
        raise ModelError(
            f"weight '{name}' holds a value of magnitude {largest:g}; it must stay below {below:g}",
            "rescale it, or make it public with --public if it is a constant of the architecture",
        )
