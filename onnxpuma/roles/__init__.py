"""Who sits where: the model's owner, the three computing servers, the clients, all on one machine."""

from __future__ import annotations

from onnxpuma.transport.sparing import spare

spare("onnxpuma.roles")
