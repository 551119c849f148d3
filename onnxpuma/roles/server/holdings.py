"""The models that a server holds: their folders, its shares of each, and how the memory is divided."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import ConfigError
from onnxpuma.mpc.cost import Network
from onnxpuma.roles.server.identity import Part
from onnxpuma.roles.server.loading import load_graphs
from onnxpuma.roles.server.machine import neighbours, spare_bytes
from onnxpuma.roles.server.reception import Served
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.roles.shared.shares import Shares, strange_files
from onnxpuma.roles.shared.weights import open_shares
from onnxpuma.transport import wire_pb2

NAME = re.compile(r"\w[\w./:@+-]{0,99}", re.ASCII)

_log = logging.getLogger("onnxpuma.roles")


@dataclass(frozen=True)
class Holding:
    """One model at one server."""

    model: SharedModel
    shares: Shares
    graphs: Mapping[bytes, Served]  # by digest, since a request names a graph by its digest

    @property
    def part(self) -> Part:
        """What the three servers compare of it."""
        return Part(self.model.digest, self.shares.dealing, self.shares.contents, self.shares.seals)


def check_names(folders: Mapping[str, Path]) -> None:
    """ConfigError unless each model has a name, or there is only one."""
    if not folders:
        raise ConfigError("there is no model to serve", "name the folder of a shared model")
    for name in folders:
        if not NAME.fullmatch(name) and (name or len(folders) > 1):
            raise ConfigError(
                f"'{name}' is no name for a model",
                "write letters, digits, and ./:@+- within: --model NAME=DIR",
            )


@contextmanager
def opened(
    folders: Mapping[str, Path], party: int, config: ClusterConfig, memory: int | None, network: Network
) -> Iterator[dict[str, Holding]]:
    """The models in these folders, by name, with the weights loaded. `memory` bytes are for the weights of
    all, divided in proportion to what each needs; None: what the machine can spare.

    Raises PlanError for an unusable folder, ConfigError for too little memory.
    """
    models = {name: SharedModel.read(folders[name]) for name in sorted(folders)}
    warn_of_strange_files(folders, party, config)
    whole = memory or spare_bytes(neighbours(config, party))
    needs = {name: model.residence(None).memory for name, model in models.items()}
    total = max(1, sum(needs.values()))
    with ExitStack() as stack:
        found = {}
        for name, model in models.items():
            own = whole if len(models) == 1 or total <= whole else whole * needs[name] // total
            place = model.residence(own, firm=memory is not None)
            shares = stack.enter_context(closing(open_shares(folders[name], party, model)))
            found[name] = Holding(model, shares, load_graphs(model, shares, place, network))
        yield found


def warn_of_strange_files(folders: Mapping[str, Path], party: int, config: ClusterConfig) -> None:
    """On one machine the parties use one folder, and nothing is protected from its owner."""
    if len({place.host for place in config.parties}) == 1:
        return
    for folder in folders.values():
        if names := strange_files(folder, party):
            _log.warning(
                "party %d must not have %s: with its own files they tell the weights; remove them from %s",
                party,
                " and ".join(names),
                folder,
            )


def told_models(holdings: Mapping[str, Holding]) -> list[wire_pb2.ServedModel]:
    """What a status says of the models."""
    return [
        wire_pb2.ServedModel(
            name=name,
            digest=bytes.fromhex(held.model.digest),
            graphs=[] if held.model.single else list(held.model.graphs),
        )
        for name, held in holdings.items()
    ]
