"""The graphs that a server serves, with its shares of their weights, within the memory that it may take."""

from __future__ import annotations

import logging

from onnxpuma.interpreter import Interpreter
from onnxpuma.mpc import ring
from onnxpuma.mpc.cost import Network
from onnxpuma.mpc.sharing import KEYED, components_of
from onnxpuma.plan.weights.residence import Residence
from onnxpuma.roles.request.plans import Plans
from onnxpuma.roles.server.machine import FOR_PAGES, free_bytes
from onnxpuma.roles.server.reception import Served
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.shares import Shares
from onnxpuma.roles.shared.weights import read_weights

_MOST_READERS = 8

_log = logging.getLogger("onnxpuma.roles")


def load_graphs(
    model: SharedModel, shares: Shares, place: Residence, network: Network
) -> dict[bytes, Served]:
    """By digest. place: where each array stays; those that do not stay are read in every run, as long as
    `shares` are open.

    Raises PlanError when words that are read now are damaged.
    """
    _log.info("party %d: %s", shares.party, described(place, shares.party))
    weights = read_weights(shares, model, place)
    shares.limit_pages(place.streamed_bytes, int(FOR_PAGES * free_bytes()))
    readers = max(1, min(_MOST_READERS, ring.threads() // 2))
    return {
        bytes.fromhex(blueprint.digest): Served(
            Plans(blueprint, network), Interpreter(weights[name], place.window, readers)
        )
        for name, blueprint in model.graphs.items()
    }


def described(place: Residence, party: int) -> str:
    """Where the weights of a server stay, in a line."""
    text = f"the weights take {_gigabytes(place.memory)} of memory"
    if place.packed:
        text += f", of which {_gigabytes(place.packed_bytes)} packed"
    if place.streamed:
        made = sum(component in KEYED for component in components_of(party))
        each = [f"{_gigabytes(made * place.streamed_bytes)} from keys"]
        if made < len(components_of(party)):
            each.insert(0, f"{_gigabytes(place.streamed_bytes)} from the disk")
        arrays = len(place.streamed) + len(place.packed) + len(place.words)
        text += (
            f", of which {_gigabytes(place.window)} for blocks that are read ahead; {len(place.streamed)} of"
            f" {arrays} arrays do not fit, and a run that takes them all needs {' and '.join(each)}"
        )
    return text


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
