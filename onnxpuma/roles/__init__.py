"""Who sits where: the model's owner, the three computing servers, the clients, all on one machine."""

from __future__ import annotations

import logging

# A library writes nothing unless its user asks for it.
logging.getLogger("onnxpuma.roles").addHandler(logging.NullHandler())
