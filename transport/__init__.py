"""How bytes travel between the three parties: whole, once, in step, and from the sender they name."""

from __future__ import annotations

from onnxpuma.transport.sparing import spare

spare("onnxpuma.transport")
