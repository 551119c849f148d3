"""The public part of a shared model: one graph, or several that belong together, as encoder and decoders do.

On disk a model of one graph is its blueprint (skeleton.onnx, policy.json) and the parties' files beside it.
A model of several has a folder for each graph's blueprint, and model.json, which lists them and says which
array of the parties' files each weight is: what two graphs have in common is there once.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from onnxpuma import __version__
from onnxpuma.errors import InputError, OnnxpumaError, PlanError
from onnxpuma.graph.folder import ONLY_GRAPH
from onnxpuma.graph.model import Initializer
from onnxpuma.plan.blueprint import POLICY, SKELETON, Blueprint

INDEX = "model.json"

_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_COPY_AGAIN = "copy the folder again from the model's owner"


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

    # ---- on disk --------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the public files; those of another layout, of an earlier call, are removed."""
        if self.single:
            self.blueprint.save(folder)
            (folder / INDEX).unlink(missing_ok=True)
            return
        for name, graph in self.graphs.items():
            graph.save(folder / name)
        graphs = {
            name: {"digest": graph.digest, "weights": self.stored[name]}
            for name, graph in self.graphs.items()
        }
        index = {"version": __version__, "digest": self.digest, "graphs": graphs}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
        for name in (SKELETON, POLICY):
            (folder / name).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> SharedModel:
        """Read what `save` wrote. PlanError when it is incomplete, damaged, or of another version."""
        if not (folder / INDEX).is_file():
            return cls.of(Blueprint.read(folder))
        try:
            index = json.loads((folder / INDEX).read_text())
            version, graphs = index["version"], _listed(index)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"{folder / INDEX} is damaged: {error}", _COPY_AGAIN) from error
        if version != __version__:
            raise PlanError(
                f"{folder} was shared with onnxpuma {version}, this is {__version__}",
                "install the same version everywhere, or share the model again",
            )
        read = {name: Blueprint.read(folder / name) for name in graphs}
        for name, blueprint in read.items():
            if blueprint.digest != graphs[name]["digest"] or set(blueprint.weights) != set(
                graphs[name]["weights"]
            ):
                raise PlanError(f"the graph '{name}' in {folder} belongs to another model", _COPY_AGAIN)
        made = cls(read, {name: dict(entry["weights"]) for name, entry in graphs.items()})
        if made.digest != index.get("digest"):
            raise PlanError(f"{folder / INDEX} does not match its digest", _COPY_AGAIN)
        return made

    # ---- on the wire ----------------------------------------------------------------------------------

    def menu(self) -> list[bytes]:
        """The public files, as a client is sent them: skeleton.onnx and policy.json; of several graphs
        model.json, and then these two of each."""
        with tempfile.TemporaryDirectory(prefix="onnxpuma-") as folder:
            self.save(Path(folder))
            return [(Path(folder) / name).read_bytes() for name in _files(self.graphs, self.single)]

    @classmethod
    def from_menu(cls, files: Sequence[bytes]) -> SharedModel:
        """Read what `menu` made. PlanError when it is damaged or of another version."""
        hint = "install the same version of onnxpuma everywhere"
        single = len(files) == 2
        try:
            graphs = {} if single else _listed(json.loads(files[0]))
        except (IndexError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError("the servers sent no model", hint) from error
        names = _files(graphs, single)
        if len(names) != len(files):
            raise PlanError("the servers sent a part of a model", hint)
        with tempfile.TemporaryDirectory(prefix="onnxpuma-") as folder:
            for name, content in zip(names, files, strict=True):
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            try:
                return cls.read(Path(folder))
            except OnnxpumaError:
                raise
            except Exception as error:  # it comes from another machine, and may be anything
                raise PlanError(f"the servers sent a damaged model ({type(error).__name__})", hint) from error


def is_shared(folder: Path) -> bool:
    """True for a folder that `SharedModel.save` wrote."""
    return (folder / INDEX).is_file() or (folder / SKELETON).is_file()


def _files(graphs: Mapping[str, Any], single: bool) -> list[str]:
    """The public files, in the order of a menu."""
    if single:
        return [SKELETON, POLICY]
    return [INDEX, *(f"{name}/{file}" for name in graphs for file in (SKELETON, POLICY))]


def _listed(index: Mapping[str, Any]) -> dict[str, Any]:
    """The graphs of an index. ValueError for a name that is no name of a folder: it may come from afar."""
    graphs = dict(index["graphs"])
    for name, entry in graphs.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name of a graph")
        texts = [entry["digest"], *dict(entry["weights"]).values()]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the entry of '{name}' is none")
    if not graphs:
        raise ValueError("no graph is listed")
    return graphs
