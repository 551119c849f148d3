"""The public part of a shared model: one graph, or several that belong together, like encoder and decoders.

On disk a model of one graph is its blueprint (skeleton.onnx, policy.json) with the parties' files beside it.
A model of several graphs has one folder a blueprint, and model.json, which lists the graphs and maps each
weight to an array of the parties' files: an array that two graphs share is stored once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from onnxpuma.errors import InputError, PlanError
from onnxpuma.graph.folder import ONLY_GRAPH
from onnxpuma.graph.model import Initializer
from onnxpuma.mpc.format import Format
from onnxpuma.plan.blueprint import SKELETON, Blueprint
from onnxpuma.plan.draft import write_files
from onnxpuma.plan.policy_file import COPY_AGAIN, written
from onnxpuma.plan.weights.residence import Residence, looked_up, residence, streamable
from onnxpuma.versions import FILES

INDEX = "model.json"

GRAPH_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_SENT = "what the servers sent"


@dataclass(frozen=True)
class SharedModel:
    """The graphs of a model, and where their weights are stored."""

    graphs: dict[str, Blueprint]  # by name, in the order in which the owner shared them
    # Graph -> weight -> name of the array in the parties' files. This mapping is public: it reveals that two
    # graphs read one array, never that two arrays of one graph are equal.
    stored: dict[str, dict[str, str]] = field(repr=False)

    @classmethod
    def of(cls, blueprint: Blueprint) -> SharedModel:
        """The model of this one graph."""
        return cls({ONLY_GRAPH: blueprint}, {ONLY_GRAPH: {name: name for name in blueprint.weights}})

    @property
    def single(self) -> bool:
        """True for a model of one graph, which has neither index nor folders."""
        return list(self.graphs) == [ONLY_GRAPH]

    @property
    def blueprint(self) -> Blueprint:
        """The only graph. InputError if there are several."""
        return self.graph(None)

    def graph(self, name: str | None) -> Blueprint:
        """The graph of this name; None: the only one. Otherwise InputError, which lists the graphs."""
        if name is None and len(self.graphs) == 1:
            return next(iter(self.graphs.values()))
        if name is None or name not in self.graphs:
            raise InputError(
                "the model has several graphs" if name is None else f"the model has no graph '{name}'",
                f"name one of {', '.join(self.graphs)}",
            )
        return self.graphs[name]

    @cached_property
    def digest(self) -> str:
        """The digest that servers compare, in hex: over all graphs and where their weights are stored."""
        if self.single:
            return self.blueprint.digest
        content = [[name, graph.digest, self.stored[name]] for name, graph in self.graphs.items()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def idle(self) -> list[str]:
        """The closed outputs that no input of any graph accepts."""
        taken = {o for graph in self.graphs.values() for sources in graph.resumed.values() for o in sources}
        return [o for graph in self.graphs.values() for o in graph.closed if o not in taken]

    @cached_property
    def arrays(self) -> dict[str, Initializer]:
        """The arrays of the parties' files, in their order: name -> dtype and shape.

        Raises PlanError when graphs disagree about an array.
        """
        found: dict[str, Initializer] = {}
        for graph, names in self.stored.items():
            for weight in self.graphs[graph].weights:
                seen = self.graphs[graph].graph.initializers[weight]
                held = found.setdefault(names[weight], seen)
                if (held.dtype, held.shape) != (seen.dtype, seen.shape):
                    raise PlanError(
                        f"'{names[weight]}' stands for weights of different types or shapes", COPY_AGAIN
                    )
        return found

    @cached_property
    def formats(self) -> dict[str, Format]:
        """The format of each array's words. Raises PlanError when graphs disagree about one."""
        found: dict[str, Format] = {}
        for graph, names in self.stored.items():
            blueprint = self.graphs[graph]
            for weight in blueprint.weights:
                format = blueprint.format(weight)
                if found.setdefault(names[weight], format) != format:
                    raise PlanError(f"'{names[weight]}' stands for weights of different scales", COPY_AGAIN)
        return found

    @property
    def tensors(self) -> dict[str, tuple[tuple[int, ...], Format]]:
        """The shape and the format of each array."""
        return {name: (array.shape, self.formats[name]) for name, array in self.arrays.items()}

    def residence(self, memory: int | None, firm: bool = True) -> Residence:
        """Where each array stays at a server whose weights may take so many bytes of memory; None: as many as
        they need. ConfigError when a `firm` budget is too little."""
        streams = set(self.arrays)
        for graph, names in self.stored.items():
            blueprint = self.graphs[graph]
            able = streamable(blueprint.graph, blueprint.weights)
            streams -= {names[weight] for weight in blueprint.weights if weight not in able}
        return residence(self.tensors, streams, memory, self.tables, firm)

    @property
    def tables(self) -> set[str]:
        """The stored arrays in which ids are looked up."""
        return {
            names[weight]
            for graph, names in self.stored.items()
            for weight in looked_up(self.graphs[graph].graph)
            if weight in names
        }

    # ---- on disk --------------------------------------------------------------------------------------

    def files(self) -> dict[str, bytes]:
        """The public files, in the order of `menu`: path in the folder -> content."""
        if self.single:
            return self.blueprint.files()
        of_graphs = {
            f"{name}/{file}": content
            for name, graph in self.graphs.items()
            for file, content in graph.files().items()
        }
        return {INDEX: self._index(), **of_graphs}

    def save(self, folder: Path) -> None:
        """Write the public files, each whole, into a folder that holds no other model."""
        write_files(folder, self.files())

    def _index(self) -> bytes:
        """The content of model.json."""
        graphs = {
            name: {"digest": graph.digest, "weights": self.stored[name]}
            for name, graph in self.graphs.items()
        }
        index = {"version": FILES, "digest": self.digest, "graphs": graphs}
        return written(index)

    @classmethod
    def read(cls, folder: Path) -> SharedModel:
        """Read what `save` wrote. PlanError when it is incomplete, damaged or of another version."""
        if not (folder / INDEX).is_file():
            return cls.of(Blueprint.read(folder))
        try:
            content = (folder / INDEX).read_bytes()
        except OSError as error:
            raise PlanError(f"cannot read {folder / INDEX}: {error.strerror or error}", COPY_AGAIN) from error
        index = _read_index(content, str(folder))
        read = {name: Blueprint.read(folder / name) for name in index["graphs"]}
        return cls._joined(index, read, str(folder))

    @classmethod
    def _joined(cls, index: Mapping[str, Any], read: dict[str, Blueprint], where: str) -> SharedModel:
        """The model of these graphs, once they are seen to be those of the index."""
        graphs = index["graphs"]
        for name, blueprint in read.items():
            if blueprint.digest != graphs[name]["digest"] or set(blueprint.weights) != set(
                graphs[name]["weights"]
            ):
                raise PlanError(f"the graph '{name}' in {where} belongs to another model", COPY_AGAIN)
        made = cls(read, {name: dict(entry["weights"]) for name, entry in graphs.items()})
        if index["content"] != made._index():
            raise PlanError(f"{INDEX} of {where} does not match its digest", COPY_AGAIN)
        return made

    # ---- on the wire ----------------------------------------------------------------------------------

    def menu(self) -> list[bytes]:
        """The public files as a server sends them to a client: skeleton.onnx and policy.json; for several
        graphs model.json first, then these two of each."""
        return list(self.files().values())

    @classmethod
    def from_menu(cls, files: Sequence[bytes]) -> SharedModel:
        """Read what `menu` returned. PlanError when it is damaged or of another version."""
        if len(files) == 2:
            return cls.of(Blueprint.parse(files[0], files[1], _SENT))
        index = _read_index(files[0] if files else b"", _SENT)
        if len(files) != 1 + 2 * len(index["graphs"]):
            raise PlanError(
                "the servers sent an incomplete model", "install the same version of onnxpuma everywhere"
            )
        pairs = zip(files[1::2], files[2::2], strict=True)
        read = {
            name: Blueprint.parse(skeleton, policy, f"{_SENT}, graph '{name}'")
            for name, (skeleton, policy) in zip(index["graphs"], pairs, strict=True)
        }
        return cls._joined(index, read, _SENT)


def is_shared(folder: Path) -> bool:
    """Whether the folder holds the public files of a model."""
    return (folder / INDEX).is_file() or (folder / SKELETON).is_file()


def _read_index(content: bytes, where: str) -> dict[str, Any]:
    """The entries of a model.json, and its bytes. PlanError when it is damaged or of another version."""
    try:
        index = json.loads(content)
        version = index["version"]
        graphs = _listed(index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        damaged = "the servers sent no model" if where == _SENT else f"{INDEX} of {where} is damaged"
        raise PlanError(f"{damaged}: {error}", COPY_AGAIN) from error
    if version != FILES:
        raise PlanError(
            f"{where} was shared with onnxpuma {version}, this reads the files of {FILES}",
            "install the same version as its owner, or share the model again",
        )
    return {**index, "graphs": graphs, "content": content}


def _listed(index: Mapping[str, Any]) -> dict[str, Any]:
    """The graphs of an index, perhaps from another machine. ValueError for a name that is no folder's."""
    graphs = dict(index["graphs"])
    for name, entry in graphs.items():
        if not GRAPH_NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name of a graph")
        texts = [entry["digest"], *dict(entry["weights"]).values()]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the entry of '{name}' is malformed")
    if not graphs:
        raise ValueError("no graph is listed")
    return graphs
