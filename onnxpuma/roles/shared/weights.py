"""How a party reads its shares of the weights: words from its file, the rest from the keys in its head."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.sharing import held
from onnxpuma.roles.shared.file import ShareReader
from onnxpuma.roles.shared.model import SharedModel


def load_weights(
    model_dir: str | Path, party: int, model: SharedModel | None = None
) -> dict[str, dict[str, Weights]]:
    """The shares of the weights that `party` holds, by graph and name; 16 bytes of memory a weight.

    Graphs that share an array share one object. Raises PlanError when the party's file is missing or damaged,
    or belongs to another party, model or version.
    """
    model = SharedModel.read(Path(model_dir)) if model is None else model
    return read_weights(open_shares(model_dir, party, model), party, model)


def open_shares(model_dir: str | Path, party: int, model: SharedModel) -> ShareReader:
    """The party's file, its head checked. Raises PlanError as `load_weights` does."""
    return ShareReader(Path(model_dir), party, model.digest, model.tensors)


def read_weights(shares: ShareReader, party: int, model: SharedModel) -> dict[str, dict[str, Weights]]:
    """Read all words, and draw the components that have keys. PlanError when the words do not match their
    checksum."""
    found = {}
    for index, (name, (shape, format)) in enumerate(model.tensors.items()):
        first, second = held(party, shares.keys, partial(shares.words, name), shape, format.bits, index)
        second += first  # in place: `Weights` stores the sum of its two components
        found[name] = Weights(party, first, second, format)
    shares.finish()
    return {
        graph: {weight: found[name] for weight, name in names.items()}
        for graph, names in model.stored.items()
    }
