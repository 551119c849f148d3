"""The public part of a shared model: one graph, or several that belong together, as encoder and decoders do.

On disk a model of one graph is its blueprint (skeleton.onnx, policy.json) and the parties' files beside it.
A model of several has a folder for each graph's blueprint, and model.json, which lists them and says which
array of the parties' files each weight is: what two graphs have in common is there once.
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

from onnxpuma import __version__
from onnxpuma.errors import InputError, PlanError
from onnxpuma.graph.folder import ONLY_GRAPH
from onnxpuma.graph.model import Initializer
from onnxpuma.plan.blueprint import SKELETON, Blueprint
from onnxpuma.plan.draft import write_files
from onnxpuma.plan.policy import written

INDEX = "model.json"

GRAPH_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_COPY_AGAIN = "copy the folder again from the model's owner"
_SENT = "what the servers sent"


@dataclass(frozen=True)
class SharedModel:
    """Graphs by name, in the order in which they were shared.

    stored: for each graph, weight -> name of the array in the parties' files that holds it. That two graphs
    read one array is public; the arrays of one graph are never told to be equal.
    """

    graphs: dict[str, Blueprint]
    stored: dict[str, dict[str, str]] = field(repr=False)

    @classmethod
    def of(cls, blueprint: Blueprint) -> SharedModel:
        """The model that has this graph alone."""
        return cls({ONLY_GRAPH: blueprint}, {ONLY_GRAPH: {name: name for name in blueprint.weights}})

    @property
    def single(self) -> bool:
        """True for a model of one graph, which has neither index nor folders."""
        return list(self.graphs) == [ONLY_GRAPH]

    @property
    def blueprint(self) -> Blueprint:
        """The only graph. Raises InputError where there are several."""
        return self.graph(None)

    def graph(self, name: str | None) -> Blueprint:
        """The graph of this name; None: the only one. Raises InputError naming those that there are."""
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
        """What servers compare: over all graphs, and which arrays they have in common; hex."""
        if self.single:
            return self.blueprint.digest
        content = [[name, graph.digest, self.stored[name]] for name, graph in self.graphs.items()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def idle(self) -> list[str]:
        """The closed outputs that no input of any graph goes on from."""
        taken = {o for graph in self.graphs.values() for sources in graph.resumed.values() for o in sources}
        return [o for graph in self.graphs.values() for o in graph.closed if o not in taken]

    @cached_property
    def arrays(self) -> dict[str, Initializer]:
        """What the parties' files hold: name -> dtype and shape, in their order, each array once.

        Raises PlanError when graphs disagree about an array.
        """
        found: dict[str, Initializer] = {}
        for graph, names in self.stored.items():
            for weight in self.graphs[graph].weights:
                seen = self.graphs[graph].graph.initializers[weight]
                held = found.setdefault(names[weight], seen)
                if (held.dtype, held.shape) != (seen.dtype, seen.shape):
                    raise PlanError(f"two weights of different kinds are '{names[weight]}'", _COPY_AGAIN)
        return found

    @cached_property
    def fractions(self) -> dict[str, int]:
        """The fraction bits of each array. Raises PlanError when graphs disagree about one."""
        found: dict[str, int] = {}
        for graph, names in self.stored.items():
            blueprint = self.graphs[graph]
            for weight in blueprint.weights:
                fraction = blueprint.fraction(weight)
                if found.setdefault(names[weight], fraction) != fraction:
                    raise PlanError(f"two weights of different scales are '{names[weight]}'", _COPY_AGAIN)
        return found

    # ---- on disk --------------------------------------------------------------------------------------

    def files(self) -> dict[str, bytes]:
        """The public files, in the order of a menu: path in the folder -> content."""
        if self.single:
            return self.blueprint.files()
        of_graphs = {
            f"{name}/{file}": content
            for name, graph in self.graphs.items()
            for file, content in graph.files().items()
        }
        return {INDEX: self._index(), **of_graphs}

    def save(self, folder: Path) -> None:
        """Write the public files, whole, into a folder that holds those of no other model."""
        write_files(folder, self.files())

    def _index(self) -> bytes:
        """What is in model.json."""
        graphs = {
            name: {"digest": graph.digest, "weights": self.stored[name]}
            for name, graph in self.graphs.items()
        }
        index = {"version": __version__, "digest": self.digest, "graphs": graphs}
        return written(index)

    @classmethod
    def read(cls, folder: Path) -> SharedModel:
        """Read what `save` wrote. PlanError when it is incomplete, damaged, or of another version."""
        if not (folder / INDEX).is_file():
            return cls.of(Blueprint.read(folder))
        try:
            content = (folder / INDEX).read_bytes()
        except OSError as error:
            raise PlanError(
                f"cannot read {folder / INDEX}: {error.strerror or error}", _COPY_AGAIN
            ) from error
        index = _read_index(content, str(folder))
        read = {name: Blueprint.read(folder / name) for name in index["graphs"]}
        return cls._joined(index, read, str(folder))

    @classmethod
    def _joined(cls, index: Mapping[str, Any], read: dict[str, Blueprint], where: str) -> SharedModel:
        """The model of these graphs, if they are those of the index."""
        graphs = index["graphs"]
        for name, blueprint in read.items():
            if blueprint.digest != graphs[name]["digest"] or set(blueprint.weights) != set(
                graphs[name]["weights"]
            ):
                raise PlanError(f"the graph '{name}' in {where} belongs to another model", _COPY_AGAIN)
        made = cls(read, {name: dict(entry["weights"]) for name, entry in graphs.items()})
        if index["content"] != made._index():
            raise PlanError(f"{INDEX} of {where} does not match its digest", _COPY_AGAIN)
        return made

    # ---- on the wire ----------------------------------------------------------------------------------

    def menu(self) -> list[bytes]:
        """The public files, as a client is sent them: skeleton.onnx and policy.json; of several graphs
        model.json, and then these two of each."""
        return list(self.files().values())

    @classmethod
    def from_menu(cls, files: Sequence[bytes]) -> SharedModel:
        """Read what `menu` made. PlanError when it is damaged or of another version."""
        if len(files) == 2:
            return cls.of(Blueprint.parse(files[0], files[1], _SENT))
        index = _read_index(files[0] if files else b"", _SENT)
        if len(files) != 1 + 2 * len(index["graphs"]):
            raise PlanError(
                "the servers sent a part of a model", "install the same version of onnxpuma everywhere"
            )
        pairs = zip(files[1::2], files[2::2], strict=True)
        read = {
            name: Blueprint.parse(skeleton, policy, f"{_SENT}, graph '{name}'")
            for name, (skeleton, policy) in zip(index["graphs"], pairs, strict=True)
        }
        return cls._joined(index, read, _SENT)


def is_shared(folder: Path) -> bool:
    """True for a folder that holds the public files of a model."""
    return (folder / INDEX).is_file() or (folder / SKELETON).is_file()


def _read_index(content: bytes, where: str) -> dict[str, Any]:
    """The entries of a model.json, and its content. PlanError when it is damaged or of another version."""
    try:
        index = json.loads(content)
        version = index["version"]
        graphs = _listed(index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        damaged = "the servers sent no model" if where == _SENT else f"{INDEX} of {where} is damaged"
        raise PlanError(f"{damaged}: {error}", _COPY_AGAIN) from error
    if version != __version__:
        raise PlanError(
            f"{where} was shared with onnxpuma {version}, this is {__version__}",
            "install the same version everywhere, or share the model again",
        )
    return {**index, "graphs": graphs, "content": content}


def _listed(index: Mapping[str, Any]) -> dict[str, Any]:
    """The graphs of an index. ValueError for a name that is no name of a folder: it may come from afar."""
    graphs = dict(index["graphs"])
    for name, entry in graphs.items():
        if not GRAPH_NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name of a graph")
        texts = [entry["digest"], *dict(entry["weights"]).values()]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the entry of '{name}' is none")
    if not graphs:
        raise ValueError("no graph is listed")
    return graphs
