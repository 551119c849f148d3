"""How a party reads its shares of the weights: words from the file, the rest from its keys."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.sharing import held
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.shares import Shares


def load_weights(
    model_dir: str | Path, party: int, model: SharedModel | None = None
) -> dict[str, dict[str, Weights]]:
    """The shares of the weights that `party` holds, by graph and name; 16 bytes of memory a weight.

    Graphs that share an array share one object. Raises PlanError when one of the party's files is missing or
    damaged, or belongs to another party, model, sharing or version.
    """
    model = SharedModel.read(Path(model_dir)) if model is None else model
    return read_weights(open_shares(model_dir, party, model), model)


def open_shares(model_dir: str | Path, party: int, model: SharedModel) -> Shares:
    """The party's files, without a word read. Raises PlanError as `load_weights` does."""
    return Shares(Path(model_dir), party, model)


def read_weights(shares: Shares, model: SharedModel) -> dict[str, dict[str, Weights]]:
    """Read all words, draw the components that have keys, and close the files. PlanError when the words of an
    array do not match its tag."""
    found = {}
    for name, (shape, format) in shares.tensors.items():
        rest, index = partial(shares.words, name), shares.indices[name]
        first, second = held(shares.party, shares.keys, rest, shape, format.bits, index)
        second += first  # in place: `Weights` stores the sum of its two components
        found[name] = Weights(shares.party, first, second, format)
    shares.close()
    return {
        graph: {weight: found[name] for weight, name in names.items()}
        for graph, names in model.stored.items()
    }
