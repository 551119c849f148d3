"""The client of servers on this machine: if one of them has ended, its errors say how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnxpuma.config import ClusterConfig
from onnxpuma.errors import TransportError
from onnxpuma.roles.client.client import Client, Outcome
from onnxpuma.roles.shared.model import SharedModel
from onnxpuma.transport.curve import KeyPair


class LocalClient(Client):
    """explained: adds to an error how the process of a server ended, and its last words."""

    def __init__(
        self,
        config: ClusterConfig,
        keys: KeyPair,
        model: SharedModel,
        public_inputs: Sequence[str],
        explained: Callable[[TransportError], TransportError],
    ) -> None:
        super().__init__(config, keys, model, public_inputs=public_inputs)
        self._explained = explained

    def run(self, *arguments: Any, **options: Any) -> Outcome:
        try:
            return super().run(*arguments, **options)
        except TransportError as error:
            raise self._explained(error) from error
