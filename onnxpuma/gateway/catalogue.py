"""The models of a gateway by name; several trios of servers may have the same one, and share its requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from onnxpuma.errors import ConfigError, OnnxpumaError
from onnxpuma.gateway.refusal import unknown_model
from onnxpuma.gateway.trio import Trio


class Catalogue:
    """The trios by the name of their model, in the order given."""

    def __init__(self, trios: Iterable[Trio]) -> None:
        self._trios: dict[str, list[Trio]] = {}
        for trio in trios:
            self._trios.setdefault(trio.name, []).append(trio)
        self._chosen: dict[Trio, int] = {}  # the number of the request that it was last chosen for
        self._requests = 0
        self._created = int(time.time())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._trios)

    def trio(self, name: str) -> Trio:
        """The trio for a request, which stays with it: of those with this model the one that has the least to
        do, and among several such the one chosen longest ago, since a request counts only once it waits.

        Raises Refused, and ConfigError where two trios have different models of this name.
        """
        if name not in self._trios:
            raise unknown_model(name, self._trios)
        self._check_same(name)
        found = min(self._trios[name], key=lambda trio: (trio.load, self._chosen.get(trio, 0)))
        self._requests += 1
        self._chosen[found] = self._requests
        return found

    def entry(self, name: str) -> dict[str, Any]:
        """The model as `GET /v1/models/{name}` tells it. Raises Refused."""
        trio = self.trio(name)
        own = {
            "task": trio.task,
            "endpoints": trio.endpoints,
            "model_digest": trio.digest,
            "clusters": [{"servers": each.servers} for each in self._trios[name]],
        }
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "onnxpuma",
            "onnxpuma": own,
        }

    async def greet(self) -> dict[str, OnnxpumaError]:
        """Connect to all trios. Those that cannot be reached are asked again by each request: here are the
        errors, by the name of the model. Raises ConfigError where two trios have different models of one
        name."""
        trios = [trio for trios in self._trios.values() for trio in trios]
        found = await asyncio.gather(*(trio.greet() for trio in trios), return_exceptions=True)
        errors: dict[str, OnnxpumaError] = {}
        for trio, error in zip(trios, found, strict=True):
            if isinstance(error, OnnxpumaError):
                errors[trio.name] = error
            elif error is not None:
                raise error
        for name in self._trios:
            self._check_same(name)
        return errors

    def close(self) -> None:
        """Disconnect from all servers, and stop those on this machine."""
        for trios in self._trios.values():
            for trio in trios:
                trio.close()

    def _check_same(self, name: str) -> None:
        known = {tuple(trio.digests.values()) for trio in self._trios[name] if trio.digests}
        if len(known) > 1:
            raise ConfigError(
                f"two clusters have different models under the name {name}",
                "name their folders differently: a model is called by the folder of its tokenizer",
            )
