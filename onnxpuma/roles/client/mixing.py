"""Canaries among a client's requests: at random places, alike in all that a server sees of them.

A canary rides beside an ordinary request: it has the same shapes and the same public inputs, and asks for
the same outputs. Where requests follow one another it runs right before or after one; in a gateway, whose
requests come as people send them, after a pause drawn from the pauses between them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import (
    CanaryError,
    ConfigError,
    InputError,
    OnnxpumaError,
    ReceiptError,
    TransportError,
    UnreliableError,
)
from onnxpuma.roles.client.asking import Wanted
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.outcome import Outcome
from onnxpuma.roles.client.spread import Spread
from onnxpuma.roles.request.canary_file import Canaries, Canary
from onnxpuma.roles.request.commitment import check_auditable, fresh_opening
from onnxpuma.roles.request.feed import check_outputs
from onnxpuma.roles.request.kept import Kept
from onnxpuma.roles.shared.model import SharedModel

_log = logging.getLogger("onnxpuma.canaries")


@dataclass(frozen=True)
class Ridden:
    """What servers see of an ordinary request that a canary beside it must have as well."""

    shapes: Mapping[str, tuple[int, ...]]
    public: Mapping[str, Any]  # the arrays of inputs that servers see
    opened: tuple[str, ...]
    keep: Sequence[str]
    graph: str | None
    public_inputs: Sequence[str]  # that its client shows the servers
    covered: bool  # False: it takes kept values, which no canary has, or runs another graph of the model

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return f"{shapes}, outputs {', '.join(self.opened)}"


class Prober(Protocol):
    """A client, as it is needed here."""

    def probe(self, canary: Canary, ridden: Ridden, sent: Sent) -> Outcome:
        """Run a canary as if it were a request like `ridden`. Raises as `Client.run`."""

    def complain(self, sent: Sent, folder: Path, error: str) -> tuple[Path, list[str]]:
        """Have the servers hand over its session, and store it (client/complaint.py)."""

    def another(self) -> Prober:
        """A further connection of this client."""

    def close(self) -> None:
        """Disconnect."""


class Mixing:
    """Which requests get a canary beside them, and what happens after a wrong answer.

    rate: canaries for each request, up to 1; with 0 no canary is sent, and servers cannot tell that. audited:
    of those with right answers this share is stored for an audit as well, since a cheat below the tolerance
    shows in the servers' messages alone. folder: for the files. spread: in pauses of their own, by another
    thread, instead of in a row with the requests; a wrong answer is then logged, and a request without a
    fitting canary is no error.

    Raises ConfigError for a rate beyond its range.
    """

    def __init__(
        self,
        canaries: Canaries,
        rate: float = 0.05,
        *,
        audited: float = 0.0,
        folder: Path | str = ".",
        spread: bool = False,
        draw: random.Random | None = None,
    ) -> None:
        for name, share in (("rate", rate), ("audited", audited)):
            if not 0 <= share <= 1:
                raise ConfigError(f"the {name} of canaries is {share:g}", "give a number from 0 to 1")
        self.canaries, self.rate, self.audited = canaries, rate, audited
        self.folder, self._draw = Path(folder), draw or random.SystemRandom()
        self.sent = self.wrong = 0  # canaries so far: those that began
        self.files: list[Path] = []  # stored for audits
        self._spread = Spread(self._draw) if spread else None
        self._apart: Prober | None = None  # sends canaries in pauses of their own
        self._without: set[str] = set()  # forms that no canary has, told already

    def check_model(self, model: SharedModel) -> None:
        """InputError unless these canaries are for a graph of this model, and an audit of it is possible."""
        graphs = {blueprint.digest: blueprint for blueprint in model.graphs.values()}
        if self.canaries.digest not in graphs:
            raise InputError(
                f"the canaries are for model {self.canaries.digest[:8]}, the servers have"
                f" {', '.join(digest[:8] for digest in graphs)}",
                "ask the model's owner for canaries of this one: `onnxpuma canary make`",
            )
        check_auditable(graphs[self.canaries.digest])

    def fitting(self, ridden: Ridden) -> list[Canary]:
        """The canaries that could ride beside this request."""
        if not ridden.covered:
            return []
        return [canary for canary in self.canaries.every if _fits(canary, ridden)]

    def ridden(
        self,
        model: SharedModel,
        fed: Mapping[str, np.ndarray | Kept],
        wanted: Wanted,
        config: ClusterConfig,
    ) -> Ridden:
        """What servers see of a request. InputError where its servers or its graph allow no canaries."""
        self.check_model(model)
        blueprint = model.graph(wanted.graph)
        if config.signers is None:
            raise InputError("these servers sign no receipts", "use no canaries: nothing would prove a cheat")
        opened, kept = check_outputs(blueprint, wanted.output_names, wanted.keep)
        shapes = {name: tuple(value.shape) for name, value in fed.items()}
        continues = any(isinstance(value, Kept) for value in fed.values())
        alone = not continues and blueprint.digest == self.canaries.digest
        public = {name: fed[name] for name in blueprint.public_inputs}
        return Ridden(shapes, public, opened, kept, wanted.graph, wanted.public_inputs, alone)

    def beside(self, client: Prober, ridden: Ridden, ask: Callable[[], Outcome]) -> Outcome:
        """The answer to an ordinary request, with a canary before or after it now and then.

        client: sends the canaries. ask: sends the request. Raises InputError where canaries
        have other shapes or outputs, CanaryError when an answer to a canary is wrong, and what `ask` raises.
        """
        fitting = self.fitting(ridden)
        if not fitting and ridden.covered:
            self._tell_without(ridden)
        if self._spread is not None:
            wanted = bool(fitting) and self._draw.random() < self.rate
            self._spread.note((lambda: self._probe_apart(client, ridden)) if wanted else None)
            return ask()
        before, after = (bool(fitting) and self._draw.random() < self.rate / 2 for _ in range(2))
        if before:
            self._probe_beside(client, ridden)
        outcome = ask()
        if after:
            try:
                self._probe_beside(client, ridden)
            except CanaryError as error:
                error.outcome = outcome
                raise
        return outcome

    def _probe_beside(self, client: Prober, ridden: Ridden) -> None:
        """Send a canary. That it could not begin is nothing against an ordinary request beside it."""
        try:
            self.probe(client, ridden)
        except TransportError as error:
            _log.warning("a canary was not answered: %s", error.message)

    def probe(self, client: Prober, ridden: Ridden) -> None:
        """Send a canary like this request. CanaryError when its answer is wrong, or its run fails once it has
        begun; the file for the audit is then stored. TransportError when it does not begin."""
        canary = self._draw.choice(self.fitting(ridden))
        sent = Sent(fresh_opening())
        self.sent += 1
        try:
            outcome = client.probe(canary, ridden, sent)
            wrong = self.canaries.difference(canary, outcome.outputs)
        except (UnreliableError, ReceiptError) as error:
            wrong = error.message
        except TransportError as error:
            if not sent.id:  # it has not left
                self.sent -= 1
                raise
            path, refusals = client.complain(sent, self.folder, error.message)
            if all(refusals):  # nothing tells a cheat from a fault
                path.unlink()
                self.sent -= 1
                raise
            raise self._found(f"the run of a canary failed: {error.message}", path, refusals) from error
        if wrong is None and self._draw.random() >= self.audited:
            return
        try:
            path, refusals = client.complain(sent, self.folder, "")
        except OnnxpumaError as error:
            if wrong is None:
                raise
            self.wrong += 1
            raise CanaryError(
                f"the answer to a canary is wrong: {wrong}; nothing could be stored for an audit:"
                f" {error.message}",
                error.hint,
            ) from error
        if wrong is not None:
            raise self._found(f"the answer to a canary is wrong: {wrong}", path, refusals)
        self.files.append(path)
        _log.info("the answer to a canary is right; %s", _next(path, refusals))

    def _found(self, message: str, path: Path, refusals: Sequence[str]) -> CanaryError:
        self.wrong += 1
        self.files.append(path)
        return CanaryError(message, _next(path, refusals))

    def close(self) -> None:
        """Send no more canaries of its own accord."""
        if self._spread is not None:
            self._spread.close()
        if self._apart is not None:
            self._apart.close()

    def _probe_apart(self, client: Prober, ridden: Ridden) -> None:
        """Send a canary over a connection of its own, and tell the log of what is wrong."""
        if self._apart is None:
            self._apart = client.another()
        try:
            self.probe(self._apart, ridden)
        except CanaryError as error:
            _log.error("%s; %s", error.message, error.hint)
        except OnnxpumaError as error:
            _log.warning("a canary was not answered: %s", error.message)

    def _tell_without(self, ridden: Ridden) -> None:
        hint = (
            "it must have the same shapes, outputs, and values of inputs that servers see:"
            " `onnxpuma canary make --dim NAME=SIZE --output NAME`, or --inputs with such inputs"
        )
        message = f"no canary fits a request of {ridden}"
        if self._spread is None:
            raise InputError(message, hint)
        if message not in self._without:
            self._without.add(message)
            _log.warning("%s; %s", message, hint)


def _fits(canary: Canary, ridden: Ridden) -> bool:
    return (
        canary.shapes == dict(ridden.shapes)
        and set(ridden.opened) <= set(canary.outputs)
        and all(np.array_equal(canary.feed[name], value) for name, value in ridden.public.items())
    )


def _next(path: Path, refusals: Sequence[str]) -> str:
    """What to do with the file, and who handed over nothing for it."""
    silent = [f"server {number} hands over nothing: {why}" for number, why in enumerate(refusals) if why]
    return "; ".join(
        [f"give {path} to the model's owner: onnxpuma audit {path} --shares DIR --key OWNER.secret", *silent]
    )
