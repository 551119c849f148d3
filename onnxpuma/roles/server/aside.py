"""Requests for no computation: for a canary's keys, to release kept values, for the model's public part."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from onnxpuma.errors import InputError
from onnxpuma.roles.server.receipt import Signer
from onnxpuma.roles.server.reception import Reception
from onnxpuma.roles.server.retained import Retained
from onnxpuma.transport.request import Request

_log = logging.getLogger("onnxpuma.roles")


class Aside:
    """Answers such requests. menus: the public files of each model. signer: None where nobody signs."""

    def __init__(
        self,
        reception: Reception,
        retained: Retained,
        menus: Mapping[str, Sequence[bytes]],
        signer: Signer | None,
    ) -> None:
        self._reception, self._retained, self._menus, self._signer = reception, retained, menus, signer

    def answer(self, request: Request) -> Sequence[bytes]:
        """The buffers of the answer. InputError for a request that is due none."""
        if request.body.HasField("opened"):
            return [self._testimony(request)]
        if self._reception.let_go(request):
            return []
        return self._menus[self._reception.model_of(request)]

    def _testimony(self, request: Request) -> bytes:
        """What this server hands over of a canary's session."""
        what = f"{request.client} asks for the keys of request {request.body.opened.request.hex()[:8]}"
        try:
            if self._signer is None:
                raise InputError("this server signs no receipts", "it keeps nothing for audits")
            testimony = self._retained.hand_over(request, self._signer.key)
        except InputError as error:
            _log.warning("%s, and is refused: %s", what, error.message)
            raise
        _log.warning("%s, and proves that it was a canary: they go to the model's owner, sealed", what)
        return testimony
