"""How a party reads its shares of the weights: words from the file, the rest from its keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from onnxpuma.mpc.forms import Replicated
from onnxpuma.mpc.forms.streamed import Streamed
from onnxpuma.mpc.forms.weights import Weights
from onnxpuma.mpc.protocols.dpf import BITS
from onnxpuma.mpc.sharing import held
from onnxpuma.plan.weights.residence import Residence
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.shares import Shares
from onnxpuma.roles.shared.streaming import stored

WeightT = TypeVar("WeightT", bound=Replicated)


def load_weights(
    model_dir: str | Path, party: int, model: SharedModel | None = None
) -> dict[str, dict[str, Weights]]:
    """The shares of the weights that `party` holds, by graph and name; 16 bytes of memory a weight.

    Graphs that share an array share one object. Raises PlanError when one of the party's files is missing or
    damaged, or belongs to another party, model, sharing or version.
    """
    model = SharedModel.read(Path(model_dir)) if model is None else model
    shares = open_shares(model_dir, party, model)
    try:
        return _by_graph(model, {name: _words(shares, name) for name in shares.tensors})
    finally:
        shares.close()


def open_shares(model_dir: str | Path, party: int, model: SharedModel) -> Shares:
    """The party's files, without a word read. Raises PlanError as `load_weights` does."""
    return Shares(Path(model_dir), party, model)


def read_weights(shares: Shares, model: SharedModel, place: Residence) -> dict[str, dict[str, Replicated]]:
    """The weights by graph and name, each where `place` says: those that stay are read and made from keys
    now, and a run reads the others as long as `shares` are open. Tables that stay as words get those that
    look-ups read beside them, which the first request would make else. PlanError when words that are read now
    do not match their tag."""
    streamed, packed, tables = set(place.streamed), set(place.packed), model.tables
    found: dict[str, Replicated] = {}
    for name, (_, format) in shares.tensors.items():
        if name in streamed or name in packed:
            found[name] = Streamed(shares.party, stored(shares, name, name in packed), format)
        else:
            found[name] = words = _words(shares, name)
            if name in tables:
                words.narrowed(BITS)
    return _by_graph(model, found)


def _words(shares: Shares, name: str) -> Weights:
    shape, format = shares.tensors[name]
    rest, index = partial(shares.words, name), shares.indices[name]
    components = held(shares.party, shares.keys, rest, shape, format.bits, index)
    return Weights.of(Replicated(shares.party, *components, format))


def _by_graph(model: SharedModel, found: Mapping[str, WeightT]) -> dict[str, dict[str, WeightT]]:
    return {
        graph: {weight: found[name] for weight, name in names.items()}
        for graph, names in model.stored.items()
    }
